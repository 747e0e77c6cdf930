"""What the values of a tensor have to be, and whether the host may look at them."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

#: How far beyond [0, 1] a value may lie that only rounding has put there: four of the dtype's steps
#: at 1. Most probabilities in float64 have been computed in float32, and have its steps.
ROUNDING: Final = {
    torch.float16: 2.0**-8,
    torch.bfloat16: 2.0**-5,
    torch.float32: 2.0**-21,
    torch.float64: 2.0**-21,
}

#: The dtypes that labels may have but kernels don't compute in, and those that hold their values.
WIDER: Final = {
    torch.int8: torch.int16,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
}

#: What values may be of; torch knows other dtypes, but compares none of them.
REAL: Final = frozenset(
    {*ROUNDING, *WIDER, torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64}
)


def transformed() -> bool:
    """Whether one of ``torch.func``'s transforms (grad, jvp, vmap) is at work."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def readable(tensor: Tensor) -> bool:
    """Whether the host can look at a tensor's values.

    It cannot where a graph is compiled or captured, nor where vmap has others beside them.
    """
    if torch.compiler.is_compiling() or transformed():
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def within_unit(name: str, values: Tensor, *, hint: str = "") -> Tensor:
    """Return values within [0, 1], wherever the host may look at them.

    A sum of softmax channels, an interpolated one or a mean of several can end a rounding beyond.
    Such values are clamped; whoever has none pays for no more than the look.

    Args:
        name: Of the argument.
        values: Floating, bools or integers.
        hint: What the message says besides.

    Raises:
        TypeError: They are of a dtype that torch can't compare, as uint64.
        ValueError: Some lie further outside, or are NaN; the message begins with ``name``.

    Example:
        >>> within_unit("m", torch.tensor([0.5, 1.0000001]))
        tensor([0.5000, 1.0000])

    """
    return values.clamp(0.0, 1.0) if rounded_beyond_unit(name, values, hint=hint) else values


def rounded_beyond_unit(name: str, values: Tensor, *, hint: str = "") -> bool:
    """Whether :func:`within_unit` clamps values, for who does it piece by piece; or refuse them.

    Example:
        >>> rounded_beyond_unit("m", torch.tensor([0.5, 1.0000001]))
        True

    """
    if values.dtype not in REAL:
        raise TypeError(
            f"{name}: expected floats, bools, or integers that int64 holds, got {values.dtype}"
        )
    if values.dtype is torch.bool or not readable(values) or not values.numel():
        return False
    looked_at = values.detach().to(WIDER.get(values.dtype, values.dtype))
    low, high = torch.stack(torch.aminmax(looked_at)).tolist()
    if low >= 0.0 and high <= 1.0:
        return False
    rounding = ROUNDING.get(values.dtype, 0.0)
    if low >= -rounding and high <= 1.0 + rounding:  # NaN is neither
        return True
    raise ValueError(f"{name}: expected values within [0, 1], got {extent(low, high)}{hint}")


def extent(low: float, high: float) -> str:
    """Return the smallest and the largest value in words, with the digits that rounding touches.

    Example:
        >>> extent(0.0, 1.0 + 5 * 2.0**-23)
        '0 to 1.0000006'
        >>> extent(math.nan, math.nan)
        'NaN'

    """
    if math.isnan(low) or math.isnan(high):
        return "NaN"
    return f"{low:.8g} to {high:.8g}"


def whole(name: str, label: Tensor) -> Tensor:
    """Return a label as whole numbers of a dtype that kernels take.

    Loaders of images give labels in floating dtypes. Where the host cannot look, fractions are cut
    off.

    Raises:
        ValueError: It has fractions or NaN, or numbers beyond int32 in a floating dtype; the
            message begins with ``name``.

    Example:
        >>> whole("label", torch.tensor([0.0, 2.0]))
        tensor([0, 2], dtype=torch.int32)

    """
    if not label.is_floating_point():
        return label.to(WIDER.get(label.dtype, label.dtype))
    numbers = label.to(torch.int32)
    if readable(label) and not bool((numbers == label).all()):
        raise ValueError(f"{name}: expected whole numbers, got fractions, NaN or numbers too large")
    return numbers
