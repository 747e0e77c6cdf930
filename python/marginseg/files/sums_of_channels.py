"""Softmax or sigmoid: told from what the channels of a map sum to.

What undoes a crop, as MONAI's Invertd does, writes 0 into every channel outside it, and where it
resamples too, the crop's rim is between 0 and what it was. So a softmax need not sum to 1 in all
voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marginseg.files.predicted_case import PredictedCase

#: A softmax in few bits sums to 1 no closer than this.
NEAR_ONE: Final = 0.02

#: At so many of the voxels that are not 0 a softmax sums to 1, its rim left aside.
MOST: Final = 0.95

#: Where fewer than these do, it is none.
SOME: Final = 0.25

#: Resampling spreads a crop's faces over so many voxels at most.
WIDEST_RIM: Final = 3


def exclusive_by_sums(cases: Sequence[PredictedCase]) -> tuple[bool, str]:
    """Return whether classes exclude each other, and why, as the first map that is not 0 tells it.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is damaged; or the sums do not tell it.

    """
    for case in cases:
        totals = case.probabilities().sum(0, dtype=np.float32)
        present = totals != 0
        if present.any():
            return _told(case, totals, present)
    raise ValueError(
        f"{cases[0].source}: expected a map that is not 0 everywhere, to tell a softmax from a "
        "sigmoid, got none: say --channels softmax or --channels sigmoid"
    )


def _told(
    case: PredictedCase, totals: NDArray[np.float32], present: NDArray[np.bool_]
) -> tuple[bool, str]:
    near = np.abs(totals - 1) <= NEAR_ONE
    share = np.count_nonzero(near) / np.count_nonzero(present)
    below = bool((totals <= 1 + NEAR_ONE).all())
    whole = bool(present.all())
    if below and (share >= MOST if whole else _is_crop(near, present)):
        where = "" if whole else " where they are not 0"
        return True, f"softmax, since the channels of {case.name} sum to 1{where}"
    if share >= MOST or (share >= SOME and below):
        raise ValueError(
            f"{case.source}: expected channels that sum to 1, as a softmax's do, or to anything, "
            f"got a sum of 1 at {share:.1%} of the voxels that are not 0: say --channels softmax "
            "or --channels sigmoid"
        )
    return False, f"sigmoid, since the channels of {case.name} do not sum to 1"


def _is_crop(near: NDArray[np.bool_], present: NDArray[np.bool_]) -> bool:
    """Return whether what is present is a box, and near 1 but for its rim.

    Sigmoids of classes that exclude each other may sum to 1 in them and to 0 outside, but fill no
    box.
    """
    axes = range(present.ndim)
    found = [
        np.flatnonzero(present.any(tuple(other for other in axes if other != axis)))
        for axis in axes
    ]
    begin, end = [int(places[0]) for places in found], [int(places[-1]) + 1 for places in found]
    box = tuple(map(slice, begin, end))
    if np.count_nonzero(present) < MOST * present[box].size:
        return False
    for rim in range(WIDEST_RIM + 1):
        inner = tuple(slice(b + rim, max(e - rim, 0)) for b, e in zip(begin, end, strict=True))
        size = near[inner].size
        if size >= present[box].size / 4 and np.count_nonzero(near[inner]) >= MOST * size:
            return True
    return False
