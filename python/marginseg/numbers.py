"""Numbers that are given as arguments: Python's, NumPy's, and tensors without axes."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any, SupportsIndex, cast

import numpy as np
import torch
from torch import Tensor

#: Numbers, also those of a compiler that does not know them yet.
_PLAIN = (float, int, torch.SymFloat, torch.SymInt)


def number(name: str, value: Any) -> float:
    """Return a number as Python's.

    Raises:
        TypeError: It is none (a string is not, nor is a tensor that requires a gradient, which
            would be lost); the message begins with ``name``.
        ValueError: It is an integer that no float64 holds.

    Example:
        >>> number("sigma", torch.tensor(2)), number("sigma", np.float32(0.5))
        (2.0, 0.5)

    """
    if type(value) is float:
        return value
    if not is_number(value):
        raise TypeError(f"{name}: expected a number, got {_described(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number that float64 holds, got {value}") from None


def numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """Return one number, or several, as Python's.

    Raises:
        TypeError: It is neither a number nor a sequence of them; the message begins with ``name``.
        ValueError: As for :func:`number`.

    Example:
        >>> numbers("std", 1), numbers("std", np.ones(2))
        (1.0, (1.0, 1.0))

    """
    if type(value) is float:
        return value
    if type(value) is tuple and {type(entry) for entry in value} == {float}:
        return value
    if is_number(value):
        return number(name, value)
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or _axes(value) == 0:
        raise TypeError(
            f"{name}: expected a number or a sequence of numbers, got {_described(value)}"
        )
    return tuple([number(name, entry) for entry in value])


def integer(name: str, value: Any) -> int:
    """Return an integer as Python's.

    Raises:
        TypeError: It is none, or a tensor with axes; the message begins with ``name``.

    Example:
        >>> integer("n", np.int64(3)), integer("n", torch.tensor(3))
        (3, 3)

    """
    if type(value) is int:
        return value
    if isinstance(value, torch.SymInt):
        return cast("int", value)  # a size that a compiler does not know yet
    if isinstance(value, SupportsIndex) and not _axes(value):
        try:
            return int(operator.index(value))  # that of a bool is a bool
        except TypeError:
            pass  # a floating tensor has the method too
    raise TypeError(f"{name}: expected an integer, got {_described(value)}")


def integers(name: str, value: Any) -> tuple[int, ...]:
    """Return a sequence of integers as Python's.

    Raises:
        TypeError: It is no sequence, or one of something else; the message begins with ``name``.

    Example:
        >>> integers("shape", torch.ones(2, 3).shape)
        (2, 3)

    """
    if type(value) is tuple and {type(entry) for entry in value} == {int}:
        return value
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or _axes(value) == 0:
        raise TypeError(f"{name}: expected a sequence of integers, got {_described(value)}")
    return tuple([integer(name, entry) for entry in value])


def is_number(value: Any) -> bool:
    """Whether something stands for one number."""
    if isinstance(value, _PLAIN):
        return True
    if isinstance(value, Tensor):
        return value.ndim == 0 and not value.requires_grad and not value.is_complex()
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "iuf"
    return isinstance(value, Real)


def _axes(value: Any) -> int | None:
    """Return how many axes an array has; None for what is no array."""
    return value.ndim if isinstance(value, Tensor | np.ndarray) else None


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        with_gradient = " that requires a gradient" if value.requires_grad else ""
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}{with_gradient}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    if isinstance(value, str | bytes | int | float | complex | None):
        return repr(value)
    return type(value).__name__
