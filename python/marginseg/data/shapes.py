"""Drawing solids on a voxel grid by their signed distance, negative inside.

Lengths are in units of the canvas's geometric mean extent, so that a shape has the same share of
the volume at every resolution. The origin is the centre of the canvas. A canvas of two axes shows
the solids where they cross the plane through the middle of a volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

#: One number a voxel: a signed distance, or an image.
Field = NDArray[np.float32]

#: Three numbers.
Vector = Sequence[float] | NDArray[np.float64] | NDArray[np.float32]


def rotation(angles: Vector) -> NDArray[np.float64]:
    """Return the rotation by three angles about the three axes, the first axis first.

    Args:
        angles: In radians.

    Returns:
        float64 matrix of shape (3, 3).

    Example:
        >>> (rotation((0, 0, np.pi / 2)) @ [1, 0, 0]).round(6).tolist()
        [0.0, 1.0, 0.0]

    """
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


class Canvas:
    """A volume, or its middle plane, that solids are painted on in Hounsfield units.

    What is painted last is on top.

    Args:
        shape: Voxels along three axes; or along two, for the plane across the middle of the third.
        background: Hounsfield units of the empty canvas.

    Attributes:
        shape: Voxels along each axis.
        voxel: Edge of a voxel.
        extent: (3,) float64, the edges of the volume; around a plane it is 1 deep.
        grid: (3, *shape) float32, the coordinates of voxel centres.
        image: float32 array of ``shape``, in Hounsfield units.

    Example:
        >>> canvas = Canvas((16, 16, 16), background=-95.0)
        >>> ball = canvas.with_volume(canvas.ellipsoid((0, 0, 0), (1, 1, 1)), 0.25)
        >>> canvas.paint(ball, 60.0)
        >>> float(canvas.image[8, 8, 8]), float(canvas.image[0, 0, 0])
        (60.0, -95.0)

    """

    def __init__(self, shape: tuple[int, ...], background: float) -> None:
        self.shape = shape
        self.voxel = prod(shape) ** (-1 / len(shape))
        self.extent = np.append(np.array(shape) * self.voxel, 1.0)[:3]
        axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * self.voxel for n in shape]
        self.grid: Field = np.zeros((3, *shape), np.float32)
        self.grid[: len(shape)] = np.meshgrid(*axes, indexing="ij")
        self.image: Field = np.full(shape, background, np.float32)
        self._reserved: Field | None = None

    def ellipsoid(
        self,
        centre: Vector,
        semi_axes: Vector,
        turn: NDArray[np.float64] | None = None,
        *,
        bend: float = 0.0,
    ) -> Field:
        """Return the signed distance to an ellipsoid, to first order.

        Args:
            centre: Its middle.
            semi_axes: Half its length along each of its axes.
            turn: Rotates it, (3, 3); None leaves its axes along the canvas's.
            bend: Curves its third axis toward the positive first axis, as x = bend · z².

        """
        matrix = np.eye(3) if turn is None else turn
        offset, semi = (
            np.asarray(vector, np.float32).reshape(3, *[1] * len(self.shape))
            for vector in (centre, semi_axes)
        )
        p = np.tensordot(matrix.T.astype(np.float32), self.grid - offset, axes=1)
        if bend:
            p[0] -= np.float32(bend) * p[2] ** 2
        p /= semi
        radius = np.sqrt(np.einsum("i...,i...->...", p, p))
        p /= semi
        gradient = np.sqrt(np.einsum("i...,i...->...", p, p))
        distance = (radius - 1) * radius / np.maximum(gradient, 1e-6)
        return np.asarray(distance, np.float32)

    def tube(self, points: NDArray[np.float64], radius: ArrayLike) -> Field:
        """Return the signed distance to a tube around a curve.

        Args:
            points: (m, 3) array along the curve, closer together than a voxel.
            radius: One number, or one for each point.

        """
        reach = float(np.max(radius)) + 0.25
        distance, nearest = cKDTree(points).query(
            np.moveaxis(self.grid, 0, -1).reshape(-1, 3), distance_upper_bound=reach
        )
        radii = np.append(np.broadcast_to(np.asarray(radius, np.float64), len(points)), 0.0)
        distance = np.minimum(distance, reach) - radii[nearest]
        return np.asarray(distance.reshape(self.shape), np.float32)

    def with_volume(self, distance: Field, share: float) -> Field:
        """Return the distance to the parallel surface that encloses a share of the volume.

        Args:
            distance: Signed distance to a solid.
            share: From 0 to 1; at least a voxel is enclosed.

        """
        count = max(1, round(share * distance.size))
        cut = np.partition(distance, (count - 1, count), axis=None)[count - 1 : count + 1]
        return np.asarray(distance - cut.mean(), np.float32)

    def reserve(self, distance: Field, gap: float) -> None:
        """Keep what is painted from now on away from a solid.

        Args:
            distance: Signed distance to it.
            gap: The least distance that is kept.

        """
        self._reserved = np.asarray(np.float32(gap) - distance, np.float32)

    def paint(self, distance: Field, value: ArrayLike, *, on_top: bool = False) -> None:
        """Fill a solid; voxels on its surface get their share of what is inside and outside.

        Args:
            distance: Signed distance to it.
            value: Hounsfield units, one number or one for each voxel.
            on_top: Whether to ignore what is reserved.

        """
        if self._reserved is not None and not on_top:
            distance = np.maximum(distance, self._reserved)
        cover = np.clip(0.5 - distance / np.float32(self.voxel), 0, 1)
        self.image += cover * (np.asarray(value, np.float32) - self.image)
