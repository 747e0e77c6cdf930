"""Segmentations that are optimal under a probability map."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from marginseg.numbers import integer, number
from marginseg.ops.boundary import FLOATING_DTYPES
from marginseg.ops.dice_threshold import dice_threshold, refuse_improbable
from marginseg.ops.library import readable, transformed
from marginseg.ops.overlap import beta_of


def optimal_threshold(
    probabilities: Tensor,
    metric: str = "dice",
    *,
    beta: float | None = None,
    spatial_dims: int | None = None,
) -> Tensor:
    r"""Return the threshold whose segmentation {m >= t} is optimal under the marginals m.

    For each map :math:`t^* = \sup D / 2 \le 1/2` for Dice and IoU, whose best segmentation is the
    same, and :math:`\sup F_\beta / (1 + \beta^2)` for F_beta; ½ for Accuracy.

    Args:
        probabilities: m, shape (*leading, *spatial), floating, within [0, 1].
        metric: ``"dice"``, ``"iou"``, ``"fbeta"`` or ``"accuracy"``.
        beta: How much recall counts beside precision, within [1e-9, 1e9], where the metric is
            ``"fbeta"``; None for any other.
        spatial_dims: How many trailing axes are one map; the default is all. Leading axes are
            cases and classes, each with a threshold of its own.

    Returns:
        float64 tensor of the leading shape.

    Raises:
        TypeError: ``probabilities`` is no floating tensor.
        ValueError: It holds NaN or values outside [0, 1], or an argument is out of its range. On a
            GPU the host waits to look at the values; in a compiled function, under vmap and while
            a CUDA graph is captured it does not look.

    Example:
        >>> import torch
        >>> float(optimal_threshold(torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)))
        0.3333333333333333

    """
    n, beta = _checked(probabilities, metric, beta, spatial_dims)
    return _threshold(probabilities, metric, n, beta)


def optimal_segmentation(
    probabilities: Tensor,
    metric: str = "dice",
    *,
    beta: float | None = None,
    spatial_dims: int | None = None,
) -> Tensor:
    r"""Return the segmentation that is optimal under the marginals m, as bools.

    {m >= t*} maximises :math:`D_m`, or IoU or :math:`F_\beta` at their own t*; {m >= ½} maximises
    :math:`A_m` (Definitions 3 and 4). The comparison is exact in the map's own dtype. A map without
    mass is segmented as empty.

    Args:
        probabilities: m, shape (*leading, *spatial), floating, within [0, 1].
        metric: ``"dice"``, ``"iou"``, ``"fbeta"`` or ``"accuracy"``.
        beta: As for :func:`optimal_threshold`.
        spatial_dims: How many trailing axes are one map; the default is all. Leading axes are
            cases and classes, each cut at its own threshold.

    Returns:
        bool tensor of the map's shape.

    Raises:
        TypeError: ``probabilities`` is no floating tensor.
        ValueError: It holds NaN or values outside [0, 1], or an argument is out of its range. On a
            GPU the host waits to look at the values; in a compiled function, under vmap and while
            a CUDA graph is captured it does not look.

    Example:
        >>> import torch
        >>> m = torch.tensor([0.9, 0.4, 0.4, 0.1])
        >>> optimal_segmentation(m)
        tensor([ True,  True,  True, False])
        >>> optimal_segmentation(m, "accuracy")
        tensor([ True, False, False, False])
        >>> optimal_segmentation(m, "fbeta", beta=3)
        tensor([True, True, True, True])

    """
    n, beta = _checked(probabilities, metric, beta, spatial_dims)
    # Bools: their derivative is 0 wherever there is one.
    values = probabilities.detach() if transformed() else probabilities
    return _cut(values, _threshold(values, metric, n, beta))


def cut(probabilities: Tensor, threshold: Tensor | float) -> Tensor:
    r"""Return the segmentation {m >= t}, as bools.

    The comparison is exact, whatever the map's dtype: a threshold that the dtype cannot hold is
    rounded up, for rounded to the nearest it could let a value in between slip in. So whoever wants
    t* and the segmentation solves a map once, and cuts it at what was found.

    Args:
        probabilities: m, shape (*leading, *spatial), floating.
        threshold: t, one number for all maps, or a tensor of the leading shape: each map is cut at
            its own. NaN cuts a map as empty.

    Returns:
        bool tensor of the map's shape, on its device.

    Raises:
        TypeError: ``probabilities`` is no floating tensor.
        ValueError: ``threshold`` has another shape than the leading one.

    Example:
        >>> import torch
        >>> m = torch.tensor([[0.9, 0.4, 0.4, 0.1], [0.2, 0.2, 0.0, 0.0]])
        >>> best = dice_threshold(m, spatial_dims=1)
        >>> cut(m, best.threshold)
        tensor([[ True,  True,  True, False],
                [ True,  True, False, False]])

    """
    _check_floating(probabilities)
    if isinstance(threshold, Tensor):
        leading = tuple(threshold.shape)
        if tuple(probabilities.shape[: len(leading)]) != leading:
            raise ValueError(
                f"threshold: expected one number, or one for each of the first axes of "
                f"{tuple(probabilities.shape)}, got shape {leading}"
            )
    return _cut(probabilities, threshold)


def _threshold(probabilities: Tensor, metric: str, n: int, beta: float) -> Tensor:
    if metric == "accuracy":
        leading = probabilities.shape[: probabilities.ndim - n]
        return torch.full(leading, 0.5, dtype=torch.float64, device=probabilities.device)
    if n == 0:
        alone = dice_threshold(probabilities.reshape(1), spatial_dims=1, beta=beta)
        return alone.threshold.reshape(())
    return dice_threshold(probabilities, spatial_dims=n, beta=beta).threshold


# m >= t asks the same of every m of a dtype as m >= c, c the smallest number of that dtype that is
# not below t.


def _cut(probabilities: Tensor, threshold: Tensor | float) -> Tensor:
    dtype = probabilities.dtype
    if isinstance(threshold, Tensor) and (
        threshold.ndim > 0 or not threshold.is_cpu or not readable(threshold)
    ):
        spatial = (1,) * (probabilities.ndim - threshold.ndim)
        bounds = _rounded_up(threshold.double(), dtype).to(probabilities.device)
        return probabilities >= bounds.reshape((*threshold.shape, *spatial))
    # A number needs no tensor: on a GPU nothing has to be copied there.
    return probabilities >= _rounded_up_number(number("threshold", threshold), dtype)


def _rounded_up(threshold: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = threshold.to(dtype)
    above = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
    return torch.where(rounded.double() < threshold, above, rounded)


#: Rounding one number takes NumPy less time than torch, which makes tensors of one element for it.
_NUMPY_DTYPES: dict[torch.dtype, type[np.floating[Any]]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
}


def _rounded_up_number(threshold: float, dtype: torch.dtype) -> float:
    kind = _NUMPY_DTYPES.get(dtype)
    if kind is None or abs(threshold) > 1e38:  # NumPy warns where a cast overflows
        return float(_rounded_up(torch.tensor(threshold, dtype=torch.float64, device="cpu"), dtype))
    rounded = float(kind(threshold))
    return rounded if rounded >= threshold else float(np.nextafter(kind(threshold), kind(np.inf)))


def _checked(
    probabilities: Tensor, metric: str, beta: float | None, spatial_dims: int | None
) -> tuple[int, float]:
    """Return how many axes are spatial, and beta, which is 1 where there is none."""
    _check_floating(probabilities)
    weighed = beta_of(metric, beta)
    n = probabilities.ndim
    if spatial_dims is not None:
        n = integer("spatial_dims", spatial_dims)
    if not (n == probabilities.ndim or 1 <= n <= probabilities.ndim):
        raise ValueError(f"spatial_dims: expected 1 to {probabilities.ndim}, got {spatial_dims}")
    refuse_improbable("probabilities", probabilities)
    return n, weighed


def _check_floating(probabilities: Tensor) -> None:
    if not isinstance(probabilities, Tensor):
        kind = type(probabilities).__name__
        raise TypeError(f"probabilities: expected a torch.Tensor, got {kind}")
    if probabilities.dtype not in FLOATING_DTYPES:
        raise TypeError(f"probabilities: expected a floating dtype, got {probabilities.dtype}")
