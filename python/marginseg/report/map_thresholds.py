"""Thresholds on the scale of the network's own values, where all rules can be compared."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from marginseg.evaluation.candidates import BY_NAME
from marginseg.evaluation.evaluate import Evaluation
from marginseg.rule import Rule

#: The values at which calibrations are looked up: in the logit, a hundredth apart.
_GRID: Final = np.concatenate([[0.0], expit(np.arange(-2000, 2001) / 100), [1.0]])


def map_thresholds(evaluation: Evaluation) -> dict[tuple[str, str], dict[str, float]]:
    """Return where each rule cuts the map that the network gave, before any calibration.

    A calibration is increasing, so that {g(m) >= t} is {m >= s} at the smallest s of g(s) >= t.

    Returns:
        By class and rule, then by case; what has no threshold is left out.

    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    calibrated: dict[tuple[str, str], NDArray[np.float64]] = {}
    names = evaluation.classes.names
    for score in evaluation.scores:
        threshold = score.threshold
        if not math.isfinite(threshold):
            continue
        if BY_NAME[score.rule].method is not None:
            rule = evaluation.fitted[score.case, score.rule]
            if score.structure not in rule.at_half:
                key = score.case, score.rule
                if key not in calibrated:
                    calibrated[key] = _calibrated(rule)
                threshold = uncalibrated(threshold, calibrated[key][names.index(score.structure)])
        found.setdefault((score.structure, score.rule), {})[score.case] = threshold
    return found


def uncalibrated(threshold: float, calibrated: NDArray[np.float64]) -> float:
    """Return the smallest value that is calibrated to the threshold or more; 1 if none is.

    Args:
        threshold: Of calibrated values.
        calibrated: What the values of the grid become, increasing.

    """
    # What float rounding makes of an increasing function need not increase.
    place = int(np.searchsorted(np.maximum.accumulate(calibrated), threshold))
    return float(_GRID[min(place, len(_GRID) - 1)])


def _calibrated(rule: Rule) -> NDArray[np.float64]:
    """Return what the values of the grid become, a row a class."""
    assert rule.calibration is not None
    values = np.tile(_GRID, (rule.classes.channel_count, 1))
    applied: NDArray[np.float64] = rule.calibration.apply(values)
    return applied[list(rule.classes.channels)]
