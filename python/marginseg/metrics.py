"""Accuracy and Dice (Definitions 3 and 4) against soft labels, volumes, and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor

from marginseg.arrays import Array, as_tensor, like
from marginseg.axes import spatial_axes
from marginseg.numbers import integer
from marginseg.values import within_unit


def accuracy(segmentation: Array, marginal: Array, *, spatial_dims: int | None = None) -> Array:
    r"""Return :math:`A_m(s) = \int sm + (1-s)(1-m)` (Definition 3).

    Args:
        segmentation: s, shape (*leading, *spatial): bool, 0 and 1, or soft.
        marginal: m of the same shape, within [0, 1]: a label or marginals.
        spatial_dims: How many trailing axes are one map; the default is all, up to three (see
            :func:`marginseg.axes.spatial_axes`).

    Returns:
        float64 tensor of the leading shape; a NumPy array of NumPy arrays.

    Raises:
        ValueError: The shapes differ, values are outside [0, 1] or NaN (label maps of several
            classes: give each its mask), or ``spatial_dims`` is needed or out of its range. On a
            GPU the host waits to look at values that are no bools; in a compiled function, under
            vmap and while a CUDA graph is captured it does not look.

    Example:
        >>> import torch
        >>> accuracy(torch.tensor([1, 0]), torch.tensor([0.75, 0.25])).item()
        0.75

    """
    s, m, axes = _checked(segmentation, marginal, spatial_dims, names="segmentation marginal")
    return like(segmentation, (s * m + (1.0 - s) * (1.0 - m)).mean(dim=axes))


def dice(segmentation: Array, marginal: Array, *, spatial_dims: int | None = None) -> Array:
    r"""Return :math:`D_m(s) = 2\int sm\,/\,(\|s\|_1 + \|m\|_1)` (Definition 4); 1 if both are 0.

    Args:
        segmentation: s, shape (*leading, *spatial): bool, 0 and 1, or soft.
        marginal: m of the same shape, within [0, 1]: a label or marginals.
        spatial_dims: How many trailing axes are one map; the default is all, up to three (see
            :func:`marginseg.axes.spatial_axes`).

    Returns:
        float64 tensor of the leading shape; a NumPy array of NumPy arrays.

    Raises:
        ValueError: As for :func:`accuracy`.

    Example:
        >>> import torch
        >>> dice(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0])).item()
        0.6666666666666666
        >>> dice(torch.zeros(3), torch.zeros(3)).item()
        1.0

    """
    s, m, axes = _checked(segmentation, marginal, spatial_dims, names="segmentation marginal")
    volume = s.sum(dim=axes) + m.sum(dim=axes)
    empty = volume == 0
    overlap = 2.0 * (s * m).sum(dim=axes)
    return like(segmentation, torch.where(empty, 1.0, overlap / torch.where(empty, 1.0, volume)))


def volume_ratio(segmentation: Array, label: Array, *, spatial_dims: int | None = None) -> Array:
    r"""Return :math:`\|s\|_1 / \|l\|_1`: above 1 the segmentation is too large.

    Args:
        segmentation: s, shape (*leading, *spatial).
        label: l of the same shape.
        spatial_dims: How many trailing axes are one map; the default is all, up to three (see
            :func:`marginseg.axes.spatial_axes`).

    Returns:
        float64 tensor of the leading shape, 1 if both are empty, infinite if only the label is; a
        NumPy array of NumPy arrays.

    Raises:
        ValueError: As for :func:`accuracy`.

    Example:
        >>> import torch
        >>> volume_ratio(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0])).item()
        2.0

    """
    s, m, axes = _checked(segmentation, label, spatial_dims, names="segmentation label")
    ratio = s.sum(dim=axes) / m.sum(dim=axes)
    return like(segmentation, torch.where(ratio.isnan(), 1.0, ratio))


def volume_bias(segmentation: Array, label: Array, *, spatial_dims: int | None = None) -> Array:
    r"""Return :math:`\|s\|_1 - \|l\|_1`, as a fraction of the domain.

    Args:
        segmentation: s, shape (*leading, *spatial).
        label: l (or m) of the same shape.
        spatial_dims: How many trailing axes are one map; the default is all, up to three (see
            :func:`marginseg.axes.spatial_axes`).

    Returns:
        float64 tensor of the leading shape, within [-1, 1]; a NumPy array of NumPy arrays.

    Raises:
        ValueError: As for :func:`accuracy`.

    Example:
        >>> import torch
        >>> volume_bias(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 0, 0])).item()
        0.25

    """
    s, m, axes = _checked(segmentation, label, spatial_dims, names="segmentation label")
    return like(segmentation, (s - m).mean(dim=axes))


@dataclass(frozen=True)
class CalibrationCurve(Generic[Array]):
    """What a map promises, and what it holds, by bins of equal width of its probabilities.

    Curves of several maps add up, field by field. In bin b the map promised ``promised / count`` on
    average, and ``held / count`` of the voxels were foreground.

    Attributes:
        count: Voxels in each bin, shape (bins,), float64; tensors, or NumPy arrays of NumPy arrays.
        promised: Sum of their probabilities c.
        held: Sum of their marginals m, or labels.

    """

    count: Array
    promised: Array
    held: Array


def calibration_curve(
    probabilities: Array, marginal: Array, *, bins: int = 15
) -> CalibrationCurve[Array]:
    """Sort the voxels into bins by their probability, and sum up what they promise and hold.

    Args:
        probabilities: c, within [0, 1].
        marginal: m of the same shape, a label or marginals.
        bins: Number of bins of [0, 1], >= 1.

    Raises:
        ValueError: The shapes differ, a value is outside [0, 1] or NaN, or ``bins`` < 1.

    Example:
        >>> import torch
        >>> c = torch.tensor([0.25, 0.25, 0.75, 0.75])
        >>> curve = calibration_curve(c, torch.tensor([0, 1, 1, 1]), bins=2)
        >>> (curve.promised / curve.count).tolist(), (curve.held / curve.count).tolist()
        ([0.25, 0.75], [0.5, 1.0])

    """
    bins = integer("bins", bins)
    if not 1 <= bins < 2**31:
        raise ValueError(f"bins: expected at least 1, and less than 2^31, got {bins}")
    c, m = _values("probabilities marginal", probabilities, marginal)
    place = (c.flatten() * bins).long().clamp_max(bins - 1)

    def summed(values: Tensor) -> Array:
        empty = torch.zeros(bins, dtype=torch.float64, device=c.device)
        return like(probabilities, empty.index_add_(0, place, values.flatten()))

    return CalibrationCurve(summed(torch.ones_like(c)), summed(c), summed(m))


def expected_calibration_error(probabilities: Array, marginal: Array, *, bins: int = 15) -> Array:
    r"""Return :math:`\sum_b |B_b|\,|\bar c_b - \bar m_b|\,/\,N` over bins of equal width.

    How far predicted probabilities are, on average, from how often the voxel is foreground.

    Args:
        probabilities: c, within [0, 1].
        marginal: m of the same shape, a label or marginals.
        bins: Number of bins of [0, 1], >= 1.

    Returns:
        0-dim float64 tensor, within [0, 1], 0 for no voxels; a NumPy array of NumPy arrays.

    Raises:
        ValueError: The shapes differ, a value is outside [0, 1] or NaN, or ``bins`` < 1.

    Example:
        >>> import torch
        >>> c = torch.tensor([0.25, 0.25, 0.25, 0.25], dtype=torch.float64)
        >>> expected_calibration_error(c, torch.tensor([1, 0, 0, 0])).item()
        0.0
        >>> expected_calibration_error(c, torch.tensor([1, 1, 0, 0])).item()
        0.25

    """
    c, m = as_tensor("probabilities", probabilities), as_tensor("marginal", marginal)
    curve = calibration_curve(c, m, bins=bins)
    error = (curve.promised - curve.held).abs().sum() / max(1, c.numel())
    return like(probabilities, error)


def _checked(
    first: Any, second: Any, spatial_dims: int | None, *, names: str
) -> tuple[Tensor, Tensor, list[int]]:
    """Return both as float64, and the spatial axes; ``names`` are those of the arguments."""
    s, m = _values(names, first, second)
    # None of them would be a sum over no axis, which torch takes for a sum over all.
    n = spatial_axes(s.shape, spatial_dims, least=min(1, s.ndim))
    return s, m, [*range(s.ndim - n, s.ndim)]


def _values(names: str, first: Any, second: Any) -> tuple[Tensor, Tensor]:
    """Return two arrays of one shape, within [0, 1], as float64."""
    name, other = names.split()
    s, m = as_tensor(name, first), as_tensor(other, second)
    for argument, values in ((name, s), (other, m)):
        if values.is_complex():
            raise TypeError(f"{argument}: expected real numbers, got {values.dtype}")
    if s.shape != m.shape:
        raise ValueError(
            f"{other}: expected the first argument's shape {tuple(s.shape)}, got {tuple(m.shape)}"
        )
    return within_unit(name, s).double(), within_unit(other, m).double()
