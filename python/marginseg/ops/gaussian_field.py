"""Stationary Gaussian fields, sampled exactly from few coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from marginseg.numbers import integer, integers, numbers
from marginseg.ops.axis_factor import TOLERANCE, axis_factor, made_axis_factor
from marginseg.ops.boundary import DTYPE_CODES, check_devices, computing_dtype, core_of
from marginseg.ops.constants import Constants
from marginseg.ops.gaussian_filter import half_kernel
from marginseg.ops.library import implement, library, undispatched
from marginseg.ops.root_kernel import takes_kernels
from marginseg.ops.transforms import (
    Arguments,
    batched,
    differentiable,
    leading_size,
    one_by_one,
)
from marginseg.values import transformed

Method = Literal["exact", "convolution"]
METHODS: tuple[Method, ...] = ("exact", "convolution")


def gaussian_field(
    shape: Sequence[int],
    std: float | Sequence[float],
    length_scale: float | Sequence[float],
    *,
    generator: torch.Generator | int | None = None,
    method: Method = "exact",
    batch_shape: Sequence[int] = (),
    coefficients: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Draw a displacement: one centred Gaussian field for each of the n axes.

    Component i has the covariance :math:`a_i^2 \prod_j \exp(-(x_j - x'_j)^2 / 2 b_j^2)`, with
    a the ``std`` and b the ``length_scale``, up to the border.

    - ``"exact"``: the covariance is a product over axes, and each factor has a low numerical rank:
      :math:`X = (F_1 \otimes \dots \otimes F_n)\,\xi` with few normal coefficients ξ. The factors
      reproduce the variance to rounding and the covariance to 1e-6 (float32) or 1e-12 (float64).
      So does white noise filtered by the kernel that is the root of the covariance, which takes
      their place where a long axis has a length scale of a voxel or two.
    - ``"convolution"``: Theorem 3, white noise filtered by :math:`N(0, b^2/2)`. The noise is drawn
      beyond the border as far as the filter reaches, and scaled by the filter's discrete norm, so
      that the variance is a² to rounding everywhere. Slower; its covariance is that of the sampled
      kernel, which differs from the Gaussian one where b is about a voxel or less.

    Args:
        shape: The n = 1, 2 or 3 spatial sizes, in voxels.
        std: a, in voxels, >= 0; one number, or one for each component.
        length_scale: b, in voxels, > 0; one number, or one for each axis.
        generator: Source of the normals, on the same device, or the seed of one. The default is
            torch's.
        method: ``"exact"`` or ``"convolution"``.
        batch_shape: Draws this many independent displacements.
        coefficients: Instead of drawing them: ξ of shape (*batch_shape, n, *ranks), ranks from
            :func:`gaussian_field_ranks`, for ``"exact"``. The result is differentiable with
            respect to it, to any order.
        dtype: float32 or float64 (float16 and bfloat16 are computed in float32).
        device: Where; the default is the coefficients' or the generator's device, else torch's
            default. The same coefficients give the same field on every device, to rounding.

    Returns:
        Tensor of shape (*batch_shape, n, *shape), in voxels.

    In a CUDA graph: make the call once before the capture, which puts the factors on the GPU.

    Raises:
        TypeError: ``dtype`` is not floating.
        ValueError: An argument is out of its range; the message names it.

    Example:
        >>> import torch
        >>> field = gaussian_field((32, 48), std=1.5, length_scale=8.0, generator=0)
        >>> field.shape
        torch.Size([2, 32, 48])

    """
    sizes = _checked_shape(shape)
    n = len(sizes)
    stds = _per_axis("std", std, n, positive=False)
    scales = _per_axis("length_scale", length_scale, n, positive=True)
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if not dtype.is_floating_point:
        raise TypeError(f"dtype: expected a floating dtype, got {dtype}")
    if device is None:
        source = coefficients if coefficients is not None else generator
        device = (source if isinstance(source, Tensor | torch.Generator) else torch.empty(0)).device
    generator = seeded(generator, device)
    computing = computing_dtype(dtype)
    if method == "convolution" and coefficients is not None:
        raise ValueError('coefficients: expected none with method="convolution"')
    if method == "convolution" or takes_kernels(sizes, scales):
        kernels = (
            Kernels("sampled", tuple(scale / math.sqrt(2.0) for scale in scales), 4.0)
            if method == "convolution"
            else Kernels("root", scales, TOLERANCE[computing])
        )
        padded = (*batch_shape, n, *kernels.padded(sizes))
        noise = _normals(padded, coefficients, generator, computing, torch.device(device))
        norm = kernels.norm()
        amplitude = torch.tensor([a / norm for a in stds], dtype=computing, device=device)
        field = kernels.filtered(noise, sizes)
        field *= amplitude.reshape(n, *(1,) * n)
        return field.to(dtype)
    scaled, factors = draw_coefficients(
        sizes,
        stds,
        scales,
        generator=generator,
        batch_shape=batch_shape,
        coefficients=coefficients,
        dtype=computing,
        device=device,
    )
    if undispatched(scaled):
        # The scaled coefficients have the strides of those that were given; the core wants them
        # packed.
        field = _run(scaled.contiguous(), factors)
        return field if field.dtype is dtype else field.to(dtype)
    field = torch.ops.marginseg.gaussian_field(scaled, factors)
    return field.to(dtype)


