"""A probability map as channels of voxels, in whatever order it lies in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.arrays import as_tensor
from marginseg.values import within_unit


@dataclass(frozen=True)
class FlatMap:
    """A map (K, *spatial) as (K, voxels), and the way back.

    NIfTI files and nnU-Net's arrays lie in memory with the first axis of space running fastest, an
    array that was made by NumPy or torch with the last one. Neither needs a copy.

    Attributes:
        values: The voxels, (K, voxels).
        spatial: Their shape, in memory's order.
        is_tensor: Whether the map was a tensor; else it was an array.
        is_reversed: Whether memory's order is the reverse one of the axes.

    """

    values: Tensor
    spatial: tuple[int, ...]
    is_tensor: bool
    is_reversed: bool

    @classmethod
    def of(cls, probabilities: NDArray[Any] | Tensor, channels: int) -> FlatMap:
        """Take a map apart.

        Args:
            probabilities: (K, *spatial), floating, within [0, 1].
            channels: The smallest K that will do.

        Raises:
            TypeError: It is no array or tensor, or not floating.
            ValueError: It holds NaN or values outside [0, 1], has too few channels, or no axis of
                space.

        Example:
            >>> flat = FlatMap.of(np.full((2, 3, 4), 0.5, order="F"), 2)
            >>> flat.values.shape, flat.spatial, flat.is_reversed
            (torch.Size([2, 12]), (3, 4), False)

        """
        is_reversed = False
        if isinstance(probabilities, Tensor):
            values = probabilities.detach()
        elif isinstance(probabilities, np.ndarray) and probabilities.dtype.kind == "f":
            is_reversed = _lies_reversed(probabilities)
            array = _reversed(probabilities) if is_reversed else probabilities
            values = as_tensor("probabilities", np.ascontiguousarray(array))
        else:
            kind = getattr(probabilities, "dtype", type(probabilities).__name__)
            raise TypeError(f"probabilities: expected a floating array or tensor, got {kind}")
        if not values.is_floating_point():
            raise TypeError(f"probabilities: expected a floating dtype, got {values.dtype}")
        if values.ndim < 2 or len(values) < channels:
            raise ValueError(
                f"probabilities: expected at least {channels} channels and axes of space, got "
                f"shape {tuple(probabilities.shape)}"
            )
        flat = within_unit("probabilities", values).reshape(len(values), -1)
        return cls(flat, tuple(values.shape[1:]), isinstance(probabilities, Tensor), is_reversed)

    def beside(self, arrays: NDArray[Any]) -> Tensor:
        """Return arrays beside the map, such as masks (n, *spatial), as (n, voxels)."""
        ordered = _reversed(arrays) if self.is_reversed else arrays
        return as_tensor("beside", np.ascontiguousarray(ordered)).reshape(len(arrays), -1)

    def ordered(self, sizes: Sequence[float]) -> tuple[float, ...]:
        """Return what each axis has, such as its spacing, in memory's order."""
        return tuple(reversed(sizes)) if self.is_reversed else tuple(sizes)

    def restored(self, flat: Tensor) -> Any:
        """Return (n, voxels) as (n, *spatial), an array or a tensor as the map was."""
        shaped = flat.reshape(len(flat), *self.spatial)
        if self.is_tensor:
            return shaped
        array = shaped.numpy()
        return _reversed(array) if self.is_reversed else array


def voxel_count(mask: Tensor) -> int:
    """Return how many voxels a mask has; a sum of bools takes several times as long."""
    return int(torch.count_nonzero(mask))


def _lies_reversed(array: NDArray[Any]) -> bool:
    return not array.flags.c_contiguous and _reversed(array).flags.c_contiguous


def _reversed(array: NDArray[Any]) -> NDArray[Any]:
    return array.transpose(0, *range(array.ndim - 1, 0, -1))
