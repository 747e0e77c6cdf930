"""The distance between the surfaces of two segmentations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: The share of the surface that the distance is larger than none of.
SHARE = 0.95


def surface_distance(first: NDArray[Any], second: NDArray[Any], spacing: Sequence[float]) -> float:
    """Return the 95 % Hausdorff distance: the larger one of both directions.

    A direction's is the distance to the other surface that 95 % of the surface's voxels do not
    exceed. Surfaces are the voxels of a mask that touch a voxel outside it by a face, or the border
    of the grid.

    Args:
        first: A mask, bool, of up to 3 axes.
        second: Another of the same shape.
        spacing: The voxels' size along each axis.

    Returns:
        The distance, in the unit of the spacing: NaN for two empty masks, infinity for one.

    Example:
        >>> plane = np.zeros((5, 5), bool)
        >>> plane[1], other = True, np.roll(np.eye(5, dtype=bool)[1:2].T | plane, 0, 0)
        >>> surface_distance(plane, np.roll(plane, 2, 0), (0.5, 1.0))
        1.0

    """
    if not first.any() or not second.any():
        return math.nan if first.any() == second.any() else math.inf
    box = ndimage.find_objects((first | second).astype(np.uint8))[0]
    first, second = (_surface(np.pad(mask[box], 1)) for mask in (first, second))
    distances = []
    for one, other in ((first, second), (second, first)):
        to_other = ndimage.distance_transform_edt(~other, sampling=spacing)
        distances.append(float(np.quantile(to_other[one], SHARE)))
    return max(distances)


def _surface(mask: NDArray[Any]) -> NDArray[Any]:
    return mask & ~ndimage.binary_erosion(mask)
