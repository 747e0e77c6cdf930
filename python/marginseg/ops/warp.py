"""Warp images and labels by a displacement field."""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeAlias

import torch
from torch import Tensor

from marginseg import _cpu
from marginseg.ops.boundary import (
    DTYPE_CODES,
    FLOATING_DTYPES,
    LABEL_DTYPES,
    MODES,
    checked_mode,
    computing_dtype,
)
from marginseg.ops.library import library

INTERPOLATIONS = ("linear", "nearest")

#: ``WarpGeometry`` of the core: batch, channels, shape, input stride, extension, linear.
Geometry: TypeAlias = tuple[int, int, list[int], int, int, bool]


def warp(
    input: Tensor,
    displacement: Tensor,
    *,
    interpolation: str = "linear",
    mode: str = "constant",
    cval: float = 0.0,
    spatial_dims: int | None = None,
) -> Tensor:
    r"""Return out(ω) = input(ω + X(ω)).

    Agrees with :func:`scipy.ndimage.map_coordinates` of order 1 and 0, for the modes
    ``"grid-constant"`` (here ``"constant"``), ``"nearest"``, ``"reflect"``, ``"mirror"`` and
    ``"grid-wrap"`` (here ``"wrap"``). The nearest voxel of x is ⌊x + ½⌋.

    Args:
        input: Shape (*batch, *channel, *spatial), one to three spatial axes. Floating, or a label
            (bool or integer): then ``"nearest"`` looks it up, and ``"linear"`` takes the label
            with the largest interpolated weight, of equals the larger. For a binary label that is
            its linear interpolation cut at ½.
        displacement: X, shape (*batch, n, *spatial), floating, in voxels, component i along
            spatial axis i. Its batch axes are the input's first axes; the axes of the input that
            stand between are channels, which share the field. An input expanded along one batch
            axis is not copied.
        interpolation: ``"linear"`` or ``"nearest"``.
        mode: What lies beyond the ends: ``"constant"``, ``"nearest"``, ``"reflect"``,
            ``"mirror"`` or ``"wrap"``.
        cval: The value outside, for ``mode="constant"``. A label's is an integer of its range.
        spatial_dims: n; needed only where the shapes fit several.

    Returns:
        Tensor of the input's shape and dtype. Where X is NaN: NaN, or ``cval`` in a label.
        Floating: computed in float32, or float64 for a float64 input. Differentiable with respect
        to input and displacement, twice for ``"linear"``; the derivative with respect to the
        displacement is 0 for ``"nearest"``. Sums are taken in one order: gradients have the same
        bits for any number of threads.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape or an option does not fit; the message names it.

    Example:
        >>> import torch
        >>> image = torch.tensor([0.0, 10.0, 20.0, 30.0])
        >>> warp(image, torch.full((1, 4), 0.5))
        tensor([ 5., 15., 25., 15.])
        >>> warp(image, torch.full((1, 4), 0.5), mode="nearest")
        tensor([ 5., 15., 25., 30.])

    """
    for name, value in (("input", input), ("displacement", displacement)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if input.dtype not in (*FLOATING_DTYPES, *LABEL_DTYPES):
        raise TypeError(f"input: expected a floating, bool or integer dtype, got {input.dtype}")
    if displacement.dtype not in FLOATING_DTYPES:
        raise TypeError(f"displacement: expected a floating dtype, got {displacement.dtype}")
    if input.device != displacement.device:
        raise ValueError(
            f"displacement: expected the input's device {input.device}, got {displacement.device}"
        )
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation: expected linear or nearest, got {interpolation!r}")
    if input.dtype in LABEL_DTYPES:
        low, high = (0, 1) if input.dtype is torch.bool else _range(input.dtype)
        if not (math.isfinite(cval) and int(cval) == cval and low <= cval <= high):
            raise ValueError(f"cval: expected an integer of {input.dtype}, got {cval}")
    n = _spatial_dims(tuple(input.shape), tuple(displacement.shape), spatial_dims)
    return torch.ops.marginseg.warp(
        input, displacement, n, interpolation, checked_mode(mode), float(cval)
    )


def _range(dtype: torch.dtype) -> tuple[int, int]:
    limits = torch.iinfo(dtype)
    return limits.min, limits.max


def _spatial_dims(
    input: tuple[int, ...], displacement: tuple[int, ...], spatial_dims: int | None
) -> int:
    fitting = [
        n
        for n in ((1, 2, 3) if spatial_dims is None else (spatial_dims,))
        if 1 <= n <= 3
        and len(displacement) > n
        and len(input) >= len(displacement) - 1
        and displacement[-n - 1] == n
        and displacement[-n:] == input[-n:]
        and displacement[: -n - 1] == input[: len(displacement) - n - 1]
    ]
    if not fitting:
        raise ValueError(
            f"displacement: expected shape (*batch, n, *spatial) for an input of shape "
            f"{input}, got {displacement}"
        )
    if len(fitting) > 1:
        raise ValueError(
            f"spatial_dims: the shapes {input} and {displacement} fit {fitting}; say which"
        )
    return fitting[0]


library.define(
    "warp(Tensor input, Tensor displacement, int spatial_dims, str interpolation, str mode,"
    " float cval) -> Tensor"
)
library.define(
    "warp_backward(Tensor gradient, Tensor input, Tensor displacement, int spatial_dims,"
    " str interpolation, str mode, float cval) -> (Tensor, Tensor)"
)


def _geometry(
    input: Tensor, displacement: Tensor, n: int, interpolation: str, mode: str
) -> tuple[Tensor, Geometry]:
    """Return the input as the core reads it, and the geometry's arguments."""
    shape = list(input.shape[-n:])
    batch = math.prod(displacement.shape[: -n - 1])
    channels = math.prod(input.shape[displacement.ndim - n - 1 : -n])
    images = input.reshape(batch, channels, *shape)
    expected = [math.prod(shape[axis:]) for axis in range(len(shape) + 1)]
    strides = images.stride()[1:]
    packed = all(
        size == 1 or stride == wanted
        for size, stride, wanted in zip(images.shape[1:], strides, expected, strict=True)
    )
    if not packed:
        images = images.contiguous()
    stride = images.stride(0) if batch > 1 else 0
    return images, (batch, channels, shape, stride, MODES[mode], interpolation == "linear")


def _forward(
    input: Tensor, displacement: Tensor, n: int, interpolation: str, mode: str, cval: float
) -> Tensor:
    label = input.dtype in LABEL_DTYPES
    computing = computing_dtype(displacement.dtype if label else input.dtype)
    field = displacement.to(computing).contiguous()
    source = input if label else input.to(computing)
    images, geometry = _geometry(source, field, n, interpolation, mode)
    output = torch.empty(input.shape, dtype=images.dtype, device=input.device)
    if output.numel():
        source_at, field_at, output_at = images.data_ptr(), field.data_ptr(), output.data_ptr()
        field_code, code = DTYPE_CODES[computing], DTYPE_CODES[images.dtype]
        if label:
            _cpu.warp_label(source_at, field_at, output_at, code, field_code, *geometry, int(cval))
        else:
            _cpu.warp(source_at, field_at, output_at, code, *geometry, cval)
    return output.to(input.dtype)


def _backward_kernel(
    gradient: Tensor,
    input: Tensor,
    displacement: Tensor,
    n: int,
    interpolation: str,
    mode: str,
    cval: float,
) -> tuple[Tensor, Tensor]:
    computing = computing_dtype(input.dtype)
    field = displacement.to(computing).contiguous()
    source = gradient.to(computing).contiguous()
    images, geometry = _geometry(input.to(computing), field, n, interpolation, mode)
    input_gradient = torch.zeros(input.shape, dtype=computing, device=input.device)
    displacement_gradient = torch.zeros_like(field)
    if input.numel():
        _cpu.warp_backward(
            source.data_ptr(),
            images.data_ptr(),
            field.data_ptr(),
            input_gradient.data_ptr(),
            displacement_gradient.data_ptr(),
            DTYPE_CODES[computing],
            *geometry,
            cval,
        )
    return input_gradient.to(input.dtype), displacement_gradient.to(displacement.dtype)


def _interpolate(input: Tensor, displacement: Tensor, n: int, mode: str, cval: float) -> Tensor:
    """The linear warp as torch ops: what the double backward differentiates.

    Positions are differentiated, the voxels around them are not: ω + X = ⌊ω + X⌋ + t.
    """
    shape = list(input.shape[-n:])
    batch = math.prod(displacement.shape[: -n - 1])
    images = input.reshape(batch, -1, math.prod(shape))
    field = displacement.reshape(batch, n, *shape)
    total = torch.zeros_like(images)
    fractions, floors = [], []
    for axis, size in enumerate(shape):
        view = [1] * n
        view[axis] = size
        grid = torch.arange(size, dtype=field.dtype, device=field.device).reshape(view)
        position = grid + field[:, axis]
        floor = position.detach().floor()
        fractions.append((position - floor).reshape(batch, 1, -1))
        floors.append(floor.long().reshape(batch, 1, -1))
    for sides in itertools.product((0, 1), repeat=n):
        weight: Tensor | float = 1.0
        place = torch.zeros_like(floors[0])
        outside = torch.zeros_like(floors[0], dtype=torch.bool)
        for axis, side in enumerate(sides):
            size = shape[axis]
            weight = weight * (fractions[axis] if side else 1 - fractions[axis])
            index, beyond = _extended(floors[axis] + side, size, mode)
            outside = outside | beyond
            place = place * size + index
        value = images.gather(2, place.expand(images.shape))
        total = total + weight * torch.where(outside, cval, value)
    return total.reshape(input.shape)


def _extended(index: Tensor, size: int, mode: str) -> tuple[Tensor, Tensor]:
    """Return the index that stands at ``index`` of the extended axis, and whether none does."""
    beyond = torch.zeros_like(index, dtype=torch.bool)
    if mode == "constant":
        beyond = (index < 0) | (index >= size)
        return index.clamp(0, size - 1), beyond
    if mode == "nearest":
        return index.clamp(0, size - 1), beyond
    if mode == "wrap":
        return index.remainder(size), beyond
    period = 2 * size if mode == "reflect" else max(2 * size - 2, 1)
    phase = index.remainder(period)
    last = period - 1 if mode == "reflect" else period
    return torch.where(phase < size, phase, last - phase), beyond


def _fake(input: Tensor, *_: object) -> Tensor:
    return torch.empty_like(input, memory_format=torch.contiguous_format)


def _backward_fake(
    gradient: Tensor, input: Tensor, displacement: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    layout = torch.contiguous_format
    return (
        torch.empty_like(input, memory_format=layout),
        torch.empty_like(displacement, memory_format=layout),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.arguments = inputs[2:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    input, displacement = ctx.saved_tensors
    gradients = torch.ops.marginseg.warp_backward(gradient, input, displacement, *ctx.arguments)
    return *gradients, None, None, None, None


def _remember_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.arguments = inputs[3:]


def _double_backward(
    ctx: Any, towards_input: Tensor, towards_displacement: Tensor
) -> tuple[Tensor | None, ...]:
    gradient, input, displacement = ctx.saved_tensors
    n, interpolation, mode, cval = ctx.arguments
    if interpolation == "nearest":
        # out = P input for a 0-1 matrix P that the displacement changes only in jumps.
        warped = torch.ops.marginseg.warp(towards_input, displacement, n, interpolation, mode, 0.0)
        return warped, None, None, None, None, None, None
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in (gradient, input, displacement)]
        warped = _interpolate(leaves[1], leaves[2], n, mode, cval)
        first = torch.autograd.grad(warped, leaves[1:], leaves[0], create_graph=True)
        dot = (first[0] * towards_input).sum() + (first[1] * towards_displacement).sum()
        second = torch.autograd.grad(dot, leaves)
    return *second, None, None, None, None


library.impl("warp", _forward, "CPU")
library.impl("warp_backward", _backward_kernel, "CPU")
torch.library.register_fake("marginseg::warp", _fake, lib=library)
torch.library.register_fake("marginseg::warp_backward", _backward_fake, lib=library)
torch.library.register_autograd("marginseg::warp", _backward, setup_context=_remember, lib=library)
torch.library.register_autograd(
    "marginseg::warp_backward",
    _double_backward,
    setup_context=_remember_backward,
    lib=library,
)
