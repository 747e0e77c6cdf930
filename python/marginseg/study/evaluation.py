"""Evaluation (§5.4): a map cut at ½ and at t*, against the noisy and the clean label and m."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from marginseg.files.numbers import is_number
from marginseg.metrics import calibration_curve, dice, volume_ratio
from marginseg.noise import GaussianFieldNoise
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.threshold import cut, optimal_threshold

#: Of each loss: the method that cuts at ½, and the one that cuts at t*.
METHODS = {"cross_entropy": ("CE(0)", "CE(*)"), "soft_dice": ("SD(0)", "SD(*)")}

#: All methods, in the order in which a report names them: those of the paper's Table 1 come first.
METHOD_ORDER = ("CE(0)", "SD(0)", "CE(*)", "SD(*)")

#: What is told of each method on a test case.
SCORES = ("dice_noisy", "dice_clean", "dice_marginal", "volume_ratio", "threshold")

#: The fields of a calibration curve.
CALIBRATION = ("count", "promised", "held")

#: The bins of each.
BINS = 15

#: More than any volume has; sums of such numbers are finite.
MOST_VOXELS = 1e15

#: Between which bounds each score lies; rounding may carry it past one by `ROUNDING`.
BOUNDS = dict.fromkeys(SCORES, (0.0, 1.0)) | {"volume_ratio": (0.0, MOST_VOXELS)}

#: What the last bits of a float32 are worth, and a little more.
ROUNDING = 1e-6


def noisy_label(
    label: Tensor,
    noise: GaussianFieldNoise,
    *,
    seed: int,
    structure: str,
    name: str,
    repeat: int = 0,
) -> Tensor:
    """Return the one noisy label of a case in a repeat.

    It depends on seed, structure, noise level, repeat and the case's name alone, so that every loss
    and fold sees the same.

    Args:
        label: Shape (*spatial), bool or integer.
        noise: The model.
        seed: The study's.
        structure: What is labelled.
        name: The case's.
        repeat: Which repeat of the trainings.

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
    identity = json.dumps([seed, structure, noise.std, name, repeat])
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
    n = probabilities.ndim
    cuts = {at_half: 0.5, at_optimum: float(optimal_threshold(probabilities, spatial_dims=n))}
    segmentations = {name: cut(probabilities, threshold) for name, threshold in cuts.items()}
    methods = {
        method: {
            "dice_noisy": float(dice(segmentation, noisy, spatial_dims=n)),
            "dice_clean": float(dice(segmentation, clean, spatial_dims=n)),
            "dice_marginal": float(dice(segmentation, marginal, spatial_dims=n)),
            "volume_ratio": float(volume_ratio(segmentation, clean, spatial_dims=n)),
            "threshold": cuts[method],
        }
        for method, segmentation in segmentations.items()
    }
    best = dice_threshold(marginal, spatial_dims=n).dice
    curve = calibration_curve(probabilities, marginal, bins=BINS)
    return {
        "methods": methods,
        "sup_dice": float(best),
        "calibration": {field: getattr(curve, field).tolist() for field in CALIBRATION},
    }


def is_whole_score(case: Mapping[str, Any], loss: str) -> bool:
    """Return whether a test case has its name and all that :func:`evaluate` says of it, in range.

    Args:
        case: As it was read from a file.
        loss: The network's.

    """
    try:
        scores = [("sup_dice", case["sup_dice"])]
        for method in METHODS[loss]:
            scores += [(score, case["methods"][method][score]) for score in SCORES]
        return (
            isinstance(case["name"], str)
            and all(_is_score(*score) for score in scores)
            and _is_whole_curve([case["calibration"][field] for field in CALIBRATION])
        )
    except (KeyError, TypeError):
        return False


def _is_score(name: str, value: Any) -> bool:
    # A ratio to the volume of a label that has none is infinite.
    low, high = BOUNDS.get(name, (0.0, 1.0))
    return is_number(value, low - ROUNDING, high + ROUNDING) or (
        name == "volume_ratio" and value == math.inf
    )


def _is_whole_curve(fields: Sequence[Any]) -> bool:
    """Return whether lists are those of a calibration curve: no bin has more than its voxels."""
    if not all(isinstance(field, list) and len(field) == BINS for field in fields):
        return False
    return all(
        is_number(count, 0, MOST_VOXELS)
        and all(is_number(n, -ROUNDING, count * (1 + ROUNDING)) for n in (promised, held))
        for count, promised, held in zip(*fields, strict=True)
    )
