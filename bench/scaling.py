"""Time against the number of voxels, from 64³ to 512³: each op should be a line of slope 1."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bench.case import Call, Size, organ
from bench.machine import BusyElsewhere, use_threads
from bench.timing import Timing, steady
from marginseg import GaussianFieldNoise, dice_threshold, gaussian_filter

EDGES = (64, 96, 128, 192, 256, 384, 512)
OPS = ("sample", "marginals", "gaussian_filter", "dice_threshold")


@dataclass(frozen=True)
class Point:
    """Time of an op at a size."""

    op: str
    edge: int
    voxels: int
    threads: int
    timing: Timing
    disturbed: bool


def measure(threads: int, seconds: float) -> Iterator[Point]:
    use_threads(threads)
    for edge in EDGES:
        size = Size(edge)
        for op in OPS:
            # One input at a time: at 512³ a float32 volume has half a gigabyte.
            call = call_of(op, size)
            with BusyElsewhere() as busy:
                timing = steady(call, seconds)
            yield Point(op, edge, size.voxels, threads, timing, busy.disturbs(threads))
            del call
            gc.collect()


def call_of(op: str, size: Size) -> Call:
    noise = GaussianFieldNoise(std=0.03)
    if op == "sample":
        label = organ(size)
        return lambda: noise.sample(label)
    if op == "marginals":
        label = organ(size)
        # In voxels: as a fraction of the extent, the kernel would grow with the edge.
        fixed = GaussianFieldNoise(std=2.0, length_scale=20.0, units="voxel")
        return lambda: fixed.marginals(label)
    if op == "dice_threshold":
        marginals = noise.marginals(organ(size))
        return lambda: dice_threshold(marginals, spatial_dims=3)
    volume = torch.rand(size.shape, generator=torch.Generator().manual_seed(0))
    return lambda: gaussian_filter(volume, 2.0)
