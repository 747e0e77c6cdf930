"""Case-wise cross-validation: every case is tested exactly once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def folds(
    number_of_cases: int, k: int, seed: int = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split the cases ``0 … number_of_cases − 1`` into k folds.

    The cases are shuffled by ``seed`` and dealt into k test sets whose sizes differ by at most one;
    what a test set leaves is its training set. The same arguments give the same folds.

    Args:
        number_of_cases: How many there are, >= 2.
        k: How many folds, 2 to ``number_of_cases``.
        seed: Of the shuffle, >= 0.

    Returns:
        k pairs ``(train, test)`` of ascending int64 case numbers.

    Raises:
        ValueError: ``k`` is below 2 or above ``number_of_cases``, or ``seed`` is negative.

    Example:
        >>> [(len(train), len(test)) for train, test in folds(7, 3)]
        [(4, 3), (5, 2), (5, 2)]

    """
    if k < 2:
        raise ValueError(f"k: expected at least 2 folds, got {k}")
    if k > number_of_cases:
        raise ValueError(f"k: expected at most the {number_of_cases} cases, got {k}")
    if seed < 0:
        raise ValueError(f"seed: expected at least 0, got {seed}")
    order = np.random.default_rng(seed).permutation(number_of_cases).astype(np.int64)
    return [
        (np.sort(np.concatenate(parts[:i] + parts[i + 1 :])), np.sort(parts[i]))
        for parts in [np.array_split(order, k)]
        for i in range(k)
    ]
