"""Data sets laid out like TotalSegmentator's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from marginseg.data.dataset import CaseProgress, Dataset
from marginseg.data.pairs import Pair, prepare_pairs

#: The scan, in a subject's folder.
IMAGE = "ct.nii.gz"

#: The folder of the masks, in a subject's folder.
MASKS = "segmentations"

#: How a mask's file is called after its structure.
SUFFIX = ".nii.gz"


def totalsegmentator(
    directory: str | os.PathLike[str],
    structure: str,
    *,
    patch_shape: Sequence[int],
    spacing: float | Sequence[float] | None = None,
    max_cases: int | None = None,
    largest_cut: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: CaseProgress | None = None,
) -> Dataset:
    """Return the subjects of a TotalSegmentator folder.

    A subject whose mask is missing or empty is skipped, and named in ``Dataset.skipped``; so is one
    that has not enough of the structure, by ``largest_cut``. Hounsfield units in ``CT_WINDOW``
    become [−1, 1]. Orientation is kept as stored.

    Args:
        directory: Holds ``s0000/ct.nii.gz`` and ``s0000/segmentations/NAME.nii.gz``, and so on.
        structure: A mask's file name without ``.nii.gz``.
        patch_shape: Voxels along each axis, around the structure's centre of mass. Two numbers:
            of a plane across the volume's last axis, the one that holds most of the structure.
        spacing: Millimetres a voxel to resample to; None keeps each subject's own.
        max_cases: The first so many usable subjects, by name.
        largest_cut: Leaves out subjects whose scan ends within the structure, see
            :mod:`marginseg.data`.
        cache_dir: Where prepared cases are kept; None is :func:`default_cache_dir`.
        progress: Called with each case in turn: how many were looked at, are usable, are wanted.

    Raises:
        ValueError: The folder is missing, has no subject, or no subject has such a mask; or an
            argument is out of its range.
        EmptyDatasetError: No case can be used.

    Example:
        >>> import nibabel, numpy as np, tempfile
        >>> mask = np.zeros((9, 9, 9), np.uint8); mask[3:6, 3:6, 3:6] = 1
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     masks = Path(folder, "s0000", "segmentations")
        ...     masks.mkdir(parents=True)
        ...     nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), masks / "aorta.nii.gz")
        ...     scan = nibabel.Nifti1Image(mask * np.int16(450), np.eye(4))
        ...     nibabel.save(scan, masks.with_name("ct.nii.gz"))
        ...     data = totalsegmentator(
        ...         folder, "aorta", patch_shape=(5, 5, 5), cache_dir=f"{folder}/cache"
        ...     )
        ...     data[0].name, float(data[0].image.max()), int(data[0].label.sum())
        ('s0000', 1.0, 27)

    """
    root = Path(directory)
    subjects = _subjects(root)
    pairs = [
        Pair(subject.name, subject / IMAGE, subject / MASKS / f"{structure}{SUFFIX}")
        for subject in subjects
    ]
    if not any(pair.label.is_file() for pair in pairs):
        known = totalsegmentator_structures(root)
        if not known:
            raise ValueError(f"directory: expected masks in {root / '*' / MASKS}, got none")
        raise ValueError(
            f"structure: expected one of {', '.join(known)} in {root}, got {structure!r}"
        )
    return prepare_pairs(
        "totalsegmentator",
        root,
        structure,
        pairs,
        values=None,
        modality="CT",
        patch_shape=patch_shape,
        spacing=spacing,
        max_cases=max_cases,
        largest_cut=largest_cut,
        cache_dir=cache_dir,
        progress=progress,
    )


def totalsegmentator_structures(directory: str | os.PathLike[str]) -> list[str]:
    """Return the names of the masks that any subject has, sorted.

    Args:
        directory: As for :func:`totalsegmentator`.

    Raises:
        ValueError: The folder is missing or has no subject.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     masks = Path(folder, "s0000", "segmentations")
        ...     masks.mkdir(parents=True)
        ...     (masks / "aorta.nii.gz").touch()
        ...     totalsegmentator_structures(folder)
        ['aorta']

    """
    return sorted(
        {
            mask.name.removesuffix(SUFFIX)
            for subject in _subjects(Path(directory))
            for mask in (subject / MASKS).glob(f"*{SUFFIX}")
        }
    )


def is_subject(folder: Path) -> bool:
    """Whether a folder has a scan or masks: one that lacks either is skipped later."""
    return (folder / IMAGE).is_file() or (folder / MASKS).is_dir()


def _subjects(root: Path) -> list[Path]:
    """List the subjects' folders by name."""
    if not root.is_dir():
        raise ValueError(f"directory: expected an existing folder, got {root}")
    subjects = sorted(filter(is_subject, root.iterdir()))
    if not subjects:
        raise ValueError(f"directory: expected subject folders with {IMAGE} in {root}, got none")
    return subjects
