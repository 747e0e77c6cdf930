"""Segmentations that are optimal under a probability map."""

from __future__ import annotations

import torch
from torch import Tensor

from marginseg.ops.boundary import FLOATING_DTYPES
from marginseg.ops.dice_threshold import dice_threshold

METRICS = ("dice", "accuracy")


def optimal_threshold(
    probabilities: Tensor, metric: str = "dice", *, spatial_dims: int | None = None
) -> Tensor:
    r"""Return the threshold whose segmentation {m >= t} is optimal under the marginals m.

    t* = sup D / 2 <= ½ for Dice, for each map; ½ for Accuracy.

    Args:
        probabilities: m, shape (*leading, *spatial), floating, within [0, 1].
        metric: ``"dice"`` or ``"accuracy"``.
        spatial_dims: How many trailing axes are one map; the default is all. Leading axes are
            cases and classes, each with a threshold of its own.

    Returns:
        float64 tensor of the leading shape.

    Raises:
        TypeError: ``probabilities`` is no floating tensor.
        ValueError: It holds NaN or values outside [0, 1], or an argument is out of its range.

    Example:
        >>> import torch
        >>> float(optimal_threshold(torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)))
        0.3333333333333333

    """
    n = _checked(probabilities, metric, spatial_dims)
    if metric == "accuracy":
        leading = probabilities.shape[: probabilities.ndim - n]
        return torch.full(leading, 0.5, dtype=torch.float64, device=probabilities.device)
    if n == 0:
        return dice_threshold(probabilities.reshape(1), spatial_dims=1).threshold.reshape(())
    return dice_threshold(probabilities, spatial_dims=n).threshold


def optimal_segmentation(
    probabilities: Tensor, metric: str = "dice", *, spatial_dims: int | None = None
) -> Tensor:
    r"""Return the segmentation that is optimal under the marginals m, as bools.

    {m >= t*} maximises :math:`D_m`, {m >= ½} maximises :math:`A_m` (Definitions 3 and 4). The
    comparison is exact in the map's own dtype. A map without mass is segmented as empty.

    Args:
        probabilities: m, shape (*leading, *spatial), floating, within [0, 1].
        metric: ``"dice"`` or ``"accuracy"``.
        spatial_dims: How many trailing axes are one map; the default is all. Leading axes are
            cases and classes, each cut at its own threshold.

    Returns:
        bool tensor of the map's shape.

    Raises:
        TypeError: ``probabilities`` is no floating tensor.
        ValueError: It holds NaN or values outside [0, 1], or an argument is out of its range.

    Example:
        >>> import torch
        >>> m = torch.tensor([0.9, 0.4, 0.4, 0.1])
        >>> optimal_segmentation(m)
        tensor([ True,  True,  True, False])
        >>> optimal_segmentation(m, "accuracy")
        tensor([ True, False, False, False])

    """
    n = _checked(probabilities, metric, spatial_dims)
    threshold = optimal_threshold(probabilities, metric, spatial_dims=spatial_dims)
    cut = _rounded_up(threshold, probabilities.dtype)
    return probabilities >= cut.reshape((*threshold.shape, *(1,) * n))


def _rounded_up(threshold: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the smallest number of ``dtype`` that is not below ``threshold``.

    m >= t asks the same of every m of that dtype; t rounded to the nearest could be below t.
    """
    rounded = threshold.to(dtype)
    above = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
    return torch.where(rounded.double() < threshold, above, rounded)


def _checked(probabilities: Tensor, metric: str, spatial_dims: int | None) -> int:
    if not isinstance(probabilities, Tensor):
        kind = type(probabilities).__name__
        raise TypeError(f"probabilities: expected a torch.Tensor, got {kind}")
    if probabilities.dtype not in FLOATING_DTYPES:
        raise TypeError(f"probabilities: expected a floating dtype, got {probabilities.dtype}")
    if metric not in METRICS:
        raise ValueError(f"metric: expected dice or accuracy, got {metric!r}")
    n = probabilities.ndim if spatial_dims is None else spatial_dims
    if not (n == probabilities.ndim or 1 <= n <= probabilities.ndim):
        raise ValueError(f"spatial_dims: expected 1 to {probabilities.ndim}, got {spatial_dims}")
    if probabilities.numel():
        low, high = (float(bound) for bound in torch.aminmax(probabilities.detach()))
        if not (low >= 0.0 and high <= 1.0):  # NaN fails too
            raise ValueError(
                f"probabilities: expected values within [0, 1], got {low:g} to {high:g}"
            )
    return n
