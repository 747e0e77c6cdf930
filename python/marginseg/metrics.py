"""Accuracy and Dice (Definitions 3 and 4) against soft labels, volumes, and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from marginseg.numbers import integer


def accuracy(segmentation: Tensor, marginal: Tensor, *, spatial_dims: int | None = None) -> Tensor:
    r"""Return :math:`A_m(s) = \int sm + (1-s)(1-m)` (Definition 3).

    Args:
        segmentation: s, shape (*leading, *spatial): bool, 0 and 1, or soft.
        marginal: m of the same shape, within [0, 1]: a label or marginals.
        spatial_dims: How many trailing axes are one map; the default is all.

    Returns:
        float64 tensor of the leading shape.

    Raises:
        ValueError: The shapes differ, or ``spatial_dims`` is out of its range.

    Example:
        >>> import torch
        >>> accuracy(torch.tensor([1, 0]), torch.tensor([0.75, 0.25])).item()
        0.75

    """
    s, m, axes = _checked(segmentation, marginal, spatial_dims, names="segmentation marginal")
    return (s * m + (1.0 - s) * (1.0 - m)).mean(dim=axes)


def dice(segmentation: Tensor, marginal: Tensor, *, spatial_dims: int | None = None) -> Tensor:
    r"""Return :math:`D_m(s) = 2\int sm\,/\,(\|s\|_1 + \|m\|_1)` (Definition 4); 1 if both are 0.

    Args:
        segmentation: s, shape (*leading, *spatial): bool, 0 and 1, or soft.
        marginal: m of the same shape, within [0, 1]: a label or marginals.
        spatial_dims: How many trailing axes are one map; the default is all.

    Returns:
        float64 tensor of the leading shape.

    Raises:
        ValueError: The shapes differ, or ``spatial_dims`` is out of its range.

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
    return torch.where(empty, 1.0, overlap / torch.where(empty, 1.0, volume))


def volume_ratio(segmentation: Tensor, label: Tensor, *, spatial_dims: int | None = None) -> Tensor:
    r"""Return :math:`\|s\|_1 / \|l\|_1`: above 1 the segmentation is too large.

    Args:
        segmentation: s, shape (*leading, *spatial).
        label: l of the same shape.
        spatial_dims: How many trailing axes are one map; the default is all.

    Returns:
        float64 tensor of the leading shape; 1 if both are empty, infinite if only the label is.

    Raises:
        ValueError: The shapes differ, or ``spatial_dims`` is out of its range.

    Example:
        >>> import torch
        >>> volume_ratio(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0])).item()
        2.0

    """
    s, m, axes = _checked(segmentation, label, spatial_dims, names="segmentation label")
    ratio = s.sum(dim=axes) / m.sum(dim=axes)
    return torch.where(ratio.isnan(), 1.0, ratio)


def volume_bias(segmentation: Tensor, label: Tensor, *, spatial_dims: int | None = None) -> Tensor:
    r"""Return :math:`\|s\|_1 - \|l\|_1`, as a fraction of the domain.

    Args:
        segmentation: s, shape (*leading, *spatial).
        label: l (or m) of the same shape.
        spatial_dims: How many trailing axes are one map; the default is all.

    Returns:
        float64 tensor of the leading shape, within [-1, 1].

    Raises:
        ValueError: The shapes differ, or ``spatial_dims`` is out of its range.

    Example:
        >>> import torch
        >>> volume_bias(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 0, 0])).item()
        0.25

    """
    s, m, axes = _checked(segmentation, label, spatial_dims, names="segmentation label")
    return (s - m).mean(dim=axes)


@dataclass(frozen=True)
class CalibrationCurve:
    """What a map promises, and what it holds, by bins of equal width of its probabilities.

    Curves of several maps add up, field by field. In bin b the map promised ``promised / count`` on
    average, and ``held / count`` of the voxels were foreground.

    Attributes:
        count: Voxels in each bin, shape (bins,), float64.
        promised: Sum of their probabilities c.
        held: Sum of their marginals m, or labels.

    """

    count: Tensor
    promised: Tensor
    held: Tensor


def calibration_curve(
    probabilities: Tensor, marginal: Tensor, *, bins: int = 15
) -> CalibrationCurve:
    """Sort the voxels into bins by their probability, and sum up what they promise and hold.

    Args:
        probabilities: c, within [0, 1].
        marginal: m of the same shape, a label or marginals.
        bins: Number of bins of [0, 1], >= 1.

    Raises:
        ValueError: The shapes differ, a probability is outside [0, 1], or ``bins`` < 1.

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
    c, m, _ = _checked(probabilities, marginal, None, names="probabilities marginal")
    if not bool(((c >= 0) & (c <= 1)).all()):
        raise ValueError("probabilities: expected values within [0, 1]")
    place = (c.flatten() * bins).long().clamp_max(bins - 1)

    def summed(values: Tensor) -> Tensor:
        empty = torch.zeros(bins, dtype=torch.float64, device=c.device)
        return empty.index_add_(0, place, values.flatten())

    return CalibrationCurve(summed(torch.ones_like(c)), summed(c), summed(m))


def expected_calibration_error(
    probabilities: Tensor, marginal: Tensor, *, bins: int = 15
) -> Tensor:
    r"""Return :math:`\sum_b |B_b|\,|\bar c_b - \bar m_b|\,/\,N` over bins of equal width.

    How far predicted probabilities are, on average, from how often the voxel is foreground.

    Args:
        probabilities: c, within [0, 1].
        marginal: m of the same shape, a label or marginals.
        bins: Number of bins of [0, 1], >= 1.

    Returns:
        0-dim float64 tensor, within [0, 1]; 0 for no voxels.

    Raises:
        ValueError: The shapes differ, a probability is outside [0, 1], or ``bins`` < 1.

    Example:
        >>> import torch
        >>> c = torch.tensor([0.25, 0.25, 0.25, 0.25], dtype=torch.float64)
        >>> expected_calibration_error(c, torch.tensor([1, 0, 0, 0])).item()
        0.0
        >>> expected_calibration_error(c, torch.tensor([1, 1, 0, 0])).item()
        0.25

    """
    curve = calibration_curve(probabilities, marginal, bins=bins)
    return (curve.promised - curve.held).abs().sum() / max(1, probabilities.numel())


def _checked(
    first: Tensor, second: Tensor, spatial_dims: int | None, *, names: str
) -> tuple[Tensor, Tensor, list[int]]:
    """Return both as float64, and the spatial axes; ``names`` are those of the arguments."""
    for name, value in zip(names.split(), (first, second), strict=True):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
        if value.is_complex():
            raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
    if first.shape != second.shape:
        raise ValueError(
            f"{names.split()[1]}: expected the first argument's shape {tuple(first.shape)}, "
            f"got {tuple(second.shape)}"
        )
    n = first.ndim if spatial_dims is None else integer("spatial_dims", spatial_dims)
    if not 0 <= n <= first.ndim:
        raise ValueError(f"spatial_dims: expected 0 to {first.ndim}, got {spatial_dims}")
    return first.double(), second.double(), [*range(first.ndim - n, first.ndim)]
