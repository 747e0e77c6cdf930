"""Warp images and labels by a displacement field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeAlias

import torch
from torch import Tensor

from marginseg.ops.boundary import (
    DTYPE_CODES,
    FLOATING_DTYPES,
    LABEL_DTYPES,
    MODES,
    checked_mode,
    computing_dtype,
    core_of,
)
from marginseg.ops.library import implement, library, undispatched

INTERPOLATIONS = ("linear", "nearest")

#: What the core takes as its geometry: batch, channels, shape, input stride, extension, linear.
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
            stand between are channels, which share the field. An input expanded along its batch
            axes is not copied.
        interpolation: ``"linear"`` or ``"nearest"``.
        mode: What lies beyond the ends: ``"constant"``, ``"nearest"``, ``"reflect"``,
            ``"mirror"`` or ``"wrap"``.
        cval: The value outside, for ``mode="constant"``. A label's is an integer of its range.
        spatial_dims: n; needed only where the shapes fit several.

    Returns:
        Tensor of the input's shape and dtype. Where X is NaN: NaN, or ``cval`` in a label.
        Floating: computed in float32, or float64 for a float64 input; a label's positions are
        computed in the displacement's dtype, half types in float32. Only the displacement's
        fraction is a float: the voxels that it leads to are counted in integers, and are right on
        axes of any length. A corner of weight 0 counts as in SciPy: times infinity or NaN it is
        NaN. Differentiable twice with
        respect to input and displacement; the derivative with respect to the displacement is 0
        for ``"nearest"``. On the CPU sums are taken in one order: gradients have the same bits for
        any number of threads. On a GPU threads add to the input's gradient in any order, and its
        last bits differ from call to call; after :func:`torch.use_deterministic_algorithms` they
        add in integers of 64 bits, which gives the same bits each time: then each contribution is
        rounded to 2^-62 of the sum of the gradient's magnitudes over the image.

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
    if not isinstance(cval, Real):
        raise TypeError(f"cval: expected a number, got {type(cval).__name__}")
    if spatial_dims not in (None, 1, 2, 3):
        raise ValueError(f"spatial_dims: expected 1, 2 or 3, got {spatial_dims!r}")
    if input.device != displacement.device:
        raise ValueError(
            f"displacement: expected the input's device {input.device}, got {displacement.device}"
        )
    n = _spatial_dims(input.shape, displacement.shape, spatial_dims)
    _check(input, displacement, n, interpolation, mode, cval)
    value = int(cval) if input.dtype in LABEL_DTYPES else float(cval)
    if undispatched(input, displacement):
        return _run(input, displacement, n, interpolation, mode, value)
    return torch.ops.marginseg.warp(input, displacement, n, interpolation, mode, value)


def _fits(n: int, input: Sequence[int], displacement: Sequence[int]) -> bool:
    batch = len(displacement) - n - 1
    return (
        1 <= n <= 3
        and 0 <= batch <= len(input) - n
        and displacement[batch] == n
        and displacement[:batch] == input[:batch]
        and displacement[batch + 1 :] == input[-n:]
    )


def _spatial_dims(
    input: Sequence[int], displacement: Sequence[int], spatial_dims: int | None
) -> int:
    candidates = (1, 2, 3) if spatial_dims is None else (spatial_dims,)
    fitting = [n for n in candidates if _fits(n, input, displacement)]
    if not fitting:
        raise ValueError(
            f"displacement: expected shape (*batch, n, *spatial) for an input of shape "
            f"{tuple(input)}, got {tuple(displacement)}"
        )
    if len(fitting) > 1:
        raise ValueError(
            f"spatial_dims: the shapes {tuple(input)} and {tuple(displacement)} fit {fitting}; "
            "say which"
        )
    return fitting[0]


def _check(
    input: Tensor, displacement: Tensor, n: int, interpolation: str, mode: str, cval: float
) -> None:
    """Refuse what the core cannot read. The kernels call it too: nothing else guards its memory."""
    if input.dtype not in (*FLOATING_DTYPES, *LABEL_DTYPES):
        raise TypeError(f"input: expected a floating, bool or integer dtype, got {input.dtype}")
    if displacement.dtype not in FLOATING_DTYPES:
        raise TypeError(f"displacement: expected a floating dtype, got {displacement.dtype}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation: expected linear or nearest, got {interpolation!r}")
    checked_mode(mode)
    if input.dtype in LABEL_DTYPES:
        low, high = (0, 1) if input.dtype is torch.bool else _range(input.dtype)
        if not (low <= cval <= high and int(cval) == cval):
            raise ValueError(f"cval: expected an integer of {input.dtype}, got {cval}")
    if not _fits(n, input.shape, displacement.shape):
        raise ValueError(
            f"displacement: expected shape (*batch, {n}, *spatial), {n} spatial axes, for an input "
            f"of shape {tuple(input.shape)}, got {tuple(displacement.shape)}"
        )


def _check_derivative(name: str, tensor: Tensor, like: Tensor) -> None:
    if not like.dtype.is_floating_point:
        raise TypeError(f"input: expected a floating dtype, got {like.dtype}")
    if tensor.shape != like.shape:
        raise ValueError(f"{name}: expected shape {tuple(like.shape)}, got {tuple(tensor.shape)}")


def _range(dtype: torch.dtype) -> tuple[int, int]:
    limits = torch.iinfo(dtype)
    return limits.min, limits.max


# cval is a Scalar and no float, because a float cannot hold every int64 label.
_OPTIONS = "int spatial_dims, str interpolation, str mode, Scalar cval"
library.define(f"warp(Tensor input, Tensor displacement, {_OPTIONS}) -> Tensor")
library.define(
    f"warp_backward(Tensor gradient, Tensor input, Tensor displacement, {_OPTIONS})"
    " -> (Tensor, Tensor)"
)
library.define(
    "warp_double_backward(Tensor input_weight, Tensor displacement_weight, Tensor gradient,"
    f" Tensor input, Tensor displacement, {_OPTIONS}) -> (Tensor, Tensor, Tensor)"
)


def _geometry(
    input: Tensor, displacement: Tensor, n: int, interpolation: str, mode: str, dtype: torch.dtype
) -> tuple[Tensor, Geometry]:
    """Return the input as the core reads it, in ``dtype``, and the geometry's arguments."""
    shape = list(input.shape[-n:])
    batch = math.prod(displacement.shape[: -n - 1])
    channels = math.prod(input.shape[displacement.ndim - n - 1 : -n])
    size = channels * math.prod(shape)
    images = input
    if not input.is_contiguous():
        images = input.reshape(batch, channels, *shape)
        # The core wants the images of one batch entry packed. All entries may be one and the same
        # (an expanded input, stride 0): then only that one is copied.
        if batch > 1 and images.stride(0) == 0:
            images, size = images[:1], 0
        images = images.contiguous()
    images = images.to(dtype)
    return images, (batch, channels, shape, size, MODES[mode], interpolation == "linear")


