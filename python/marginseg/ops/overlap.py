"""Which overlap of a segmentation with the marginals is to be largest: Dice, IoU or F_beta."""

from __future__ import annotations

from typing import Literal

Metric = Literal["dice", "iou", "fbeta", "accuracy"]
METRICS: tuple[Metric, ...] = ("dice", "iou", "fbeta", "accuracy")

#: Of these and all between, the kernels can compute with the squares in float32 too.
LEAST_BETA, MOST_BETA = 1e-9, 1e9


def checked_beta(beta: float) -> float:
    """Return beta as Python's number.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN, or not within [1e-9, 1e9].

    Example:
        >>> checked_beta(2)
        2.0

    """
    if type(beta) is not float:
        from marginseg.numbers import number  # the command checks its options without torch

        beta = number("beta", beta)
    if not LEAST_BETA <= beta <= MOST_BETA:  # NaN fails too
        raise ValueError(f"beta: expected {LEAST_BETA:g} to {MOST_BETA:g}, got {beta:g}")
    return beta


def beta_of(metric: str, beta: float | None, metrics: tuple[str, ...] = METRICS) -> float:
    r"""Return the beta whose F is largest where a metric is, 1 for Dice and IoU.

    Soft IoU is :math:`J = D\,/\,(2 - D)`, which grows with Dice: one segmentation is the best for
    both. Accuracy has no beta; its Dice is asked for.

    Args:
        metric: One of ``metrics``.
        beta: That of ``"fbeta"``, None for any other.
        metrics: Those to choose from.

    Raises:
        TypeError: ``beta`` is no number.
        ValueError: ``metric`` or ``beta`` is out of its range, ``"fbeta"`` has no beta, or another
            metric has one.

    Example:
        >>> beta_of("dice", None), beta_of("fbeta", 2)
        (1.0, 2.0)

    """
    if metric not in metrics:
        raise ValueError(f"metric: expected one of {', '.join(metrics)}, got {metric!r}")
    if metric == "fbeta":
        if beta is None:
            raise ValueError("beta: expected a number with metric fbeta, got None")
        return checked_beta(beta)
    if beta is not None:
        raise ValueError(f"beta: expected None with metric {metric}, got {beta!r}")
    return 1.0
