"""What makes a Gaussian covariance along one axis of normals: a factor of few columns, or a kernel.

Where the length scale is long, few columns suffice. Where it is a voxel or two, nearly as many
would be needed as there are voxels; there white noise is filtered by a short kernel instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.float64]

#: With fewer multiply-adds the factor is there at once.
LITTLE_WORK: Final = 1 << 20

#: With more it takes longer than anybody wants to wait.
TOO_MUCH_WORK: Final = 1 << 31


def takes_kernels(shape: Sequence[int], length_scale: Sequence[float]) -> bool:
    """Whether a field of this shape is filtered noise, because of any of its axes.

    The spectrum exp(-ω²b²/2) falls below rounding at ω = 5.5 / b, so that about 1.75 N / b
    columns are needed, and N times their square multiply-adds to find them.

    Args:
        shape: N along each axis.
        length_scale: b along each axis, in voxels.

    Example:
        >>> takes_kernels((512, 512), (76.8, 76.8)), takes_kernels((512, 512), (76.8, 1.0))
        (False, True)

    """
    for size, scale in zip(shape, length_scale, strict=True):
        rank = min(float(size), 1.75 * size / scale + 8)
        work = size * rank**2
        if work > TOO_MUCH_WORK or (work > LITTLE_WORK and rank > 0.75 * size):
            return True
    return False


@lru_cache(maxsize=64)
def axis_factor(size: int, length_scale: float, tolerance: float) -> Matrix:
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
    columns: list[Matrix] = []
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


@lru_cache(maxsize=64)
def root_kernel(length_scale: float, tolerance: float) -> Matrix:
    """Return h(0), ..., h(R), which convolved with itself gives exp(-k² / 2b²), in float64.

    The covariance of white noise filtered by the symmetric h. It is cut where what is left of it,
    in norm, is half the tolerance, and scaled to norm 1: the variance is exact.

    Args:
        length_scale: b, in voxels, > 0.
        tolerance: Of the covariance.

    Example:
        >>> kernel = root_kernel(0.5, 1e-6)
        >>> h = np.concatenate([kernel[:0:-1], kernel])
        >>> np.convolve(h, h)[len(h) - 1 : len(h) + 2].round(4)
        array([1.    , 0.1353, 0.0003])

    """
    kernel = _uncut(length_scale, tolerance)
    # left[r]: the norm of what lies beyond r on both sides.
    left = np.sqrt(2.0 * np.cumsum(kernel[:0:-1] ** 2)[::-1])
    kernel = kernel[: int(np.argmax(left <= max(0.5 * tolerance, 1e-14))) + 1].copy()
    kernel /= math.sqrt(kernel[0] ** 2 + 2.0 * (kernel[1:] ** 2).sum())
    kernel.setflags(write=False)
    return kernel


def _uncut(length_scale: float, tolerance: float) -> Matrix:
    r"""Return h(0), h(1), ... as far as it is above rounding.

    On the line this is a Gaussian with b / √2, and so it is on the integers where
    :math:`\exp(-b^2 \pi^2 / 2)`, what aliasing changes of the spectrum, is below the tolerance. For
    shorter b it is the kernel whose spectrum is the root of that of the covariance.
    """
    reach = np.arange(32.0 + math.ceil(8 * length_scale))
    if math.exp(-0.5 * (math.pi * length_scale) ** 2) <= 0.1 * tolerance:
        return np.exp(-((reach / length_scale) ** 2))
    # Near ω = π the root is nearly bent, and h falls as exp(-k / 2b²).
    half = 64 + math.ceil(80 * length_scale**2)
    frequencies = np.fft.rfftfreq(2 * half) * 2 * np.pi
    covariance = np.exp(-0.5 * (reach[1:, None] / length_scale) ** 2)
    spectrum = 1.0 + 2.0 * (covariance * np.cos(reach[1:, None] * frequencies)).sum(axis=0)
    if length_scale > 1:
        # Poisson's sum, all of whose terms are positive: the other cancels where it is small.
        periods = length_scale * (frequencies + 2 * np.pi * np.arange(-3.0, 4.0)[:, None])
        spectrum = length_scale * math.sqrt(2 * np.pi) * np.exp(-0.5 * periods**2).sum(axis=0)
    return np.fft.irfft(np.sqrt(spectrum), 2 * half)[:half]
