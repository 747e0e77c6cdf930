"""Evaluation (§5.4): a map cut at ½ and at t*, against the noisy and the clean label and m."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from marginseg.metrics import calibration_curve, dice, volume_ratio
from marginseg.noise import GaussianFieldNoise
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.threshold import optimal_segmentation, optimal_threshold

#: Of each loss: the method that cuts at ½, and the one that cuts at t*.
METHODS = {"cross_entropy": ("CE(0)", "CE(*)"), "soft_dice": ("SD(0)", "SD(*)")}


def noisy_label(
    label: Tensor, noise: GaussianFieldNoise, *, seed: int, structure: str, name: str
) -> Tensor:
    """Return the one noisy label of a case.

    It depends on seed, structure, noise level and the case's name alone, so that every loss and
    fold sees the same.

    Args:
        label: Shape (*spatial), bool or integer.
        noise: The model.
        seed: The study's.
        structure: What is labelled.
        name: The case's.

    Returns:
        Tensor of the label's shape and dtype.

    Example:
        >>> import torch
        >>> label = torch.eye(8, dtype=torch.uint8)
        >>> noise = GaussianFieldNoise(0.05)
        >>> a, b = (
        ...     noisy_label(label, noise, seed=0, structure="line", name="case") for _ in "ab"
        ... )
        >>> torch.equal(a, b)
        True

    """
    identity = json.dumps([seed, structure, noise.std, name])
    digest = hashlib.sha256(identity.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return noise.sample(label, generator=generator)[0]


def evaluate(
    probabilities: Tensor, loss: str, *, clean: Tensor, noisy: Tensor, marginal: Tensor
) -> dict[str, Any]:
    """Judge a predicted map.

    Args:
        probabilities: Shape (*spatial), floating, within [0, 1].
        loss: The network's: it names the methods, see `METHODS`.
        clean: The label, the same shape.
        noisy: Its noisy version.
        marginal: The noise's marginals of ``clean``.

    Returns:
        ``methods`` (for each: ``dice_noisy``, ``dice_clean``, ``dice_marginal``, ``volume_ratio``
        |s|/|l| against ``clean``, and the ``threshold``), ``sup_dice`` (sup D_m of ``marginal``:
        what nobody can beat in ``dice_marginal``, nor in the mean of ``dice_noisy`` but for the
        label's own volume changing) and ``calibration``, the fields of the map's
        `CalibrationCurve` against ``marginal`` as lists. All floats.

    Example:
        >>> import torch
        >>> label = torch.tensor([1, 1, 0, 0])
        >>> p = torch.tensor([0.9, 0.4, 0.3, 0.0])
        >>> found = evaluate(
        ...     p, "cross_entropy", clean=label, noisy=label, marginal=label.float()
        ... )
        >>> {name: round(scores["dice_clean"], 3) for name, scores in found["methods"].items()}
        {'CE(0)': 0.667, 'CE(*)': 1.0}

    """
    at_half, at_optimum = METHODS[loss]
    cuts = {
        at_half: (0.5, optimal_segmentation(probabilities, "accuracy")),
        at_optimum: (
            float(optimal_threshold(probabilities)),
            optimal_segmentation(probabilities),
        ),
    }
    methods = {
        method: {
            "dice_noisy": float(dice(segmentation, noisy)),
            "dice_clean": float(dice(segmentation, clean)),
            "dice_marginal": float(dice(segmentation, marginal)),
            "volume_ratio": float(volume_ratio(segmentation, clean)),
            "threshold": threshold,
        }
        for method, (threshold, segmentation) in cuts.items()
    }
    best = dice_threshold(marginal, spatial_dims=marginal.ndim).dice
    return {
        "methods": methods,
        "sup_dice": float(best),
        "calibration": {
            field: values.tolist()
            for field, values in vars(calibration_curve(probabilities, marginal)).items()
        },
    }
