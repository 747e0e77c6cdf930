"""Labels deformed by low-rank Gaussian fields that never reach memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from marginseg.ops.boundary import DTYPE_CODES, LABEL_DTYPES, check_devices, core_of, listed
from marginseg.ops.library import implement, library, undispatched
from marginseg.ops.transforms import Arguments, batched, in_front, one_by_one

INTERPOLATIONS = ("nearest", "linear")


def sample(
    label: Tensor, coefficients: Tensor, factors: Sequence[Tensor], *, interpolation: str
) -> Tensor:
    r"""Return out(ω) = label(ω + X(ω)), 0 outside, with :math:`X = (F_1 \otimes \dots)\,\xi`.

    The same as :func:`marginseg.warp` of the label by the displacement that
    :func:`marginseg.gaussian_field` makes of the coefficients, bit for bit. But X is evaluated row
    by row where it is needed: a row of voxels that no displacement can bring to a voxel other
    than 0 is not computed.

    Args:
        label: (*batch, *channel, *spatial), bool or integer, n = 1, 2 or 3 spatial axes.
        coefficients: ξ, (samples, *batch, n, *ranks), float32, in voxels.
        factors: The n matrices F_i, (size, rank), float32, with rows of norm 1.
        interpolation: ``"nearest"`` or ``"linear"``, as for :func:`marginseg.warp`.

    Returns:
        Tensor of shape (samples, *label.shape), of the label's dtype.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape or the interpolation does not fit; the message names it.

    Example:
        >>> import torch
        >>> label = torch.tensor([0, 0, 1, 1, 0])
        >>> sample(label, torch.tensor([[[1.0]]]), [torch.ones(5, 1)], interpolation="nearest")
        tensor([[0, 1, 1, 0, 0]])

    """
    if undispatched(label, coefficients, *factors):
        return _forward(label, coefficients, factors, interpolation)
    result: Tensor = torch.ops.marginseg.sample(label, coefficients, factors, interpolation)
    return result


def _check(
    label: Tensor, coefficients: Tensor, factors: Sequence[Tensor], interpolation: str
) -> None:
    n = len(factors)
    if not 1 <= n <= 3:
        raise ValueError(f"factors: expected 1 to 3 matrices, got {n}")
    if label.dtype not in LABEL_DTYPES:
        raise TypeError(f"label: expected {listed(LABEL_DTYPES)}, got {label.dtype}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation: expected nearest or linear, got {interpolation!r}")
    if {coefficients.dtype, *[factor.dtype for factor in factors]} != {torch.float32}:
        raise TypeError(
            f"coefficients and factors: expected float32, got {coefficients.dtype} and "
            f"{[factor.dtype for factor in factors]}"
        )
    shape, given = label.shape, coefficients.shape
    if max(shape[-n:], default=0) >= 2**31:
        raise ValueError(f"label: expected axes of less than 2^31 voxels, got {tuple(shape)}")
    batch = len(given) - n - 2
    fits = 0 <= batch <= len(shape) - n and all(factor.ndim == 2 for factor in factors)
    if fits:
        sizes, ranks = zip(*(factor.shape for factor in factors), strict=True)
        fits = given[1:] == (*shape[:batch], n, *ranks) and shape[-n:] == sizes
        if 0 in ranks:
            raise ValueError(f"factors: expected at least one column each, got {ranks}")
    if not fits:
        raise ValueError(
            f"coefficients: expected shape (samples, *batch, {n}, *ranks) for a label of shape "
            f"{tuple(shape)} and factors {[tuple(factor.shape) for factor in factors]}, "
            f"got {tuple(given)}"
        )
    check_devices(label, coefficients=coefficients)
    for factor in factors:
        check_devices(label, factors=factor)


library.define(
    "sample(Tensor label, Tensor coefficients, Tensor[] factors, str interpolation) -> Tensor"
)


def _forward(
    label: Tensor, coefficients: Tensor, factors: Sequence[Tensor], interpolation: str
) -> Tensor:
    _check(label, coefficients, factors, interpolation)
    core = core_of(label)
    n = len(factors)
    shape = label.shape
    batch = coefficients.ndim - n - 2
    source = label.contiguous()
    drawn = coefficients.contiguous()
    matrices = [factor.contiguous() for factor in factors]
    output = torch.empty((drawn.shape[0], *shape), dtype=label.dtype, device=label.device)
    if output.numel():
        core.run(
            core.kernels.sample,
            label.device,
            source.data_ptr(),
            DTYPE_CODES[label.dtype],
            drawn.data_ptr(),
            output.data_ptr(),
            drawn.shape[0],
            math.prod(shape[:batch]),
            math.prod(shape[batch:-n]),
            shape[-n:],
            interpolation == "linear",
            drawn.shape[-n:],
            [matrix.data_ptr() for matrix in matrices],
        )
    return output


def _fake(
    label: Tensor, coefficients: Tensor, factors: Sequence[Tensor], interpolation: str
) -> Tensor:
    _check(label, coefficients, factors, interpolation)
    return label.new_empty((coefficients.shape[0], *label.shape))


def _batch(
    info: Any,
    in_dims: Arguments,
    label: Tensor,
    coefficients: Tensor,
    factors: Sequence[Tensor],
    interpolation: str,
) -> tuple[Tensor, int]:
    op = torch.ops.marginseg.sample
    if any(dim is not None for dim in in_dims[2]):
        arguments = (label, coefficients, factors, interpolation)
        return one_by_one("sample", info, in_dims, arguments)
    if in_dims[1] is None:
        # Channels share a field: the batch becomes one, behind the batch axes that have their own.
        place = coefficients.ndim - len(factors) - 2
        labels = label.movedim(in_dims[0], place)
        return op(labels, coefficients, factors, interpolation), place + 1
    drawn = coefficients.movedim(in_dims[1], 1)
    labels = in_front(label, in_dims[0], info.batch_size)
    return op(labels, drawn, factors, interpolation), 1


implement("sample", _forward)
torch.library.register_fake("marginseg::sample", _fake, lib=library)
batched("sample", _batch)
