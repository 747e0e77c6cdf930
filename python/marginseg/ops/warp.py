"""Warp images and labels by a displacement field."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

import torch
from torch import Tensor

from marginseg.numbers import integer, number
from marginseg.ops.boundary import (
    DTYPE_CODES,
    FLOATING_DTYPES,
    LABEL_DTYPES,
    MODES,
    Interpolation,
    Mode,
    check_devices,
    checked_mode,
    computing_dtype,
    core_of,
    listed,
)
from marginseg.ops.library import implement, library, undispatched
from marginseg.ops.transforms import Arguments, batched, differentiable, in_front

INTERPOLATIONS = ("linear", "nearest")

#: A number outside, also one that a compiler does not know yet. Plain ones are told at once.
_REAL = (float, int, torch.SymFloat, torch.SymInt, Real)

#: What the core takes as its geometry: batch, channels, shape, input stride, extension, linear.
Geometry: TypeAlias = tuple[int, int, list[int], int, int, bool]


def warp(
    input: Tensor,
    displacement: Tensor,
    *,
    interpolation: Interpolation = "linear",
    mode: Mode = "constant",
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
    if spatial_dims is not None:
        spatial_dims = integer("spatial_dims", spatial_dims)
        if not 1 <= spatial_dims <= 3:
            raise ValueError(f"spatial_dims: expected 1, 2 or 3, got {spatial_dims}")
    if not isinstance(cval, int | float):
        cval = _one_value(cval)
    n = _spatial_dims(input.shape, displacement.shape, spatial_dims)
    _check(input, displacement, n, interpolation, mode, cval)
    outside = int(cval) if input.dtype in LABEL_DTYPES else float(cval)
    if undispatched(input, displacement):
        return _run(input, displacement, n, interpolation, mode, outside)
    return torch.ops.marginseg.warp(input, displacement, n, interpolation, mode, outside)


def _one_value(cval: Any) -> float:
    """Return an integer as it is, for no float64 holds every int64 label."""
    return int(cval) if isinstance(cval, Integral) else number("cval", cval)


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
        raise TypeError(
            f"input: expected {listed((*FLOATING_DTYPES, *LABEL_DTYPES))}, got {input.dtype}"
        )
    if displacement.dtype not in FLOATING_DTYPES:
        raise TypeError(f"displacement: expected a floating dtype, got {displacement.dtype}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation: expected linear or nearest, got {interpolation!r}")
    checked_mode(mode)
    if not isinstance(cval, _REAL):
        raise TypeError(f"cval: expected a real number, got {cval!r}")
    if input.dtype in LABEL_DTYPES:
        low, high = (0, 1) if input.dtype is torch.bool else _range(input.dtype)
        if not (low <= cval <= high and int(cval) == cval):
            raise ValueError(f"cval: expected an integer of {input.dtype}, got {cval}")
    if not _fits(n, input.shape, displacement.shape):
        raise ValueError(
            f"displacement: expected shape (*batch, {n}, *spatial), {n} spatial axes, for an input "
            f"of shape {tuple(input.shape)}, got {tuple(displacement.shape)}"
        )
    check_devices(input, displacement=displacement)


def _check_derivative(name: str, tensor: Tensor, like: Tensor) -> None:
    for of, dtype in (("input", like.dtype), (name, tensor.dtype)):
        if dtype not in FLOATING_DTYPES:
            raise TypeError(f"{of}: expected a floating dtype, got {dtype}")
    if tensor.shape != like.shape:
        raise ValueError(f"{name}: expected shape {tuple(like.shape)}, got {tuple(tensor.shape)}")
    check_devices(like, **{name: tensor})


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
    core = core_of(input)
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
    core = core_of(input)
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
    core = core_of(input)
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


def _fake(
    input: Tensor, displacement: Tensor, n: int, interpolation: str, mode: str, cval: float
) -> Tensor:
    _check(input, displacement, n, interpolation, mode, cval)
    return _like(input)


def _backward_fake(
    gradient: Tensor, input: Tensor, displacement: Tensor, *options: Any
) -> tuple[Tensor, Tensor]:
    _check(input, displacement, *options)
    _check_derivative("gradient", gradient, input)
    return _like(input), _like(displacement)


def _double_backward_fake(
    input_weight: Tensor,
    displacement_weight: Tensor,
    gradient: Tensor,
    input: Tensor,
    displacement: Tensor,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    _check(input, displacement, *options)
    _check_derivative("gradient", gradient, input)
    _check_derivative("input_weight", input_weight, input)
    _check_derivative("displacement_weight", displacement_weight, displacement)
    return _like(gradient), _like(input), _like(displacement)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


# Of L = <gradient, warp(input, displacement)>, warp_backward is the derivative with respect to
# both, and warp_double_backward that of <weights, warp_backward>, with respect to all three. The
# latter's first result is the derivative of warp in the direction of the weights, for whatever
# gradient; the others are the second derivatives of L, contracted with the weights.


def _remember(ctx: Any, arguments: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*[value for value in arguments if isinstance(value, Tensor)])
    ctx.options = arguments[-4:]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 6
    gradients = torch.ops.marginseg.warp_backward(gradient, *ctx.saved_tensors, *ctx.options)
    return *gradients, None, None, None, None


def _tangent(arguments: Arguments, tangents: Arguments) -> Tensor | None:
    input, displacement, *options = arguments
    if not input.dtype.is_floating_point:
        return None
    moved, pushed = tangents[:2]
    if pushed is None:
        warped: Tensor = torch.ops.marginseg.warp(moved, displacement, *options[:-1], 0.0)
        return warped
    weights = _filled(tangents[:2], (input, displacement))
    of_both: Tensor = torch.ops.marginseg.warp_double_backward(
        *weights, torch.zeros_like(input), input, displacement, *options
    )[0]
    return of_both


def _double_backward(
    ctx: Any, input_weight: Tensor | None, displacement_weight: Tensor | None
) -> tuple[Tensor | None, ...]:
    _, *places = ctx.saved_tensors
    if input_weight is None and displacement_weight is None:
        return (None,) * 7
    second = torch.ops.marginseg.warp_double_backward(
        *_filled((input_weight, displacement_weight), places), *ctx.saved_tensors, *ctx.options
    )
    return *second, None, None, None, None


def _backward_tangent(arguments: Arguments, tangents: Arguments) -> tuple[Tensor, ...]:
    input, displacement, *options = arguments[1:]
    moved = tangents[0]
    terms = []
    if moved is not None:
        terms.append(torch.ops.marginseg.warp_backward(moved, input, displacement, *options))
    if any(tangent is not None for tangent in tangents[1:3]):
        weights = _filled(tangents[1:3], (input, displacement))
        second = torch.ops.marginseg.warp_double_backward(*weights, *arguments)
        terms.append(second[1:])
    return _summed(terms)


def _third_derivative(
    ctx: Any, first: Tensor | None, *others: Tensor | None
) -> tuple[Tensor | None, ...]:
    _refuse_third(*others)
    if first is None:
        return (None,) * 9
    input_weight, displacement_weight, _, *places = ctx.saved_tensors
    weights = torch.ops.marginseg.warp_backward(first, *places, *ctx.options)
    second = torch.ops.marginseg.warp_double_backward(
        input_weight, displacement_weight, first, *places, *ctx.options
    )
    return *weights, None, *second[1:], None, None, None, None


def _double_backward_tangent(arguments: Arguments, tangents: Arguments) -> tuple[Tensor, ...]:
    _refuse_third(*tangents[3:5])
    op = torch.ops.marginseg.warp_double_backward
    terms = []
    if any(tangent is not None for tangent in tangents[:2]):
        terms.append(op(*_filled(tangents[:2], arguments[:2]), *arguments[2:]))
    if tangents[2] is not None:
        second = op(*arguments[:2], tangents[2], *arguments[3:])
        terms.append((torch.zeros_like(second[0]), *second[1:]))
    return _summed(terms)


def _refuse_third(*asked_for: Tensor | None) -> None:
    if any(tensor is not None for tensor in asked_for):
        raise NotImplementedError(
            "warp: differentiable twice, the second time in reverse mode where the first was in "
            "forward mode; another derivative was asked for"
        )


def _filled(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Put zeros in the place of what is not there."""
    return [
        torch.zeros_like(other) if tensor is None else tensor
        for tensor, other in zip(tensors, like, strict=True)
    ]


