"""Separable Gaussian filter, sampled like SciPy's or integrated over voxels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from marginseg.ops.axis_factor import root_kernel
from marginseg.ops.boundary import (
    BYTE_DTYPES,
    DTYPE_CODES,
    FLOATING_DTYPES,
    LABEL_DTYPES,
    MODES,
    checked_mode,
    computing_dtype,
    core_of,
)
from marginseg.ops.library import implement, library, undispatched

KERNELS = ("sampled", "integrated")


def gaussian_filter(
    input: Tensor,
    sigma: float | Sequence[float],
    *,
    mode: str = "constant",
    cval: float = 0.0,
    truncate: float = 4.0,
    kernel: str = "sampled",
    ceiling: float = math.inf,
) -> Tensor:
    r"""Filter the last one to three axes with a Gaussian.

    The kernel has radius ``int(truncate * sigma + 0.5)`` on each axis and sums to 1:

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
        ceiling: What rounding lifts above it becomes the ceiling: a weighted mean of values up to 1
            is no probability if its sum rounds to more. Derivatives take no notice of it.

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
    if input.dtype not in FLOATING_DTYPES and input.dtype not in LABEL_DTYPES:
        raise TypeError(f"input: expected a real dtype, got {input.dtype}")
    sigmas = _per_axis(sigma, input.ndim)
    if not (math.isfinite(truncate) and truncate > 0):
        raise ValueError(f"truncate: expected a finite number > 0, got {truncate}")
    if kernel not in KERNELS:
        raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    arguments = (sigmas, checked_mode(mode), float(cval), float(truncate), kernel, float(ceiling))
    if undispatched(input):
        return _forward(input, *arguments)
    result: Tensor = torch.ops.marginseg.gaussian_filter(input, *arguments)
    return result


def _per_axis(sigma: float | Sequence[float], ndim: int) -> tuple[float, ...]:
    if isinstance(sigma, int | float):
        sigmas: tuple[float, ...] = (float(sigma),) * ndim
    else:
        sigmas = tuple([float(s) for s in sigma])
    if not 1 <= len(sigmas) <= 3:
        raise ValueError(
            f"sigma: expected one number for 1 to 3 axes or a sequence of 1 to 3 numbers, got "
            f"{len(sigmas)} for an input of {ndim} axes"
        )
    if len(sigmas) > ndim:
        raise ValueError(f"sigma: {len(sigmas)} numbers for an input of {ndim} axes")
    if not all(math.isfinite(s) and s >= 0 for s in sigmas):
        raise ValueError(f"sigma: expected finite numbers >= 0, got {list(sigmas)}")
    return sigmas


def kernel_radius(sigma: float, truncate: float) -> int:
    """Return how many voxels the kernel reaches to each side; 0 for sigma 0.

    Example:
        >>> kernel_radius(1.5, 4.0)
        6

    """
    return int(truncate * sigma + 0.5)


@lru_cache(maxsize=256)
def half_kernel(sigma: float, truncate: float, kernel: str) -> np.ndarray[Any, Any]:
    """Return the weights w[0..radius] of the symmetric kernel, in float64, read-only.

    Besides the public kernels there is ``"root"``, for fields: `root_kernel` of the length scale
    ``sigma`` and the tolerance ``truncate``.

    Example:
        >>> half_kernel(1.0, 1.0, "sampled").round(4)
        array([0.4519, 0.2741])

    """
    if kernel == "root":
        return root_kernel(sigma, truncate)
    radius = kernel_radius(sigma, truncate)
    k = np.arange(radius + 1, dtype=np.float64)
    if kernel == "sampled":
        weights = np.exp(-0.5 * (k / sigma) ** 2)
    else:
        # One by one: they are few, and importing SciPy for them takes a second.
        scale = sigma * math.sqrt(2.0)
        edges = [math.erf((edge - 0.5) / scale) for edge in range(radius + 2)]
        weights = 0.5 * np.diff(edges)
    weights /= weights[0] + 2.0 * weights[1:].sum()
    weights.setflags(write=False)
    return weights


library.define(
    "gaussian_filter(Tensor input, float[] sigma, str mode, float cval, float truncate, str kernel,"
    " float ceiling) -> Tensor"
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
def _plan(shape: tuple[int, ...], sigma: tuple[float, ...], truncate: float, kernel: str) -> _Plan:
    first = len(shape) - len(sigma)
    missing = 3 - len(sigma)
    weights = [_IDENTITY] * missing + [
        half_kernel(s, truncate, kernel) if s else _IDENTITY for s in sigma
    ]
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
    ceiling: float,
) -> Tensor:
    core = core_of(input)
    if input.dtype in BYTE_DTYPES and 0.0 <= cval <= 255.0 and cval == int(cval):
        source, dtype = input.contiguous(), torch.float32
    else:
        dtype = core.stored(_result_dtype(input.dtype))
        source = input.to(dtype).contiguous()
    output = torch.empty(input.shape, dtype=dtype, device=input.device)
    if output.numel():
        plan = _plan(tuple(input.shape), tuple(sigma), truncate, kernel)
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
            ceiling,
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
    if mode == "constant":
        return _forward(input, sigma, mode, 0.0, truncate, kernel, math.inf)
    radii = [len(half_kernel(s, truncate, kernel)) - 1 if s else 0 for s in sigma]
    padding = [width for radius in reversed(radii) for width in (radius, radius)]
    padded = torch.nn.functional.pad(input.to(computing_dtype(input.dtype)), padding)
    spread = _forward(padded, sigma, "constant", 0.0, truncate, kernel, math.inf)
    for axis, radius in enumerate(radii, start=-len(radii)):
        spread = _folded(spread, axis, input.shape[axis], radius, mode)
    return spread.to(input.dtype)


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


def _fake(input: Tensor, *_: object) -> Tensor:
    return input.new_empty(input.shape, dtype=_result_dtype(input.dtype))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    # gaussian_filter has the arguments (input, sigma, mode, cval, truncate, kernel, ceiling), its
    # adjoint the same without cval and ceiling.
    options = inputs[4:6] if len(inputs) == 7 else inputs[3:5]
    ctx.arguments = (*inputs[1:3], *options)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    filtered = torch.ops.marginseg.gaussian_filter_adjoint(gradient, *ctx.arguments)
    return filtered, None, None, None, None, None, None


def _adjoint_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    sigma, mode, truncate, kernel = ctx.arguments
    filtered = torch.ops.marginseg.gaussian_filter(
        gradient, sigma, mode, 0.0, truncate, kernel, math.inf
    )
    return filtered, None, None, None, None


implement("gaussian_filter", _forward)
implement("gaussian_filter_adjoint", _adjoint)
for _name, _derivative in (
    ("gaussian_filter", _backward),
    ("gaussian_filter_adjoint", _adjoint_backward),
):
    torch.library.register_fake(f"marginseg::{_name}", _fake, lib=library)
    torch.library.register_autograd(
        f"marginseg::{_name}", _derivative, setup_context=_remember, lib=library
    )
