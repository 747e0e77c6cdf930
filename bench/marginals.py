"""``GaussianFieldNoise.marginals`` against the paper's Listing 1."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bench.case import (
    Call,
    Case,
    Peer,
    Size,
    Work,
    box_extents,
    largest_difference,
    organ,
    separable_multiply_adds,
)
from bench.timing import seconds_of
from marginseg import GaussianFieldNoise
from marginseg.noise import TRUNCATE

STDS = (0.02, 0.06)


def cases(size: Size) -> Iterator[Case]:
    """Compute the marginals of a label under weak and strong noise."""
    label = organ(size)
    extents = box_extents(label)
    for std in STDS:
        yield _case(size, label, extents, std)


def _case(size: Size, label: Tensor, extents: tuple[int, int, int], std: float) -> Case:
    noise = GaussianFieldNoise(std=std, spatial_dims=3)
    radius = int(TRUNCATE[torch.float32] * std * size.edge + 0.5)
    multiply_adds = size.cubes * separable_multiply_adds(extents, radius, size.edge)
    return Case(
        "marginals",
        f"std {std:g}",
        lambda: noise.marginals(label),
        (
            Peer(
                "SciPy, Listing 1",
                "mode constant, truncate 4, the faster of float32 and float64; one thread",
                lambda: listing_1(label, std),
                # The sampled kernel is off by 0.055 at a standard deviation of 0.64 voxels.
                largest_difference(0.06),
                power=4.0,
                note="kernel sampled and cut at 4 σ; ours is integrated, cut at 6 σ",
                targets={64: 30.0, 128: 30.0},
            ),
        ),
        Work(5.0 * size.voxels, multiply_adds),
    )


def listing_1(label: Tensor, std: float) -> Call:
    """Return Listing 1 in the faster dtype; the label is converted beforehand."""
    sigma = (*(0,) * (label.ndim - 3), *(std * label.shape[-1],) * 3)

    def filtering(dtype: type[np.floating]) -> Call:
        values = label.numpy().astype(dtype)
        return lambda: ndimage.gaussian_filter(values, sigma, mode="constant", truncate=4.0)

    candidates = [filtering(np.float32), filtering(np.float64)]
    return min(candidates, key=seconds_of)
