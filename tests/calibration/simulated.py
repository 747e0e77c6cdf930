"""Maps whose true probabilities are known, and labels that are drawn from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


def drawn(
    seed: int, voxels: int, *, mean: float = -2.0, spread: float = 2.0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return true logits and labels, (1, voxels)."""
    random = np.random.default_rng(seed)
    logits = random.normal(mean, spread, (1, voxels))
    return logits, random.random(logits.shape) < expit(logits)
