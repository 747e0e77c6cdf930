"""Thresholds on the scale of the network's own values keep the same voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from made_up_evaluation import made_up_evaluation
from marginseg.evaluation.case import Settings
from marginseg.report.map_thresholds import map_thresholds, uncalibrated


def test_a_cut_of_the_map_keeps_what_the_rule_keeps() -> None:
    found = made_up_evaluation(3, ["a", "b"])
    thresholds = map_thresholds(found)
    assert {rule for _, rule in thresholds} == {
        "present",
        "optimal",
        "threshold",
        "temperature",
        "platt",
        "isotonic",
        "ceiling",
    }
    for case in found.cases:
        probabilities = case.probabilities()
        for rule in ("optimal", "threshold", "temperature", "platt", "isotonic"):
            used = found.fitted.get((case.name, rule), found.rules[rule])
            masks = used.masks(probabilities)
            for place, name in enumerate(("a", "b")):
                threshold = thresholds[name, rule][case.name]
                unlike = masks[place] != (probabilities[place] >= threshold)
                # But for the step of the grid at which calibrations are looked up.
                off = np.abs(logit(probabilities[place][unlike]) - logit(threshold))
                assert (off < 0.0101).all(), rule
                assert 0 < masks[place].sum() < masks[place].size / 2


def test_classes_at_half_are_not_calibrated() -> None:
    found = made_up_evaluation(3, ["a", "b"], Settings(at_half=("b",)))
    thresholds = map_thresholds(found)
    assert set(thresholds["b", "platt"].values()) == {0.5}
    assert set(thresholds["a", "platt"].values()) != {0.5}


def test_what_no_value_reaches_is_one() -> None:
    calibrated = np.full(4003, 0.2)
    assert uncalibrated(0.3, calibrated) == 1.0
    assert uncalibrated(0.2, calibrated) == 0.0
    calibrated[2001:] = 0.4
    assert uncalibrated(0.3, calibrated) == pytest.approx(0.5, abs=0.003)
