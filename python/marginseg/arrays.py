"""NumPy arrays where tensors are expected, and results of the kind that was given."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: What the high-level functions take, and what they return of it: tensors of tensors, NumPy arrays
#: of NumPy arrays.
Array = TypeVar("Array", Tensor, NDArray[Any])


def as_tensor(name: str, value: Any) -> Tensor:
    """Return a tensor as it is, and of a NumPy array one that shares its memory, if it can.

    Arrays that torch cannot look at (of another order of bytes, or with negative strides) are
    copied; one that must not be written to is not, for nothing here writes to its arguments.

    Raises:
        TypeError: It is neither, or of a dtype that torch doesn't have; the message begins with
            ``name``.

    Example:
        >>> as_tensor("label", np.array([0, 1], ">i2"))
        tensor([0, 1], dtype=torch.int16)

    """
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray):
        kind = type(value).__name__
        raise TypeError(f"{name}: expected a torch.Tensor or a NumPy array, got {kind}")
    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned or any(
        stride < 0 or stride % array.itemsize for stride in array.strides
    ):
        array = array.copy()
    if not array.flags.writeable:
        array = np.asarray(_Unlocked(array))
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise TypeError(f"{name}: expected a dtype that torch has, got {array.dtype}") from None


def like(given: Array, result: Tensor) -> Array:
    """Return a result as a NumPy array, if that is what was given.

    Example:
        >>> like(np.zeros(2), torch.ones(2))
        array([1., 1.], dtype=float32)

    """
    return result if isinstance(given, Tensor) else result.detach().numpy()


class _Unlocked:
    """The memory of an array that NumPy says must not be written to, of which torch would warn."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array  # which keeps the memory
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}
