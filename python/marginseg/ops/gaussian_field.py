"""Stationary Gaussian fields, sampled exactly from few coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marginseg.ops.axis_factor import axis_factor, takes_kernels
from marginseg.ops.boundary import DTYPE_CODES, computing_dtype, core_of
from marginseg.ops.constants import Constants
from marginseg.ops.gaussian_filter import half_kernel
from marginseg.ops.library import implement, library, undispatched

METHODS = ("exact", "convolution")

#: The share of the variance that the low-rank factors may miss at any voxel, by dtype.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def gaussian_field(
    shape: Sequence[int],
    std: float | Sequence[float],
    length_scale: float | Sequence[float],
    *,
    generator: torch.Generator | None = None,
    method: str = "exact",
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
        generator: Source of the normals; on the same device. The default is torch's.
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
        >>> generator = torch.Generator().manual_seed(0)
        >>> field = gaussian_field((32, 48), std=1.5, length_scale=8.0, generator=generator)
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
        device = (source if source is not None else torch.empty(0)).device
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
        amplitude = torch.tensor(stds, dtype=computing, device=device)
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
    if coefficients is None and len(set(std)) == 1 and math.prod(expected) >= _FILLED_BY_VECTORS:
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
        torch.from_numpy(axis_factor(size, scale, TOLERANCE[dtype])).to(device, dtype)
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
    sizes = [int(size) for size in shape]
    if not 1 <= len(sizes) <= 3 or min(sizes, default=0) < 1:
        raise ValueError(f"shape: expected 1 to 3 sizes >= 1, got {tuple(shape)}")
    return sizes


def _per_axis(
    name: str, value: float | Sequence[float], n: int, *, positive: bool
) -> tuple[float, ...]:
    values: tuple[float, ...]
    if isinstance(value, float) and math.isfinite(value) and value > 0:
        return (value,) * n
    values = (float(value),) * n if isinstance(value, int | float) else tuple(map(float, value))
    if len(values) != n:
        raise ValueError(f"{name}: expected one number or {n}, got {len(values)}")
    if not all(math.isfinite(v) and (v > 0 if positive else v >= 0) for v in values):
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
        """Return noise of the padded sizes, filtered, with variance 1."""
        norm = math.prod(math.sqrt(k[0] ** 2 + 2.0 * (k[1:] ** 2).sum()) for k in self._halves())
        field: Tensor = torch.ops.marginseg.gaussian_filter(
            noise, self.widths, "constant", 0.0, self.cut, self.kind, math.inf
        )
        for axis, (size, radius) in enumerate(zip(sizes, self._radii(), strict=True)):
            field = field.narrow(axis - len(sizes), radius, size)
        return field.contiguous() if norm == 1.0 else field / norm

    def _halves(self) -> list[np.ndarray[Any, Any]]:
        return [half_kernel(width, self.cut, self.kind) for width in self.widths]

    def _radii(self) -> list[int]:
        return [len(half) - 1 for half in self._halves()]


library.define("gaussian_field(Tensor coefficients, Tensor[] factors) -> Tensor")


def _field_shape(coefficients: Tensor, factors: Sequence[Tensor]) -> tuple[int, ...]:
    n = len(factors)
    return (*coefficients.shape[: coefficients.ndim - n], *(f.shape[0] for f in factors))


def _forward(coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
    if not 1 <= len(factors) <= 3:
        raise ValueError(f"factors: expected 1 to 3 matrices, got {len(factors)}")
    return _run(*_checked(coefficients, factors))


def _checked(coefficients: Tensor, factors: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    ranks = [factor.shape[1] for factor in factors]
    if list(coefficients.shape[-len(ranks) :]) != ranks:
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
        core_of(coefficients, factors=factor)
    return coefficients.contiguous(), [factor.contiguous() for factor in factors]


def _run(coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
    shape = _field_shape(coefficients, factors)
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
    return coefficients.new_empty(_field_shape(coefficients, factors))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, list[None]]:
    # X is linear in the coefficients: the adjoint is the same expansion by the transposed factors.
    transposed = [factor.t() for factor in ctx.saved_tensors]
    return torch.ops.marginseg.gaussian_field(gradient, transposed), [None] * len(transposed)


implement("gaussian_field", _forward)
torch.library.register_fake("marginseg::gaussian_field", _fake, lib=library)
torch.library.register_autograd(
    "marginseg::gaussian_field", _backward, setup_context=_remember, lib=library
)
