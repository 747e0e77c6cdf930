"""``warp`` of an image by a given displacement against SciPy and torch's grid_sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from bench.case import Call, Case, Peer, Size, Work, largest_difference
from marginseg import GaussianFieldNoise, warp


def cases(size: Size) -> Iterator[Case]:
    """Warp a float32 image linearly, 0 outside."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(size.shape, generator=generator)
    noise = GaussianFieldNoise(std=0.03)
    field = noise.displacement((size.edge,) * 3, n=size.batch or None, generator=generator)
    yield Case(
        "warp",
        "linear",
        lambda: warp(image, field, spatial_dims=3),
        (
            Peer(
                "SciPy map_coordinates",
                "order 1, mode grid-constant, float32; adds its grid; one thread",
                lambda: scipy(image, field),
                largest_difference(1e-4),
            ),
            Peer(
                "torch grid_sample",
                "bilinear, zeros; turns the displacement into its grid",
                lambda: grid_sample(image, field),
                largest_difference(1e-3),
            ),
        ),
        Work(20.0 * size.voxels, 14.0 * size.voxels),
    )


def scipy(image: Tensor, field: Tensor) -> Call:
    edge = image.shape[-1]
    images = image.reshape(-1, edge, edge, edge).numpy()
    fields = field.reshape(-1, 3, edge, edge, edge).numpy()
    grid = np.indices((edge,) * 3, dtype=np.float32)

    def call() -> Any:
        return np.stack(
            [
                ndimage.map_coordinates(values, grid + moved, order=1, mode="grid-constant")
                for values, moved in zip(images, fields, strict=True)
            ]
        )

    return call


def grid_sample(image: Tensor, field: Tensor) -> Call:
    edge = image.shape[-1]
    images = image.reshape(-1, 1, edge, edge, edge)
    fields = field.reshape(-1, 3, edge, edge, edge)
    centres = (2.0 * torch.arange(edge) + 1.0) / edge - 1.0
    base = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij"), dim=-1).flip(-1)

    def call() -> Tensor:
        grid = torch.add(base, fields.flip(1).movedim(1, -1), alpha=2.0 / edge)
        return functional.grid_sample(images, grid, "bilinear", "zeros", align_corners=False)

    return call
