"""``folded_share`` from coefficients against NumPy and torch, which need the displacement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.case import Call, Case, DifferenceError, Peer, Size, Work, as_array
from bench.gaussian_field import expand
from marginseg import folded_share
from marginseg.noise import DEFAULT_LENGTH_SCALE
from marginseg.ops.folded_share import folded_share_from_coefficients
from marginseg.ops.gaussian_field import draw_coefficients

STD = 0.06
"""As a fraction of the extent. Of the paper's values the largest: 0.3 % of the voxels fold."""


def cases(size: Size) -> Iterator[Case]:
    """Count the folds of a displacement (of each of a batch) from its coefficients."""
    coefficients, factors = drawn(size)
    rank = max(factor.shape[1] for factor in factors)
    check = same_folds(size)
    yield Case(
        "folded_share",
        f"std {STD:g}, from coefficients",
        lambda: folded_share_from_coefficients(coefficients, factors),
        (
            Peer(
                "torch gradient + linalg.det",
                "marginseg.folded_share of the displacement; with the matrix products that make it",
                lambda: by_torch(coefficients, factors),
                check,
                note="the displacement and its nine derivatives go through memory",
            ),
            Peer(
                "NumPy gradient",
                "np.gradient in float32, the determinant written out; displacement made before",
                lambda: by_numpy(coefficients, factors),
                check,
                note="the nine derivatives go through memory; one thread",
            ),
        ),
        # Nine sums of `rank` products a voxel, and the determinant.
        Work(8.0 * size.cubes, (9.0 * rank + 9.0) * size.voxels),
    )


def drawn(size: Size) -> tuple[Tensor, list[Tensor]]:
    edge = size.edge
    device = torch.get_default_device()
    return draw_coefficients(
        (edge,) * 3,
        (STD * edge,) * 3,
        (DEFAULT_LENGTH_SCALE * edge,) * 3,
        generator=torch.Generator(device).manual_seed(0),
        batch_shape=(size.batch,) if size.batch else (),
        dtype=torch.float32,
        device=device,
    )


def by_torch(coefficients: Tensor, factors: list[Tensor]) -> Call:
    return lambda: folded_share(expand(coefficients, factors))


def by_numpy(coefficients: Tensor, factors: list[Tensor]) -> Call:
    field = expand(coefficients, factors).numpy()

    def call() -> Any:
        # gradient[j][..., i, z, y, x] = ∂X_i/∂ω_j
        gradient = np.gradient(field, axis=(-3, -2, -1))
        (a, b, c), (d, e, f), (g, h, i) = (
            [gradient[j][..., component, :, :, :] + (component == j) for j in range(3)]
            for component in range(3)
        )
        determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
        return (determinant <= 0).mean(axis=(-3, -2, -1))

    return call


def same_folds(size: Size) -> Any:
    """Return a check that as many voxels fold, but for those whose determinant is nearly 0."""
    allowed = 1.0 + 1e-5 * size.edge**3

    def check(ours: Any, peer: Any) -> str:
        difference = np.abs(as_array(ours) - as_array(peer)).max() * size.edge**3
        if not difference <= allowed:
            raise DifferenceError(f"{difference:.0f} voxels differ, more than {allowed:.0f}")
        return f"{difference:.0f} voxels differ, of {as_array(ours).max():.2%}"

    return check
