"""Segmentations that are optimal under a probability map."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.arrays import Array, as_tensor, like
from marginseg.axes import spatial_axes
from marginseg.numbers import number
from marginseg.ops.boundary import FLOATING_DTYPES
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.ops.overlap import Metric, beta_of
from marginseg.values import readable, transformed, within_unit


def optimal_threshold(
    probabilities: Array,
    metric: Metric = "dice",
    *,
    beta: float | None = None,
    spatial_dims: int | None = None,
) -> Array:
    r"""Return the threshold whose segmentation {m >= t} is optimal under the marginals m.

    For each map :math:`t^* = \sup D / 2 \le 1/2` for Dice and IoU, whose best segmentation is the
    same, and :math:`\sup F_\beta / (1 + \beta^2)` for F_beta; ½ for Accuracy.

    Args:
        probabilities: m, shape (*leading, *spatial), floating, within [0, 1].
        metric: ``"dice"``, ``"iou"``, ``"fbeta"`` or ``"accuracy"``.
        beta: How much recall counts beside precision, within [1e-9, 1e9], where the metric is
            ``"fbeta"``; None for any other.
        spatial_dims: How many trailing axes are one map; the default is all, up to three (see
            :func:`marginseg.axes.spatial_axes`). Leading axes are cases and classes, each with a
            threshold of its own.

    Returns:
        float64 tensor of the leading shape; a NumPy array of a NumPy array.

    Raises:
        TypeError: ``probabilities`` is no floating tensor or array.
        ValueError: It holds NaN or values outside [0, 1], or an argument is needed or out of its
            range. Values that only rounding has put outside (within four of the dtype's steps at
            1, of float32's for float64) count as 0 and 1. On a GPU the host waits to look at the
            values; in a compiled function, under vmap and while a CUDA graph is captured it does
            not look.

    Example:
        >>> import torch
        >>> float(optimal_threshold(torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)))
        0.3333333333333333

    """
    values, n, weighed = _checked(probabilities, metric, beta, spatial_dims)
    return like(probabilities, _threshold(values, metric, n, weighed))


def optimal_segmentation(
    probabilities: Array,
    metric: Metric = "dice",
    *,
    beta: float | None = None,
    spatial_dims: int | None = None,
) -> Array:
    r"""Return the segmentation that is optimal under the marginals m, as bools.

    {m >= t*} maximises :math:`D_m`, or IoU or :math:`F_\beta` at their own t*; {m >= ½} maximises
    :math:`A_m` (Definitions 3 and 4). The comparison is exact in the map's own dtype. A map without
    mass is segmented as empty.

    Args:
        probabilities: m, shape (*leading, *spatial), floating, within [0, 1].
        metric: ``"dice"``, ``"iou"``, ``"fbeta"`` or ``"accuracy"``.
        beta: As for :func:`optimal_threshold`.
        spatial_dims: How many trailing axes are one map; the default is all, up to three (see
            :func:`marginseg.axes.spatial_axes`). Leading axes are cases and classes, each cut at
            its own threshold: three axes are one volume, so that a batch of planes (N, H, W) needs
            2, or it is cut at one threshold.

    Returns:
        bool tensor of the map's shape; a NumPy array of a NumPy array.

    Raises:
        TypeError: As for :func:`optimal_threshold`.
        ValueError: As for :func:`optimal_threshold`.

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
    values, n, weighed = _checked(probabilities, metric, beta, spatial_dims)
    # Bools: their derivative is 0 wherever there is one.
    values = values.detach() if transformed() else values
    return like(probabilities, _cut(values, _threshold(values, metric, n, weighed)))


def cut(probabilities: Array, threshold: Tensor | NDArray[Any] | float) -> Array:
    r"""Return the segmentation {m >= t}, as bools.

    The comparison is exact, whatever the map's dtype: a threshold that the dtype cannot hold is
    rounded up, for rounded to the nearest it could let a value in between slip in. So whoever wants
    t* and the segmentation solves a map once, and cuts it at what was found.

    Args:
        probabilities: m, shape (*leading, *spatial), floating.
        threshold: t, one number for all maps, or a tensor or array of the leading shape: each map
            is cut at its own. NaN cuts a map as empty.

    Returns:
        bool tensor of the map's shape, on its device; a NumPy array of a NumPy array.

    Raises:
        TypeError: ``probabilities`` is no floating tensor or array.
        ValueError: ``threshold`` has another shape than the leading one.

    Example:
        >>> import torch
        >>> m = torch.tensor([[0.9, 0.4, 0.4, 0.1], [0.2, 0.2, 0.0, 0.0]])
        >>> best = dice_threshold(m, spatial_dims=1)
        >>> cut(m, best.threshold)
        tensor([[ True,  True,  True, False],
                [ True,  True, False, False]])

    """
    values = _floating(probabilities)
    if isinstance(threshold, np.ndarray) and threshold.ndim:
        threshold = as_tensor("threshold", threshold)
    if isinstance(threshold, Tensor):
        leading = tuple(threshold.shape)
        if tuple(values.shape[: len(leading)]) != leading:
            raise ValueError(
                f"threshold: expected one number, or one for each of the first axes of "
                f"{tuple(values.shape)}, got shape {leading}"
            )
    return like(probabilities, _cut(values, threshold))


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


def _cut(probabilities: Tensor, threshold: Tensor | NDArray[Any] | float) -> Tensor:
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
    probabilities: Any, metric: str, beta: float | None, spatial_dims: int | None
) -> tuple[Tensor, int, float]:
    """Return values within [0, 1], how many axes are spatial, and beta: 1 where there is none."""
    values, weighed = _floating(probabilities), beta_of(metric, beta)
    n = spatial_axes(values.shape, spatial_dims, least=min(1, values.ndim))
    return within_unit("probabilities", values), n, weighed


def _floating(probabilities: Any) -> Tensor:
    values = as_tensor("probabilities", probabilities)
    if values.dtype not in FLOATING_DTYPES:
        raise TypeError(f"probabilities: expected a floating dtype, got {values.dtype}")
    return values