def _forward(
    input: Tensor, displacement: Tensor, n: int, interpolation: str, mode: str, cval: float
) -> Tensor:
    _check(input, displacement, n, interpolation, mode, cval)
    return _run(input, displacement, n, interpolation, mode, cval)


def _run(
    input: Tensor, displacement: Tensor, n: int, interpolation: str, mode: str, cval: float
) -> Tensor:
    core = core_of(input, displacement=displacement)
    label = input.dtype in LABEL_DTYPES
    computing = computing_dtype(displacement.dtype if label else input.dtype)
    field = displacement.to(computing).contiguous()
    dtype = input.dtype if label else computing
    images, geometry = _geometry(input, field, n, interpolation, mode, dtype)
    output = torch.empty(input.shape, dtype=dtype, device=input.device)
    if output.numel():
        source_at, field_at, output_at = images.data_ptr(), field.data_ptr(), output.data_ptr()
        field_code, code = DTYPE_CODES[computing], DTYPE_CODES[dtype]
        arguments = (source_at, field_at, output_at, code)
        kernels, device = core.kernels, input.device
        if label:
            core.run(kernels.warp_label, device, *arguments, field_code, *geometry, int(cval))
        else:
            core.run(kernels.warp, device, *arguments, *geometry, float(cval))
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
    _check(input, displacement, n, interpolation, mode, cval)
    _check_derivative("gradient", gradient, input)
    core = core_of(input, displacement=displacement, gradient=gradient)
    computing = computing_dtype(input.dtype)
    field = displacement.to(computing).contiguous()
    source = gradient.to(computing).contiguous()
    images, geometry = _geometry(input, field, n, interpolation, mode, computing)
    input_gradient = torch.zeros(input.shape, dtype=computing, device=input.device)
    displacement_gradient = torch.zeros_like(field)
    if input.numel():
        core.run(
            core.kernels.warp_backward,
            input.device,
            source.data_ptr(),
            images.data_ptr(),
            field.data_ptr(),
            input_gradient.data_ptr(),
            displacement_gradient.data_ptr(),
            DTYPE_CODES[computing],
            *geometry,
            float(cval),
        )
    return input_gradient.to(input.dtype), displacement_gradient.to(displacement.dtype)


