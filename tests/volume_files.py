"""NIfTI files for the tests of the commands, and t* by sorting."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

AFFINE = np.array([[-1.5, 0.1, 0, 5], [0.1, 1.5, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def load(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


def sorted_scan(m: np.ndarray) -> tuple[float, np.ndarray]:
    """The maximum of 2 sum_{m >= t} m / (sum m + #) over every cut t, by sorting."""
    values = np.sort(m.ravel().astype(np.float64))[::-1]
    scores = 2 * np.cumsum(values) / (values.sum() + np.arange(1, values.size + 1))
    return scores.max(), m >= scores.max() / 2
