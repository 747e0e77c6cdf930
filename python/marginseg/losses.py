"""Cross-entropy and soft-Dice (Definitions 1 and 2), for soft labels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from marginseg.numbers import integer
from marginseg.values import within_unit

Reduction = Literal["mean", "none"]
REDUCTIONS: tuple[Reduction, ...] = ("mean", "none")


def cross_entropy(
    prediction: Tensor, marginal: Tensor, *, logits: bool = True, reduction: Reduction = "mean"
) -> Tensor:
    r"""Return :math:`CE_m(c) = -\int m \log c + (1-m)\log(1-c)` (Definition 1).

    It is minimised by c = m: a network trained with it predicts the marginals.

    Args:
        prediction: c as logits, or as probabilities, floating. Computed in float32 at least.
        marginal: m of the same shape, within [0, 1]; any real dtype (labels too).
        logits: Whether ``prediction`` holds logits.
        reduction: ``"mean"`` over all voxels, or ``"none"``.

    Returns:
        0-dim tensor, or the prediction's shape. Probabilities of 0 and 1 cost at most 100 a voxel
        where they are wrong, as in torch, so that the gradient stays finite.

    Raises:
        TypeError: An argument is no tensor, or ``prediction`` is not floating.
        ValueError: The shapes differ, ``reduction`` is unknown, or probabilities are NaN or outside
            [0, 1] by more than rounding: on a GPU the host waits to look at them, not at logits.

    Example:
        >>> import torch
        >>> m = torch.tensor([1.0, 0.5])
        >>> round(float(cross_entropy(m, m, logits=False)), 4)  # the entropy of m
        0.3466

    """
    computed, marginal = _checked(prediction, marginal, reduction)
    if logits:
        return nn.functional.binary_cross_entropy_with_logits(
            computed, marginal, reduction=reduction
        )
    # What is a rounding outside depends on the dtype that was given.
    computed = within_unit("prediction", prediction).to(computed.dtype)
    # Autocast refuses this function; outside of it float32 is used as is.
    with torch.autocast(prediction.device.type, enabled=False):
        return nn.functional.binary_cross_entropy(computed, marginal, reduction=reduction)


def soft_dice(
    prediction: Tensor,
    marginal: Tensor,
    *,
    logits: bool = True,
    spatial_dims: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Return :math:`SD_m(c) = 1 - 2\int cm\,/\,(\|c\|_1 + \|m\|_1)` (Definition 2).

    This form is linear in c above and below, and so it is minimised by a *segmentation*, namely
    :math:`\{m \ge \sup D_m / 2\}`: a network trained with it does not predict probabilities. The
    semimetric form :math:`\|c - m\|_1 / (\|c\|_1 + \|m\|_1)` (MONAI's ``DiceLoss`` with
    ``soft_label=True``) agrees with it on hard labels, but is minimised by c = m: another loss.

    Args:
        prediction: c as logits, or as probabilities, floating. Computed in float32 at least.
        marginal: m of the same shape, within [0, 1]; any real dtype (labels too).
        logits: Whether ``prediction`` holds logits.
        spatial_dims: The integrals run over this many trailing axes; the default is all but the
            first two (batch and channel), or all where there are no more than two.
        reduction: ``"mean"`` over the other axes, or ``"none"``.

    Returns:
        0-dim tensor, or the shape of the other axes. Where both c and m are empty it is 0, with
        gradient 0.

    Raises:
        TypeError: An argument is no tensor, or ``prediction`` is not floating.
        ValueError: The shapes differ, or an option is out of its range.

    Example:
        >>> import torch
        >>> m = torch.tensor([1.0, 0.5, 0.0])
        >>> round(float(soft_dice(m, m, logits=False)), 4)  # m is not the minimiser ...
        0.1667
        >>> round(float(soft_dice(m.ceil(), m, logits=False)), 4)  # ... a segmentation is
        0.1429

    """
    prediction, marginal = _checked(prediction, marginal, reduction)
    if spatial_dims is None:
        n = prediction.ndim - 2 if prediction.ndim > 2 else prediction.ndim
    else:
        n = integer("spatial_dims", spatial_dims)
    least = min(1, prediction.ndim)  # torch takes a sum over no axis for one over all
    if not least <= n <= prediction.ndim:
        raise ValueError(f"spatial_dims: expected {least} to {prediction.ndim}, got {n}")
    c = torch.sigmoid(prediction) if logits else prediction
    axes = [*range(prediction.ndim - n, prediction.ndim)]
    overlap = 2.0 * (c * marginal).sum(dim=axes)
    volume = c.sum(dim=axes) + marginal.sum(dim=axes)
    empty = volume == 0
    loss = 1.0 - torch.where(empty, 1.0, overlap / torch.where(empty, 1.0, volume))
    return loss.mean() if reduction == "mean" else loss


class CrossEntropy(nn.Module):
    """:func:`cross_entropy` as a module.

    Args:
        logits: Whether predictions are logits.

    Example:
        >>> import torch
        >>> round(float(CrossEntropy()(torch.zeros(4), torch.ones(4))), 4)
        0.6931

    """

    def __init__(self, *, logits: bool = True) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, prediction: Tensor, marginal: Tensor) -> Tensor:
        """Return the mean over all voxels."""
        return cross_entropy(prediction, marginal, logits=self.logits)


class SoftDice(nn.Module):
    """:func:`soft_dice` as a module.

    Args:
        logits: Whether predictions are logits.
        spatial_dims: How many trailing axes the integrals run over.

    Example:
        >>> import torch
        >>> c = torch.ones(1, 1, 4)
        >>> float(SoftDice(logits=False)(c, c))
        0.0

    """

    def __init__(self, *, logits: bool = True, spatial_dims: int | None = None) -> None:
        super().__init__()
        self.logits = logits
        self.spatial_dims = spatial_dims

    def forward(self, prediction: Tensor, marginal: Tensor) -> Tensor:
        """Return the mean over cases and channels."""
        return soft_dice(prediction, marginal, logits=self.logits, spatial_dims=self.spatial_dims)


def _checked(prediction: Tensor, marginal: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    for name, value in (("prediction", prediction), ("marginal", marginal)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
        if value.is_complex():
            raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
    if prediction.shape != marginal.shape:
        raise ValueError(
            f"marginal: expected the prediction's shape {tuple(prediction.shape)}, "
            f"got {tuple(marginal.shape)}"
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected mean or none, got {reduction!r}")
    if not prediction.is_floating_point():
        raise TypeError(f"prediction: expected a floating dtype, got {prediction.dtype}")
    computing = torch.promote_types(prediction.dtype, torch.float32)
    return prediction.to(computing), marginal.to(computing)