def seeded(
    generator: torch.Generator | int | None, device: torch.device | str
) -> torch.Generator | None:
    """Return a generator on a device, made of a seed where one is given.

    Raises:
        TypeError: It is neither a generator nor an integer.
        ValueError: The seed is none that torch takes.

    Example:
        >>> seeded(7, "cpu").initial_seed()
        7

    """
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    seed = integer("generator", generator)
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"generator: expected a seed of -2^63 to 2^64 - 1, got {seed}")
    return torch.Generator(device).manual_seed(seed)


def draw_coefficients(
    shape: Sequence[int],
    std: tuple[float, ...],
    length_scale: tuple[float, ...],
    *,
    generator: torch.Generator | None,
    batch_shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str,
    coefficients: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Return the scaled coefficients ξ of a field, and its factors.

    Args:
        shape: The n spatial sizes.
        std: a of each component, in voxels.
        length_scale: b along each axis, in voxels.
        generator: Source of the normals.
        batch_shape: Of independent draws.
        dtype: float32 or float64.
        device: Where.
        coefficients: Standard normals, instead of drawing them.

    Returns:
        a ξ of shape (*batch_shape, n, *ranks), and n matrices (size, rank).

    """
    where = torch.device(device)
    amplitude, *factors = _constants(where, tuple(shape), std, length_scale, dtype)
    expected = (*batch_shape, len(factors), *[factor.shape[1] for factor in factors])
    # vmap draws for each of its entries, but not into memory that they share.
    one = not torch.compiler.is_compiling() and not transformed() and len(set(std)) == 1
    if coefficients is None and one and math.prod(expected) >= _FILLED_BY_VECTORS:
        drawn = torch.empty(expected, dtype=dtype, device=where)
        return drawn.normal_(0.0, std[0], generator=generator), factors
    return _normals(expected, coefficients, generator, dtype, where) * amplitude, factors


def _normals(
    shape: tuple[int, ...],
    given: Tensor | None,
    generator: torch.Generator | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Draw standard normals, or return those that were given, which must have the shape."""
    if given is None:
        return torch.randn(shape, generator=generator, dtype=dtype, device=device)
    if given.shape != shape:
        raise ValueError(f"coefficients: expected shape {shape}, got {tuple(given.shape)}")
    return given.to(device, dtype)


def _made_constants(
    device: torch.device,
    shape: tuple[int, ...],
    std: tuple[float, ...],
    length_scale: tuple[float, ...],
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """Return a, shaped as a factor of the coefficients, and the matrices F."""
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "gaussian_field: a CUDA graph is being captured, and the factors of this shape and "
            "length_scale are not on the GPU yet: make the call once before"
        )
    amplitude = torch.tensor(std, dtype=dtype, device=device).reshape(-1, *(1,) * len(std))
    factors = [
        made_axis_factor(size, scale, dtype, device)
        for size, scale in zip(shape, length_scale, strict=True)
    ]
    return amplitude, *factors


_constants = Constants(_made_constants)

#: From this many values on, torch fills a tensor with normals in vectors, and ``normal_(0, a)``
#: gives the same values as ``randn`` times a. Drawing them scaled saves an operation; for fewer
#: values torch takes another path, and the two would differ.
_FILLED_BY_VECTORS = 16


def gaussian_field_ranks(
    shape: Sequence[int],
    length_scale: float | Sequence[float],
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[int, ...]:
    """Return the number of coefficients along each axis of :func:`gaussian_field`.

    Args:
        shape: The n = 1, 2 or 3 spatial sizes, in voxels.
        length_scale: b, in voxels, > 0; one number, or one for each axis.
        dtype: The field's dtype; float64 asks for more coefficients.

    Example:
        >>> gaussian_field_ranks((64, 64, 64), length_scale=0.15 * 2**0.5 * 64)
        (11, 11, 11)

    """
    sizes = _checked_shape(shape)
    scales = _per_axis("length_scale", length_scale, len(sizes), positive=True)
    tolerance = TOLERANCE[computing_dtype(dtype)]
    if takes_kernels(sizes, scales):
        return Kernels("root", scales, tolerance).padded(sizes)
    return tuple(
        axis_factor(size, scale, tolerance).shape[1]
        for size, scale in zip(sizes, scales, strict=True)
    )


def _checked_shape(shape: Sequence[int]) -> list[int]:
    sizes = integers("shape", shape)
    if not 1 <= len(sizes) <= 3 or any(size < 1 for size in sizes):
        raise ValueError(f"shape: expected 1 to 3 sizes >= 1, got {sizes}")
    return list(sizes)


def _per_axis(
    name: str, value: float | Sequence[float], n: int, *, positive: bool
) -> tuple[float, ...]:
    if isinstance(value, float) and 0 < value < math.inf:
        return (value,) * n
    given = numbers(name, value)
    values = given if isinstance(given, tuple) else (given,) * n
    if len(values) != n:
        raise ValueError(f"{name}: expected one number or {n}, got {len(values)}")
    if not all(0 <= v < math.inf and (v > 0 or not positive) for v in values):
        bound = "> 0" if positive else ">= 0"
        raise ValueError(f"{name}: expected finite numbers {bound}, got {value}")
    return values


@dataclass(frozen=True)
class Kernels:
    """What white noise is filtered by, to become a field.

    Attributes:
        kind: Of `half_kernel`.
        widths: Its width along each axis.
        cut: Where it ends.

    """

    kind: str
    widths: tuple[float, ...]
    cut: float

    def padded(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the sizes of the noise, which goes on beyond the border as far as they reach."""
        return tuple(size + 2 * radius for size, radius in zip(sizes, self._radii(), strict=True))

    def filtered(self, noise: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return noise of the padded sizes, filtered; its deviation is :meth:`norm`."""
        field: Tensor = torch.ops.marginseg.gaussian_filter(
            noise, self.widths, "constant", 0.0, self.cut, self.kind
        )
        for axis, (size, radius) in enumerate(zip(sizes, self._radii(), strict=True)):
            field = field.narrow(axis - len(sizes), radius, size)
        return field.contiguous()

    def norm(self) -> float:
        """Return the standard deviation of white noise once it is filtered."""
        return math.prod(math.sqrt(k[0] ** 2 + 2.0 * (k[1:] ** 2).sum()) for k in self._halves())

    def _halves(self) -> list[np.ndarray[Any, Any]]:
        return [half_kernel(width, self.cut, self.kind) for width in self.widths]

    def _radii(self) -> list[int]:
        return [len(half) - 1 for half in self._halves()]


library.define("gaussian_field(Tensor coefficients, Tensor[] factors) -> Tensor")


def _field_shape(coefficients: Tensor, factors: Sequence[Tensor]) -> tuple[int, ...]:
    n = len(factors)
    return (*coefficients.shape[: coefficients.ndim - n], *(f.shape[0] for f in factors))


def _forward(coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
    _check(coefficients, factors)
    return _run(coefficients.contiguous(), [factor.contiguous() for factor in factors])


def _check(coefficients: Tensor, factors: Sequence[Tensor]) -> None:
    """Refuse what the core cannot expand."""
    n = len(factors)
    if not 1 <= n <= 3:
        raise ValueError(f"factors: expected 1 to 3 matrices, got {n}")
    if any(factor.ndim != 2 for factor in factors):
        shapes = [tuple(factor.shape) for factor in factors]
        raise ValueError(f"factors: expected matrices (size, rank), got shapes {shapes}")
    ranks = [factor.shape[1] for factor in factors]
    if list(coefficients.shape[-n:]) != ranks:
        raise ValueError(
            f"coefficients: expected the last sizes to be {ranks}, got {tuple(coefficients.shape)}"
        )
    if coefficients.dtype not in (torch.float32, torch.float64) or any(
        factor.dtype != coefficients.dtype for factor in factors
    ):
        raise TypeError(
            f"factors: expected the coefficients' dtype, float32 or float64, got "
            f"{[factor.dtype for factor in factors]} with {coefficients.dtype}"
        )
    for factor in factors:
        check_devices(coefficients, factors=factor)


def _run(coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
    shape = _field_shape(coefficients, factors)
    if not coefficients.numel():  # a sum of nothing
        return torch.zeros(shape, dtype=coefficients.dtype, device=coefficients.device)
    output = torch.empty(shape, dtype=coefficients.dtype, device=coefficients.device)
    if output.numel():
        n = len(factors)
        core = core_of(coefficients)
        core.run(
            core.kernels.gaussian_field,
            coefficients.device,
            coefficients.data_ptr(),
            output.data_ptr(),
            DTYPE_CODES[coefficients.dtype],
            math.prod(shape[:-n]),
            coefficients.shape[-n:],
            shape[-n:],
            [factor.data_ptr() for factor in factors],
        )
    return output


def _fake(coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
    _check(coefficients, factors)
    return coefficients.new_empty(_field_shape(coefficients, factors))


# X is linear in the coefficients, and in each of the factors.


def _remember(ctx: Any, arguments: tuple[Any, ...], output: Tensor) -> None:
    coefficients, factors = arguments
    ctx.save_for_backward(coefficients, *factors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    coefficients, *factors = ctx.saved_tensors
    # The adjoint is the same expansion by the transposed factors.
    transposed = [factor.t() for factor in factors]
    return torch.ops.marginseg.gaussian_field(gradient, transposed), [
        _factor_gradient(gradient, coefficients, factors, axis) if factor.requires_grad else None
        for axis, factor in enumerate(factors)
    ]


def _factor_gradient(
    gradient: Tensor, coefficients: Tensor, factors: Sequence[Tensor], axis: int
) -> Tensor:
    """Contract the gradient with what the coefficients are when all other axes are expanded."""
    rank = factors[axis].shape[1]
    unchanged = torch.eye(rank, dtype=gradient.dtype, device=gradient.device)
    others = [*factors[:axis], unchanged, *factors[axis + 1 :]]
    expanded = torch.ops.marginseg.gaussian_field(coefficients, others)

    def rows(values: Tensor) -> Tensor:
        last = values.movedim(axis - len(factors), -1)
        return last.reshape(leading_size(last, 1), last.shape[-1])

    return rows(gradient).t() @ rows(expanded)


def _tangent(arguments: Arguments, tangents: Arguments) -> Tensor:
    coefficients, factors = arguments
    expand = torch.ops.marginseg.gaussian_field
    terms = [] if tangents[0] is None else [expand(tangents[0], factors)]
    terms += [
        expand(coefficients, [*factors[:axis], moved, *factors[axis + 1 :]])
        for axis, moved in enumerate(tangents[1])
        if moved is not None
    ]
    total: Tensor = sum(terms[1:], start=terms[0])
    return total


def _batch(
    info: Any, in_dims: Arguments, coefficients: Tensor, factors: Sequence[Tensor]
) -> tuple[Tensor, int]:
    if any(dim is not None for dim in in_dims[1]):
        return one_by_one("gaussian_field", info, in_dims, (coefficients, factors))
    return torch.ops.marginseg.gaussian_field(coefficients.movedim(in_dims[0], 0), factors), 0


implement("gaussian_field", _forward)
torch.library.register_fake("marginseg::gaussian_field", _fake, lib=library)
differentiable("gaussian_field", backward=_backward, remember=_remember, tangent=_tangent)
batched("gaussian_field", _batch)
