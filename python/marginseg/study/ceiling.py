"""Ceilings: what the noise leaves for any network to reach, told without training one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from marginseg.data import Dataset
from marginseg.metrics import dice
from marginseg.noise import GaussianFieldNoise, Units
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.threshold import cut


class Ceiling(NamedTuple):
    """What the best map there is, the marginals m themselves, is worth on one case.

    Attributes:
        sup_dice: sup D_m, the largest Dice that any segmentation can expect: that of {m >= t*}.
        threshold: t* = sup D / 2.
        volume_ratio: |s|/|l| of {m >= t*} against the label.
        dice_at_half: D_m of {m >= ½}.
        volume_ratio_at_half: |s|/|l| of {m >= ½} against the label.
        expected_volume_ratio: E|L|/|l| (Theorem 2): below 1 by what leaves the domain.

    """

    sup_dice: float
    threshold: float
    volume_ratio: float
    dice_at_half: float
    volume_ratio_at_half: float
    expected_volume_ratio: float


class CaseCeiling(NamedTuple):
    """The ceiling of one case at one noise level.

    Attributes:
        structure: What is labelled.
        std: The noise level a.
        name: The case's.
        voxels: Of the label.
        ceiling: What is found.

    """

    structure: str
    std: float
    name: str
    voxels: int
    ceiling: Ceiling


def ceilings_of(label: Tensor, noises: Sequence[GaussianFieldNoise]) -> list[Ceiling]:
    """Return the ceiling of a label under each of several noise models.

    Args:
        label: Shape (*spatial), bool or 0 and 1, with a voxel of the structure.
        noises: The models.

    Example:
        >>> import torch
        >>> label = torch.zeros(32, 32, dtype=torch.uint8); label[4:28, 15:17] = 1  # a thin line
        >>> clean, noisy = ceilings_of(label, [GaussianFieldNoise(a) for a in (0, 0.06)])
        >>> clean.sup_dice, clean.threshold, clean.volume_ratio_at_half
        (1.0, 0.5, 1.0)
        >>> round(noisy.sup_dice, 2), round(noisy.threshold, 2), noisy.dice_at_half
        (0.43, 0.22, 0.0)

    """
    n = label.ndim
    m = torch.stack([noise.marginals(label) for noise in noises])
    best = dice_threshold(m, spatial_dims=n)
    at_half = cut(m, 0.5)
    spatial = [*range(1, n + 1)]
    columns = (
        best.dice,
        best.threshold,
        best.volume,
        dice(at_half, m, spatial_dims=n),
        at_half.sum(dim=spatial),
        m.sum(dim=spatial, dtype=torch.float64),
    )
    voxels = int(label.count_nonzero())
    return [
        Ceiling(sup, threshold, volume / voxels, half, half_volume / voxels, mass / voxels)
        for sup, threshold, volume, half, half_volume, mass in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def ceilings(
    dataset: Dataset,
    std: Sequence[float],
    *,
    units: Units = "extent",
    progress: Callable[[int], None] | None = None,
) -> list[CaseCeiling]:
    """Return the ceilings of all cases of a structure.

    They are the numbers that a study of these cases finds as its sup D: the domain is the patch,
    and each case has its own. The length scale of the noise changes none of them.

    Args:
        dataset: The structure's cases.
        std: The noise levels, each >= 0.
        units: Of ``std``: ``"extent"`` (fractions of the patch's extent, as a study has them),
            ``"mm"`` or ``"voxel"``.
        progress: Called after each case with the number of those that are done.

    Returns:
        An entry for each case and noise level: the levels of the first case, then of the second.

    Raises:
        ValueError: ``std`` or ``units`` is out of its range.

    Example:
        >>> import tempfile
        >>> from marginseg.data import phantom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tubes = phantom("tube", cases=2, patch_shape=(16, 16, 16), cache_dir=folder)
        ...     found = ceilings(tubes, [0, 0.03])
        >>> [(row.name, row.std, row.ceiling.sup_dice == 1) for row in found[:2]]
        [('phantom_000', 0, True), ('phantom_000', 0.03, False)]

    """

    def work(place: int) -> list[CaseCeiling]:
        case = dataset[place]
        # Small volumes: each thread does a case by itself.
        torch.set_num_threads(1)
        # A copy, for torch warns of what it must not write to.
        label = torch.from_numpy(np.array(case.label))
        noises = [GaussianFieldNoise(a, units=units, spacing=case.spacing) for a in std]
        voxels = int(label.count_nonzero())
        return [
            CaseCeiling(dataset.structure, a, case.name, voxels, found)
            for a, found in zip(std, ceilings_of(label, noises), strict=True)
        ]

    rows: list[CaseCeiling] = []
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        for done, found in enumerate(pool.map(work, range(len(dataset))), 1):
            rows += found
            if progress is not None:
                progress(done)
    finally:
        pool.shutdown(cancel_futures=True)
    return rows
