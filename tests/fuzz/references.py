"""What the functions should return, slowly, in float64 by NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.ndimage
from scipy.special import ndtr

Array = np.ndarray

SCIPY_MODES = {
    "constant": "grid-constant",
    "nearest": "nearest",
    "reflect": "reflect",
    "mirror": "mirror",
    "wrap": "grid-wrap",
}


def filtered(
    values: Array, sigmas: Sequence[float], mode: str, cval: float, truncate: float, kernel: str
) -> Array:
    for axis, sigma in enumerate(sigmas, start=values.ndim - len(sigmas)):
        if sigma == 0.0:
            continue
        k = np.arange(-int(truncate * sigma + 0.5), int(truncate * sigma + 0.5) + 1.0)
        if kernel == "sampled":
            weights = np.exp(-0.5 * (k / sigma) ** 2)
        else:
            weights = ndtr((k + 0.5) / sigma) - ndtr((k - 0.5) / sigma)
        weights /= weights.sum()
        with np.errstate(invalid="ignore"):
            values = scipy.ndimage.correlate1d(values, weights, axis, mode=mode, cval=cval)
    return values


def warped(image: Array, moved: Array, order: int, mode: str, cval: float) -> tuple[Array, Array]:
    """Return one image warped by one displacement, and where that is defined.

    Very far movements along an axis that repeats itself end at no voxel that SciPy could name.
    """
    grid = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"))
    lost = np.isnan(moved).any(axis=0)
    far = (~(np.abs(moved) < 1e7) & ~np.isnan(moved)).any(axis=0)
    defined = np.asarray(~far) if mode not in ("constant", "nearest") else ~far | ~lost
    if order == 0 and mode in ("reflect", "mirror"):
        # SciPy takes the half-way points of what is mirrored to the mirror's other side.
        with np.errstate(invalid="ignore"):  # what is infinite has no remainder
            defined &= (moved % 1.0 != 0.5).all(axis=0)
    # Farther than all voxels is as far as the farthest; a half is kept, which has two corners.
    places = grid + np.where(np.isnan(moved), 0.0, np.clip(moved, -1e6, 1e6))
    with np.errstate(invalid="ignore"):
        result = scipy.ndimage.map_coordinates(
            image, places, order=order, mode=SCIPY_MODES[mode], cval=cval
        )
    return np.where(lost, np.nan, result), defined | lost


def threshold(values: Array, beta: float = 1.0) -> tuple[float, float]:
    """Return t* of a map, and its Dice, or F_beta."""
    ordered = np.sort(values.ravel())[::-1]
    mass = ordered.sum()
    if ordered.size == 0 or mass == 0.0:
        return np.nan, np.nan
    volumes = np.arange(1.0, ordered.size + 1.0)
    largest = float((np.cumsum(ordered) / (beta**2 * mass + volumes)).max())
    return largest, (1.0 + beta**2) * largest


def determinants(moved: Array) -> tuple[Array, Array]:
    """Return det(I + grad X) of one displacement, and what no product in it exceeds."""
    n = moved.shape[0]
    jacobian = np.zeros((*moved.shape[1:], n, n))
    for i in range(n):
        for j in range(n):
            along = moved[i]
            slope = np.gradient(along, axis=j) if along.shape[j] > 1 else np.zeros(along.shape)
            jacobian[..., i, j] = slope + (i == j)
    largest = np.maximum(np.abs(jacobian).sum(-1), 1.0).prod(-1)
    return np.asarray(np.linalg.det(jacobian)), np.asarray(largest)


def expanded(coefficients: Array, factors: Sequence[Array]) -> Array:
    """Return (F_1 ⊗ … ⊗ F_n) ξ for the last n axes."""
    for axis, factor in enumerate(factors, start=-len(factors)):
        coefficients = np.moveaxis(np.moveaxis(coefficients, axis, -1) @ factor.T, -1, axis)
    return coefficients


def looked_up(label: Array, moved: Array) -> Array:
    """Return the label's nearest voxels, 0 outside."""
    inside = np.ones(label.shape, dtype=bool)
    index = []
    for axis, size in enumerate(label.shape):
        at = np.arange(size).reshape([-1 if k == axis else 1 for k in range(label.ndim)])
        nearest = np.floor(at + moved[axis].astype(np.float64) + 0.5)
        valid = (nearest >= 0) & (nearest < size)
        inside &= valid
        index.append(np.where(valid, nearest, 0).astype(np.int64))
    return np.where(inside, label[tuple(index)], 0)
