"""The factor that one axis contributes to the covariance of a Gaussian field."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marginseg.ops.library import library

#: The share of the variance that the low-rank factors may miss at any voxel, by dtype.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


@lru_cache(maxsize=64)
def axis_factor(size: int, length_scale: float, tolerance: float) -> np.ndarray[Any, Any]:
    """Return F of shape (size, rank) with F Fᵀ ≈ exp(-(i - j)² / 2b²), in float64.

    A pivoted Cholesky factorisation stops where no voxel misses any variance above rounding; its
    singular vectors, ordered, are cut at the smallest rank that misses at most ``tolerance`` of
    the variance at each voxel. The rows are then scaled to norm 1: the variance is exact.

    Example:
        >>> factor = axis_factor(64, 13.6, 1e-6)
        >>> factor.shape
        (64, 11)
        >>> bool(np.allclose((factor**2).sum(axis=1), 1.0, atol=1e-15))
        True

    """
    positions = np.arange(size, dtype=np.float64)
    residual = np.ones(size)
    columns: list[np.ndarray[Any, Any]] = []
    while len(columns) < size:
        pivot = int(residual.argmax())
        if residual[pivot] <= 1e-15:
            break
        column = np.exp(-0.5 * ((positions - positions[pivot]) / length_scale) ** 2)
        for previous in columns:
            column -= previous[pivot] * previous
        column /= math.sqrt(residual[pivot])
        columns.append(column)
        residual = np.maximum(residual - column**2, 0.0)
        residual[pivot] = 0.0
    u, s, _ = np.linalg.svd(np.stack(columns, axis=1), full_matrices=False)
    factor = u * s
    missing = 1.0 - np.cumsum(factor**2, axis=1)
    enough = np.nonzero(missing.max(axis=0) <= max(tolerance, 1e-14))[0]
    rank = int(enough[0]) + 1 if len(enough) else factor.shape[1]
    factor = np.ascontiguousarray(factor[:, :rank])
    factor /= np.linalg.norm(factor, axis=1, keepdims=True)
    return factor


def made_axis_factor(
    size: int, length_scale: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return :func:`axis_factor` as a tensor of float32 or float64, to the dtype's tolerance.

    A compiler that follows the call does not follow how the factor is made: it depends on numbers.
    It takes an op instead, and compiles again for another size or length scale.

    Example:
        >>> made_axis_factor(64, 13.6, torch.float32, torch.device("cpu")).shape
        torch.Size([64, 11])

    """
    if torch.compiler.is_compiling():
        made: Tensor = torch.ops.marginseg.axis_factor(size, length_scale, dtype, device)
        return made
    return _made(size, length_scale, dtype, device)


def _made(size: int, length_scale: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    factor = axis_factor(size, length_scale, TOLERANCE[dtype])
    return torch.from_numpy(factor).to(device, dtype)


library.define(
    "axis_factor(int size, float length_scale, ScalarType dtype, Device device) -> Tensor"
)


def _check(size: int, length_scale: float, dtype: torch.dtype) -> None:
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    if not 0 < length_scale < math.inf:
        raise ValueError(f"length_scale: expected a finite number > 0, got {length_scale}")
    if dtype not in TOLERANCE:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype}")


def _forward(size: int, length_scale: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    _check(size, length_scale, dtype)
    # A copy also where the dtype is NumPy's: nobody may write to what is remembered.
    return _made(size, length_scale, dtype, device).clone()


def _fake(size: int, length_scale: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    _check(size, length_scale, dtype)
    rank = axis_factor(size, length_scale, TOLERANCE[dtype]).shape[1]
    return torch.empty((size, rank), dtype=dtype, device=device)


library.impl("axis_factor", _forward, "CompositeExplicitAutograd")
torch.library.register_fake("marginseg::axis_factor", _fake, lib=library)