def _double_backward_kernel(
    input_weight: Tensor,
    displacement_weight: Tensor,
    gradient: Tensor,
    input: Tensor,
    displacement: Tensor,
    n: int,
    interpolation: str,
    mode: str,
    cval: float,
) -> tuple[Tensor, Tensor, Tensor]:
    _check(input, displacement, n, interpolation, mode, cval)
    _check_derivative("gradient", gradient, input)
    _check_derivative("input_weight", input_weight, input)
    _check_derivative("displacement_weight", displacement_weight, displacement)
    core = core_of(
        input,
        displacement=displacement,
        gradient=gradient,
        input_weight=input_weight,
        displacement_weight=displacement_weight,
    )
    computing = computing_dtype(input.dtype)
    across, along, source, field = (
        tensor.to(computing).contiguous()
        for tensor in (input_weight, displacement_weight, gradient, displacement)
    )
    images, geometry = _geometry(input, field, n, interpolation, mode, computing)
    results = torch.zeros_like(source), torch.zeros_like(source), torch.zeros_like(field)
    if input.numel():
        core.run(
            core.kernels.warp_double_backward,
            input.device,
            across.data_ptr(),
            along.data_ptr(),
            source.data_ptr(),
            images.data_ptr(),
            field.data_ptr(),
            results[0].data_ptr(),
            results[1].data_ptr(),
            results[2].data_ptr(),
            DTYPE_CODES[computing],
            *geometry,
            float(cval),
        )
    return (
        results[0].to(gradient.dtype),
        results[1].to(input.dtype),
        results[2].to(displacement.dtype),
    )


def _fake(input: Tensor, *_: object) -> Tensor:
    return torch.empty_like(input, memory_format=torch.contiguous_format)


def _backward_fake(
    gradient: Tensor, input: Tensor, displacement: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    return _fake(input), _fake(displacement)


def _double_backward_fake(
    input_weight: Tensor,
    displacement_weight: Tensor,
    gradient: Tensor,
    input: Tensor,
    displacement: Tensor,
    *_: object,
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake(gradient), _fake(input), _fake(displacement)


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
    ctx: Any, input_weight: Tensor, displacement_weight: Tensor
) -> tuple[Tensor | None, ...]:
    second = torch.ops.marginseg.warp_double_backward(
        input_weight, displacement_weight, *ctx.saved_tensors, *ctx.arguments
    )
    return *second, None, None, None, None


def _third_derivative(ctx: Any, *_: Tensor) -> tuple[None, ...]:
    raise NotImplementedError("warp: differentiable twice, a third derivative was asked for")


implement("warp", _forward)
implement("warp_backward", _backward_kernel)
implement("warp_double_backward", _double_backward_kernel)
torch.library.register_fake("marginseg::warp", _fake, lib=library)
torch.library.register_fake("marginseg::warp_backward", _backward_fake, lib=library)
torch.library.register_fake("marginseg::warp_double_backward", _double_backward_fake, lib=library)
torch.library.register_autograd("marginseg::warp", _backward, setup_context=_remember, lib=library)
torch.library.register_autograd(
    "marginseg::warp_backward",
    _double_backward,
    setup_context=_remember_backward,
    lib=library,
)
torch.library.register_autograd("marginseg::warp_double_backward", _third_derivative, lib=library)
