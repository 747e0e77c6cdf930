"""What a call costs when there is almost nothing to do: 8³ voxels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bench import folded_share
from bench.case import Call, Size, organ
from bench.timing import Timing, per_call
from marginseg import (
    GaussianFieldNoise,
    dice_threshold,
    gaussian_field,
    gaussian_filter,
    optimal_segmentation,
    warp,
)
from marginseg.ops.folded_share import folded_share_from_coefficients

EDGE = 8
TARGET_SECONDS = 15e-6


@dataclass(frozen=True)
class Overhead:
    """Time of one call at 8³."""

    op: str
    timing: Timing
    target_seconds: float
    met: bool


def calls() -> dict[str, Call]:
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand((EDGE,) * 3, generator=generator)
    label = organ(Size(EDGE))
    noise = GaussianFieldNoise(std=0.03)
    field = noise.displacement((EDGE,) * 3, generator=generator)
    coefficients, factors = folded_share.drawn(Size(EDGE))
    return {
        "gaussian_filter": lambda: gaussian_filter(volume, 1.0),
        "warp": lambda: warp(volume, field),
        "dice_threshold": lambda: dice_threshold(volume, spatial_dims=3),
        "gaussian_field": lambda: gaussian_field((EDGE,) * 3, 0.24, 1.7),
        "folded_share": lambda: folded_share_from_coefficients(coefficients, factors),
        "GaussianFieldNoise.sample": lambda: noise.sample(label),
        "GaussianFieldNoise.marginals": lambda: noise.marginals(label),
        "optimal_segmentation": lambda: optimal_segmentation(volume),
    }


def measure() -> Iterator[Overhead]:
    for op, call in calls().items():
        timing = per_call(call)
        yield Overhead(op, timing, TARGET_SECONDS, timing.median < TARGET_SECONDS)
