"""How much of a volume a deformation folds over, of a displacement or of a field's coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from marginseg.ops.boundary import DTYPE_CODES, check_devices, computing_dtype, core_of
from marginseg.ops.library import implement, library, undispatched
from marginseg.ops.transforms import Arguments, batched, not_differentiable, one_by_one

#: Values of the displacement that are differentiated at a time.
VOXELS_AT_ONCE = 1 << 21


def folded_share(displacement: Tensor, *, spatial_dims: int | None = None) -> Tensor:
    r"""Return the share of voxels where ω ↦ ω + X(ω) folds over: det(I + ∇X) <= 0.

    A deformation that folds is no longer a redrawn border: parts of the label appear mirrored.
    With a = 0.06, b = 0.15·√2 has 0.3 % of folded points, b = 0.15/√2 has 18.6 %.

    For the samples of a noise model, :meth:`marginseg.GaussianFieldNoise.sample_folded` gives the
    same share without the displacement, in a fraction of the time.

    Args:
        displacement: (*leading, n, *spatial), in voxels, n = 1, 2, 3. Gradients are central
            differences, one-sided at the border; an axis of one voxel has gradient 0.
        spatial_dims: n; the default is the largest that fits the shape.

    Returns:
        float64 tensor of the leading shape, within [0, 1].

    Raises:
        TypeError: ``displacement`` is not floating.
        ValueError: The shape is not that of a displacement.

    Example:
        >>> import torch
        >>> folded_share(torch.zeros(2, 8, 8)).item()
        0.0
        >>> mirrored = -2.0 * torch.arange(8.0).expand(1, 8)
        >>> folded_share(mirrored).item()
        1.0

    """
    if not displacement.is_floating_point():
        raise TypeError(f"displacement: expected a floating dtype, got {displacement.dtype}")
    displacement = displacement.to(computing_dtype(displacement.dtype))
    shape = tuple(displacement.shape)
    possible = (3, 2, 1) if spatial_dims is None else (spatial_dims,)
    n = next((k for k in possible if len(shape) > k > 0 and shape[-k - 1] == k), None)
    if n is None:
        raise ValueError(f"displacement: expected shape (..., n, *spatial), got {shape}")
    planes = shape[-n]
    voxels = math.prod(shape[-n:])
    # A few planes at a time: the derivatives take n² times the memory of a component.
    step = max(1, VOXELS_AT_ONCE * planes // max(1, displacement.numel()))
    count = torch.zeros(shape[: -n - 1], dtype=torch.float64, device=displacement.device)
    for begin in range(0, planes, step):
        end = min(planes, begin + step)
        # With the neighbours that the differences along this axis ask for.
        first, last = max(0, begin - 1), min(planes, end + 1)
        determinant = _determinant(displacement.narrow(-n, first, last - first), n)
        folded = determinant.narrow(-n, begin - first, end - begin) <= 0
        count += folded.sum(dim=[*range(-n, 0)])
    return count / voxels


def _determinant(displacement: Tensor, n: int) -> Tensor:
    """Return det(I + ∇X) at each voxel, (*leading, *spatial)."""
    axes = range(n)
    components = displacement.unbind(-n - 1)
    jacobian = [
        [
            (
                torch.gradient(component, dim=axis - n)[0]
                if component.shape[axis - n] > 1
                else torch.zeros_like(component)
            )
            + (1.0 if axis == row else 0.0)
            for axis in axes
        ]
        for row, component in enumerate(components)
    ]
    if n == 1:
        return jacobian[0][0]
    if n == 2:
        (a, b), (c, d) = jacobian
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = jacobian
    return a * (e * i - f * h) - d * (b * i - c * h) + g * (b * f - c * e)


def folded_share_from_coefficients(coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
    r"""Return the :func:`folded_share` of :math:`X = (F_1 \otimes \dots \otimes F_n)\,\xi`.

    X is never made. Its central difference along axis j is a field of the same kind, with the
    differences of F_j's rows in the place of F_j, one-sided at the ends:

    .. math:: \partial_j X_i = (F_1 \otimes \dots \otimes D_j \otimes \dots \otimes F_n)\,\xi_i

    The derivatives are evaluated row by row, and each voxel's det(I + ∇X) is taken at once. A
    voxel whose determinant is within a rounding of 0 may count or not; one whose determinant is
    NaN does not count.

    Args:
        coefficients: ξ, (*leading, n, *ranks), float32 or float64, in voxels, n = 1, 2 or 3.
        factors: The n matrices F_i, (size, rank), of the coefficients' dtype, not empty.

    Returns:
        float64 tensor of the leading shape, within [0, 1]; not differentiable.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape or a device does not fit; the message names it.

    Example:
        >>> import torch
        >>> factor = torch.arange(8.0).reshape(8, 1)  # X(ω) = ξ ω
        >>> folded_share_from_coefficients(torch.tensor([[[-2.0]], [[-0.5]]]), [factor])
        tensor([1., 0.], dtype=torch.float64)

    """
    if undispatched(coefficients, *factors):
        return _forward(coefficients, factors)
    result: Tensor = torch.ops.marginseg.folded_share(coefficients, factors)
    return result


def _check(coefficients: Tensor, factors: Sequence[Tensor]) -> None:
    n = len(factors)
    if not 1 <= n <= 3:
        raise ValueError(f"factors: expected 1 to 3 matrices, got {n}")
    if coefficients.dtype not in (torch.float32, torch.float64) or any(
        factor.dtype != coefficients.dtype for factor in factors
    ):
        raise TypeError(
            f"coefficients and factors: expected one dtype, float32 or float64, got "
            f"{coefficients.dtype} and {[factor.dtype for factor in factors]}"
        )
    shapes = [tuple(factor.shape) for factor in factors]
    if any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise ValueError(f"factors: expected matrices (size, rank), both >= 1, got {shapes}")
    given = tuple(coefficients.shape)
    if given[-n - 1 :] != (n, *(rank for _, rank in shapes)):
        raise ValueError(
            f"coefficients: expected shape (*leading, {n}, *ranks) for factors {shapes}, "
            f"got {given}"
        )
    for factor in factors:
        check_devices(coefficients, factors=factor)


library.define("folded_share(Tensor coefficients, Tensor[] factors) -> Tensor")


def _forward(coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
    _check(coefficients, factors)
    drawn = coefficients.contiguous()
    matrices = [factor.contiguous() for factor in factors]
    shares = _shares(drawn, len(factors))
    if shares.numel():
        core = core_of(drawn)
        core.run(
            core.kernels.folded_share,
            drawn.device,
            drawn.data_ptr(),
            shares.data_ptr(),
            DTYPE_CODES[drawn.dtype],
            shares.numel(),
            drawn.shape[-len(matrices) :],
            [len(matrix) for matrix in matrices],
            [matrix.data_ptr() for matrix in matrices],
        )
    return shares


def _shares(coefficients: Tensor, n: int) -> Tensor:
    leading = coefficients.shape[: coefficients.ndim - n - 1]
    return coefficients.new_empty(leading, dtype=torch.float64)


def _fake(coefficients: Tensor, factors: Sequence[Tensor]) -> Tensor:
    _check(coefficients, factors)
    return _shares(coefficients, len(factors))


def _batch(
    info: Any, in_dims: Arguments, coefficients: Tensor, factors: Sequence[Tensor]
) -> tuple[Tensor, int]:
    if any(dim is not None for dim in in_dims[1]):
        return one_by_one("folded_share", info, in_dims, (coefficients, factors))
    return torch.ops.marginseg.folded_share(coefficients.movedim(in_dims[0], 0), factors), 0


implement("folded_share", _forward)
torch.library.register_fake("marginseg::folded_share", _fake, lib=library)
not_differentiable("folded_share")
batched("folded_share", _batch)
