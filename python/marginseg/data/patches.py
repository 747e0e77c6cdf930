"""Patches of one size around a structure, at one spacing.

A volume of N voxels of size s along an axis is resampled to M = round(N s / t) voxels of size t.
Both grids begin at the same face of the volume, so voxel q of the new grid lies at source index
(q + ½) t / s − ½. A patch is a box of the new grid; only the part of the source under it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Relative difference below which two spacings are one: headers store them in float32.
SAME_SPACING = 1e-3


def as_patch_shape(patch_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes as a tuple.

    Raises:
        ValueError: They are not two or three positive integers.

    Example:
        >>> as_patch_shape([64, 64, 32])
        (64, 64, 32)

    """
    try:
        shape = tuple(int(size) for size in patch_shape)
        whole = all(int(size) == size for size in patch_shape)
    except (TypeError, ValueError, OverflowError):
        shape, whole = (), False
    if len(shape) not in (2, 3) or not whole or min(shape) < 1:
        raise ValueError(f"patch_shape: expected 2 or 3 positive integers, got {patch_shape!r}")
    return shape


def as_spacing(spacing: float | Sequence[float] | None, axes: int) -> tuple[float, ...] | None:
    """Return the millimetres a voxel along each axis; None for None.

    Args:
        spacing: A number for each axis, or one for all.
        axes: How many there are.

    Raises:
        ValueError: They are not so many, or one, positive finite numbers.

    Example:
        >>> as_spacing(1.5, 3)
        (1.5, 1.5, 1.5)

    """
    if spacing is None:
        return None
    try:
        values = np.broadcast_to(np.asarray(spacing, np.float64), axes)
        valid = bool(np.isfinite(values).all() and (values > 0).all())
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f"spacing: expected 1 or {axes} positive millimetres, got {spacing!r}")
    return tuple(values.tolist())


def largest_plane(mask: NDArray[Any]) -> int:
    """Return the index along the last axis of the plane that holds most of a mask.

    Args:
        mask: Of two axes or more; what is not 0 belongs to it.

    Example:
        >>> largest_plane(np.array([[0, 1, 1], [0, 0, 1]]))
        2

    """
    return int(np.count_nonzero(mask, axis=tuple(range(mask.ndim - 1))).argmax())


def centre_of_mass(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """Return the mean index of the true voxels along each axis.

    It comes from one count a plane and axis: no list of voxels is made.

    Args:
        mask: bool array of at least one true voxel.

    Example:
        >>> centre_of_mass(np.array([[0, 1, 1], [0, 0, 0]], bool))
        (0.0, 1.5)

    """
    axes = range(mask.ndim)
    counts = [np.count_nonzero(mask, axis=tuple(set(axes) - {axis})) for axis in axes]
    return tuple(float(np.arange(c.size) @ c / c.sum()) for c in counts)


@dataclass(frozen=True)
class Patch:
    """A box of the resampled grid: where it starts, its size, and what lies under it.

    Attributes:
        source_shape: Voxels of the source volume.
        ratio: New spacing over source spacing, for each axis.
        start: First voxel of the patch in the resampled grid; may be negative.
        shape: Voxels of the patch.

    Example:
        >>> patch = Patch.around((2, 2), (2, 2), source_shape=(4, 6), spacing=(1, 1))
        >>> patch.start, patch.resampled_shape
        ((2, 2), (4, 6))
        >>> patch.image(np.arange(24, dtype=np.float32).reshape(4, 6), outside=0.0)
        array([[14., 15.],
               [20., 21.]], dtype=float32)

    """

    source_shape: tuple[int, ...]
    ratio: tuple[float, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def around(
        cls,
        centre: Sequence[float],
        shape: Sequence[int],
        *,
        source_shape: Sequence[int],
        spacing: Sequence[float],
        target_spacing: Sequence[float] | None = None,
    ) -> Patch:
        """Place a patch so that its middle is as near as can be to a point.

        Args:
            centre: The point, an index of the source volume; fractions are fine.
            shape: Voxels of the patch.
            source_shape: Voxels of the source volume.
            spacing: Millimetres a voxel of the source volume.
            target_spacing: Millimetres a voxel of the patch; None: those of the source.

        """
        target = spacing if target_spacing is None else target_spacing
        ratio = tuple(
            1.0 if abs(t / s - 1) < SAME_SPACING else t / s
            for t, s in zip(target, spacing, strict=True)
        )
        start = tuple(
            floor((c + 0.5) / r - 0.5 - (size - 1) / 2 + 0.5)
            for c, r, size in zip(centre, ratio, shape, strict=True)
        )
        return cls(tuple(source_shape), ratio, start, tuple(shape))

    @property
    def resampled_shape(self) -> tuple[int, ...]:
        """Voxels of the whole volume at the new spacing."""
        return tuple(
            max(1, floor(n / r + 0.5)) for n, r in zip(self.source_shape, self.ratio, strict=True)
        )

    def image(self, volume: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        """Cut the patch from an image by linear interpolation.

        Along an axis that gets coarser by a factor r, a Gaussian of σ = (r − 1)/2 source voxels
        comes first, so that fine detail does not alias.

        Args:
            volume: float32 array of ``source_shape``.
            outside: The value where the patch leaves the volume.

        Returns:
            float32 array of ``shape``.

        """
        return self._sample(volume, outside, smooth=True)

    def label(self, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Cut the patch from a mask by linear interpolation, cut at ½.

        Args:
            mask: bool array of ``source_shape``.

        Returns:
            uint8 array of ``shape``, 0 and 1; 0 where the patch leaves the volume.

        """
        if all(r == 1 for r in self.ratio):
            return self._sample(mask, False, smooth=False).astype(np.uint8)
        # A tie of exactly ½ is inside whichever way the interpolation rounds.
        return (self._sample(mask, 0, smooth=False) >= 0.5 - 1e-6).astype(np.uint8)

    def _sample(self, volume: NDArray[Any], outside: float, *, smooth: bool) -> NDArray[Any]:
        same = all(r == 1 for r in self.ratio)
        out = np.full(self.shape, outside, volume.dtype if same else np.float32)
        first = [max(0, -s) for s in self.start]
        last = [
            min(size, m - s)
            for size, m, s in zip(self.shape, self.resampled_shape, self.start, strict=True)
        ]
        if any(a >= b for a, b in zip(first, last, strict=True)):
            return out
        inside = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        if same:
            region = tuple(
                slice(a + s, b + s) for a, b, s in zip(first, last, self.start, strict=True)
            )
            out[inside] = volume[region]
            return out

        sigma = [max(0.0, (r - 1) / 2) if smooth else 0.0 for r in self.ratio]
        origin = [  # source index of the first voxel that is written
            (a + s + 0.5) * r - 0.5 for a, s, r in zip(first, self.start, self.ratio, strict=True)
        ]
        region = tuple(
            slice(
                max(0, floor(o) - ceil(4 * g) - 1),
                min(n, ceil(o + (b - a - 1) * r) + ceil(4 * g) + 2),
            )
            for o, a, b, r, g, n in zip(
                origin, first, last, self.ratio, sigma, self.source_shape, strict=True
            )
        )
        part = volume[region].astype(np.float32)
        if any(sigma):
            part = ndimage.gaussian_filter(part, sigma, mode="nearest", truncate=4.0)
        out[inside] = ndimage.affine_transform(
            part,
            np.array(self.ratio),
            offset=[o - p.start for o, p in zip(origin, region, strict=True)],
            output_shape=tuple(b - a for a, b in zip(first, last, strict=True)),
            order=1,
            mode="nearest",
        )
        return out