def _summed(terms: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(sum(parts[1:], start=parts[0]) for parts in zip(*terms, strict=True))


def _batch(
    info: Any, in_dims: Arguments, input: Tensor, displacement: Tensor, *options: Any
) -> tuple[Tensor, int]:
    op = torch.ops.marginseg.warp
    if in_dims[1] is None:
        # Channels share a field: the batch becomes one, behind the field's own batch axes.
        place = displacement.ndim - options[0] - 1
        return op(input.movedim(in_dims[0], place), displacement, *options), place
    fields = displacement.movedim(in_dims[1], 0)
    return op(in_front(input, in_dims[0], info.batch_size), fields, *options), 0


def _derivative_batch(name: str) -> Callable[..., tuple[Any, Any]]:
    op = getattr(torch.ops.marginseg, name)

    def rule(info: Any, in_dims: Arguments, *arguments: Any) -> tuple[Any, Any]:
        tensors = [
            in_front(tensor, dim, info.batch_size)
            for tensor, dim in zip(arguments[:-4], in_dims, strict=False)
        ]
        output = op(*tensors, *arguments[-4:])
        return output, (0,) * len(output)

    return rule


implement("warp", _forward)
torch.library.register_fake("marginseg::warp", _fake, lib=library)
differentiable("warp", backward=_backward, remember=_remember, tangent=_tangent)
batched("warp", _batch)

implement("warp_backward", _backward_kernel)
torch.library.register_fake("marginseg::warp_backward", _backward_fake, lib=library)
differentiable(
    "warp_backward", backward=_double_backward, remember=_remember, tangent=_backward_tangent
)
batched("warp_backward", _derivative_batch("warp_backward"))

implement("warp_double_backward", _double_backward_kernel)
torch.library.register_fake("marginseg::warp_double_backward", _double_backward_fake, lib=library)
differentiable(
    "warp_double_backward",
    backward=_third_derivative,
    remember=_remember,
    tangent=_double_backward_tangent,
)
batched("warp_double_backward", _derivative_batch("warp_double_backward"))
