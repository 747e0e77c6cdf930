"""Separable Gaussian filter, sampled like SciPy's or integrated over voxels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from marginseg.numbers import number, numbers
from marginseg.ops.boundary import (
    BYTE_DTYPES,
    DTYPE_CODES,
    FLOATING_DTYPES,
    LABEL_DTYPES,
    MODES,
    Mode,
    checked_mode,
    computing_dtype,
    core_of,
    listed,
)
from marginseg.ops.library import implement, library, undispatched
from marginseg.ops.root_kernel import root_kernel
from marginseg.ops.transforms import Arguments, batched, differentiable, leading_batch

Kernel = Literal["sampled", "integrated"]
KERNELS: tuple[Kernel, ...] = ("sampled", "integrated")

#: The kernel of fields, for the registered op only: see `half_kernel`.
ROOT = "root"

#: So many voxels a kernel reaches at most. Its weights are half a gigabyte then.
LONGEST_RADIUS = 1 << 26

#: How many binary digits the numbers have that the core adds.
DIGITS = {torch.float32: 24, torch.float64: 53}

#: So many weights are added up one by one.
MOST_ADDED = 1 << 20


def gaussian_filter(
    input: Tensor,
    sigma: float | Sequence[float],
    *,
    mode: Mode = "constant",
    cval: float = 0.0,
    truncate: float = 4.0,
    kernel: Kernel = "sampled",
) -> Tensor:
    r"""Filter the last one to three axes with a Gaussian.

    The kernel has radius ``int(truncate * sigma + 0.5)`` on each axis and sums to 1, exactly, in
    whatever order the core adds: what is 1 everywhere stays 1, and no mean of values from 0 to 1
    is rounded to more than 1. For that its weights are multiples of 2⁻²⁴ in float32, and of 2⁻⁵³ in
    float64, and so they are only known to that.

    - ``"sampled"``: :math:`w_k \propto \exp(-k^2 / 2\sigma^2)`, SciPy's kernel;
    - ``"integrated"``: :math:`w_k \propto \int_{k-1/2}^{k+1/2} \exp(-x^2 / 2\sigma^2) dx`, the
      Gaussian's integral over each voxel. It is exact for an input that is constant on voxels,
      such as a label, which is what Theorem 1 asks for.

    Args:
        input: Array of shape (..., *spatial). A floating dtype is kept; labels (bool and integers)
            give float32. Half types are computed in float32.
        sigma: Standard deviation in voxels, >= 0. One number applies to every axis (then there
            are one to three); k numbers filter the last k axes. An axis with sigma 0 is skipped.
        mode: How each axis goes on beyond its ends, as in :func:`scipy.ndimage.gaussian_filter`:
            ``"constant"``, ``"nearest"``, ``"reflect"``, ``"mirror"`` or ``"wrap"``.
        cval: The value outside, for ``mode="constant"``.
        truncate: The radius in standard deviations, > 0.
        kernel: ``"sampled"`` or ``"integrated"``.

    Returns:
        Tensor of the input's shape. Differentiable, to any order, with respect to ``input``.

    Raises:
        TypeError: ``input`` is no tensor, or complex.
        ValueError: An argument is out of its range; the message names it.

    Example:
        >>> import torch
        >>> impulse = torch.zeros(5); impulse[2] = 1.0
        >>> gaussian_filter(impulse, 0.5, kernel="integrated")
        tensor([0.0013, 0.1573, 0.6827, 0.1573, 0.0013])

    """
    if not isinstance(input, Tensor):
        raise TypeError(f"input: expected a torch.Tensor, got {type(input).__name__}")
    sigmas = numbers("sigma", sigma)
    if not isinstance(sigmas, tuple):
        sigmas = (sigmas,) * input.ndim
    reach = number("truncate", truncate)
    outside = number("cval", cval)
    _check(input, sigmas, mode, outside, reach, kernel, KERNELS)
    arguments = (sigmas, mode, outside, reach, kernel)
    if undispatched(input):
        return _run(input, *arguments)
    result: Tensor = torch.ops.marginseg.gaussian_filter(input, *arguments)
    return result


def _check(
    input: Tensor,
    sigma: Sequence[float],
    mode: str,
    cval: float,
    truncate: float,
    kernel: str,
    kernels: Sequence[str] = (*KERNELS, ROOT),
) -> None:
    """Refuse what the core cannot filter. The ops call it too: nothing else guards its memory."""
    if input.dtype not in FLOATING_DTYPES and input.dtype not in LABEL_DTYPES:
        raise TypeError(
            f"input: expected {listed((*FLOATING_DTYPES, *LABEL_DTYPES))}, got {input.dtype}"
        )
    if not 1 <= len(sigma) <= 3 or len(sigma) > input.ndim:
        raise ValueError(
            f"sigma: expected one number for 1 to 3 axes or a sequence of 1 to 3 numbers, got "
            f"{len(sigma)} for an input of {input.ndim} axes"
        )
    # Comparisons alone: a compiler that follows them goes on, where math.isfinite would stop it.
    if not 0 < truncate < math.inf:
        raise ValueError(f"truncate: expected a finite number > 0, got {truncate}")
    for s in sigma:
        if not 0 <= s < math.inf:
            raise ValueError(f"sigma: expected finite numbers >= 0, got {list(sigma)}")
    if kernel not in kernels:
        raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    checked_mode(mode)
    # Where nothing lies outside, kernels are made no longer than the axes are.
    if not (mode == "constant" and cval == 0.0) and max(sigma) * truncate > LONGEST_RADIUS:
        raise ValueError(
            f"sigma: expected kernels of up to {LONGEST_RADIUS} voxels to each side, got "
            f"{list(sigma)} with truncate {truncate}"
        )


def kernel_radius(sigma: float, truncate: float) -> int:
    """Return how many voxels the kernel reaches to each side; 0 for sigma 0.

    Example:
        >>> kernel_radius(1.5, 4.0)
        6

    """
    return int(min(truncate * sigma, 2.0**53) + 0.5)


@lru_cache(maxsize=256)
def half_kernel(
    sigma: float, truncate: float, kernel: str, longest: int | None = None
) -> np.ndarray[Any, Any]:
    """Return the weights w[0..radius] of the symmetric kernel, in float64, read-only.

    Besides the public kernels there is ``"root"``, for fields: `root_kernel` of the length scale
    ``sigma`` and the tolerance ``truncate``.

    Args:
        sigma: In voxels, > 0.
        truncate: The radius in standard deviations.
        kernel: Which one.
        longest: No more than w[0..longest] are asked for. They are those of the whole kernel,
            which is not made where it is longer.

    Example:
        >>> half_kernel(1.0, 1.0, "sampled").round(4)
        array([0.4519, 0.2741])

    """
    if kernel == ROOT:
        return root_kernel(sigma, truncate)
    radius = kernel_radius(sigma, truncate)
    count = 1 + (radius if longest is None else min(radius, longest))
    scale = sigma * math.sqrt(2.0)
    if kernel == "sampled":
        weights = np.exp(-0.5 * (np.arange(count) / sigma) ** 2)
    else:
        # One by one: they are few, and importing SciPy for them takes a second.
        weights = 0.5 * np.diff([math.erf((edge - 0.5) / scale) for edge in range(count + 1)])
    if count > radius:
        total = weights[0] + 2.0 * weights[1:].sum()
    elif kernel == "integrated":
        total = math.erf((radius + 0.5) / scale)
    elif radius <= MOST_ADDED:
        total = 1.0 + 2.0 * np.exp(-0.5 * (np.arange(1, radius + 1) / sigma) ** 2).sum()
    else:
        # So many samples add up to the integral, to rounding.
        total = math.sqrt(2.0 * math.pi) * sigma * math.erf((radius + 0.5) / scale)
    weights /= total
    weights.setflags(write=False)
    return weights


def exactly_added(half: np.ndarray[Any, Any], digits: int) -> np.ndarray[Any, Any]:
    r"""Round weights so that sums of them are exact in numbers of so many binary digits.

    Multiples of :math:`2^{-digits}` that sum to 1 have partial sums that are multiples too, up to
    1: none of them is rounded. What becomes a multiple is not each weight but the mass on one side,
    :math:`\sum_{i \ge k} w_i`, so that a filtered step, which has no more than that, is right to
    half a unit however long the kernel is. Each weight is right to one unit.

    Args:
        half: w[0], ..., w[r] in float64 of a symmetric kernel of sum 1, which may go on after w[r].
        digits: Of the numbers that are added: 24 in float32, 53 in float64.

    Returns:
        The weights, float64, read-only.

    Example:
        >>> import numpy as np
        >>> exactly_added(np.array([0.5, 0.2, 0.05]), 3)
        array([0.5 , 0.25, 0.  ])

    """
    unit = 2.0**-digits
    beyond = 0.5 * (1.0 - half[0]) - half[1:].sum()
    if beyond < 1e-14:  # what rounding leaves of a kernel that ends there
        beyond = 0.0
    outer = np.concatenate([half[1:], [beyond]])[::-1].cumsum()[::-1]
    outer = np.round(outer / unit) * unit
    weights = np.concatenate([[1.0 - 2.0 * outer[0]], outer[:-1] - outer[1:]])
    weights.setflags(write=False)
    return weights


library.define(
    "gaussian_filter(Tensor input, float[] sigma, str mode, float cval, float truncate, str kernel)"
    " -> Tensor"
)
library.define(
    "gaussian_filter_adjoint(Tensor input, float[] sigma, str mode, float truncate, str kernel)"
    " -> Tensor"
)


#: The weights of an axis that is not filtered.
_IDENTITY = np.ones(1)


class _Plan(NamedTuple):
    """What the core needs of a shape and a kernel. ``weights`` keeps ``addresses`` valid."""

    batch: int
    sizes: tuple[int, ...]
    weights: list[np.ndarray[Any, Any]]
    addresses: list[int]
    radii: list[int]


@lru_cache(maxsize=256)
def _plan(
    shape: tuple[int, ...],
    sigma: tuple[float, ...],
    truncate: float,
    kernel: str,
    digits: int,
    *,
    zero_outside: bool,
) -> _Plan:
    first = len(shape) - len(sigma)
    missing = 3 - len(sigma)
    # No two voxels are further apart than an axis is long, and beyond its ends there is nothing.
    # (A kernel of one weight would be no filter at all to the core.)
    longest = [max(1, size - 1) if zero_outside else None for size in shape[first:]]
    halves = [
        half_kernel(s, truncate, kernel, most) if s else _IDENTITY
        for s, most in zip(sigma, longest, strict=True)
    ]
    if kernel != ROOT:  # whose squares sum to 1
        halves = [exactly_added(half, digits) for half in halves]
    weights = [_IDENTITY] * missing + halves
    return _Plan(
        math.prod(shape[:first]),
        (1,) * missing + shape[first:],
        weights,
        [w.ctypes.data for w in weights],
        [len(w) - 1 for w in weights],
    )


def _forward(
    input: Tensor,
    sigma: Sequence[float],
    mode: str,
    cval: float,
    truncate: float,
    kernel: str,
) -> Tensor:
    _check(input, sigma, mode, cval, truncate, kernel)
    return _run(input, sigma, mode, cval, truncate, kernel)


def _run(
    input: Tensor,
    sigma: Sequence[float],
    mode: str,
    cval: float,
    truncate: float,
    kernel: str,
) -> Tensor:
    core = core_of(input)
    if input.dtype in BYTE_DTYPES and 0.0 <= cval <= 255.0 and cval == int(cval):
        source, dtype = input.contiguous(), torch.float32
    else:
        dtype = core.stored(_result_dtype(input.dtype))
        source = input.to(dtype).contiguous()
    output = torch.empty(input.shape, dtype=dtype, device=input.device)
    if output.numel():
        plan = _plan(
            tuple(input.shape),
            tuple(sigma),
            truncate,
            kernel,
            DIGITS[computing_dtype(dtype)],
            zero_outside=mode == "constant" and cval == 0.0,
        )
        core.run(
            core.kernels.gaussian_filter,
            input.device,
            source.data_ptr(),
            DTYPE_CODES[source.dtype],
            output.data_ptr(),
            DTYPE_CODES[dtype],
            plan.batch,
            plan.sizes,
            plan.addresses,
            plan.radii,
            MODES[mode],
            cval,
        )
    wanted = _result_dtype(input.dtype)
    return output if dtype is wanted else output.to(wanted)


def _adjoint(
    input: Tensor, sigma: Sequence[float], mode: str, truncate: float, kernel: str
) -> Tensor:
    """Apply the transposed map.

    The kernel is symmetric, so with zeros outside it is the filter itself. For other modes, filter
    onto the extended array and add what lands beyond the ends to the voxels it was copied from.
    """
    _check(input, sigma, mode, 0.0, truncate, kernel)
    if mode == "constant" or not input.numel():
        return _run(input, sigma, mode, 0.0, truncate, kernel)
    radii = [len(half_kernel(s, truncate, kernel)) - 1 if s else 0 for s in sigma]
    padding = [width for radius in reversed(radii) for width in (radius, radius)]
    padded = torch.nn.functional.pad(input.to(computing_dtype(input.dtype)), padding)
    spread = _run(padded, sigma, "constant", 0.0, truncate, kernel)
    for axis, radius in enumerate(radii, start=-len(radii)):
        spread = _folded(spread, axis, input.shape[axis], radius, mode)
    return spread.to(_result_dtype(input.dtype))


def _folded(spread: Tensor, axis: int, size: int, radius: int, mode: str) -> Tensor:
    """Add each position of an extended axis to the voxel that stands there.

    A run at a time: what `index_add_` sums on a GPU depends on the order of its threads.
    """
    shape = list(spread.shape)
    shape[axis] = size
    folded = spread.new_zeros(shape)
    begin = 0
    sources = [_source(position, size, mode) for position in range(-radius, size + radius)]
    for first, step, length in _runs(sources):
        part = spread.narrow(axis, begin, length)
        begin += length
        if step == 0:
            folded.narrow(axis, first, 1).add_(part.sum(axis, keepdim=True))
        elif step == 1:
            folded.narrow(axis, first, length).add_(part)
        else:
            folded.narrow(axis, first - length + 1, length).add_(part.flip(axis))
    return folded


def _source(position: int, size: int, mode: str) -> int:
    """Return which voxel stands at a position of an extended axis."""
    if mode == "nearest":
        return min(max(position, 0), size - 1)
    if mode == "wrap":
        return position % size
    repeated = 1 if mode == "reflect" else 0  # whether the voxel at an end stands there twice
    period = max(2 * size - 2 + 2 * repeated, 1)
    phase = position % period
    return phase if phase < size else period - repeated - phase


def _runs(values: list[int]) -> Iterator[tuple[int, int, int]]:
    """Split integers into runs of one step, -1, 0 or 1; yield first value, step and length."""
    begin = 0
    while begin < len(values):
        end, step = begin + 1, 1
        if end < len(values) and abs(values[end] - values[begin]) <= 1:
            step = values[end] - values[begin]
            while end < len(values) and values[end] - values[end - 1] == step:
                end += 1
        yield values[begin], step, end - begin
        begin = end


def _result_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.float32


def _fake(
    input: Tensor,
    sigma: Sequence[float],
    mode: str,
    cval: float,
    truncate: float,
    kernel: str,
) -> Tensor:
    _check(input, sigma, mode, cval, truncate, kernel)
    return input.new_empty(input.shape, dtype=_result_dtype(input.dtype))


def _adjoint_fake(
    input: Tensor, sigma: Sequence[float], mode: str, truncate: float, kernel: str
) -> Tensor:
    return _fake(input, sigma, mode, 0.0, truncate, kernel)


# The filter is linear but for what cval adds, and so are its derivatives.


def _remember(ctx: Any, arguments: tuple[Any, ...], output: Tensor) -> None:
    _, sigma, mode, _, truncate, kernel = arguments
    ctx.arguments = sigma, mode, truncate, kernel


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    filtered = torch.ops.marginseg.gaussian_filter_adjoint(gradient, *ctx.arguments)
    return filtered, None, None, None, None, None


def _tangent(arguments: Arguments, tangents: Arguments) -> Tensor:
    _, sigma, mode, _, truncate, kernel = arguments
    filtered: Tensor = torch.ops.marginseg.gaussian_filter(
        tangents[0], sigma, mode, 0.0, truncate, kernel
    )
    return filtered


def _adjoint_remember(ctx: Any, arguments: tuple[Any, ...], output: Tensor) -> None:
    ctx.arguments = arguments[1:]


def _adjoint_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    sigma, mode, truncate, kernel = ctx.arguments
    filtered = torch.ops.marginseg.gaussian_filter(gradient, sigma, mode, 0.0, truncate, kernel)
    return filtered, None, None, None, None


def _adjoint_tangent(arguments: Arguments, tangents: Arguments) -> Tensor:
    filtered: Tensor = torch.ops.marginseg.gaussian_filter_adjoint(tangents[0], *arguments[1:])
    return filtered


implement("gaussian_filter", _forward)
torch.library.register_fake("marginseg::gaussian_filter", _fake, lib=library)
differentiable("gaussian_filter", backward=_backward, remember=_remember, tangent=_tangent)
batched("gaussian_filter", leading_batch("gaussian_filter"))

implement("gaussian_filter_adjoint", _adjoint)
torch.library.register_fake("marginseg::gaussian_filter_adjoint", _adjoint_fake, lib=library)
differentiable(
    "gaussian_filter_adjoint",
    backward=_adjoint_backward,
    remember=_adjoint_remember,
    tangent=_adjoint_tangent,
)
batched("gaussian_filter_adjoint", leading_batch("gaussian_filter_adjoint"))
