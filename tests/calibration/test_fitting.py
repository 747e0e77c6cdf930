"""Fitting a calibration: from maps, label maps and tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

import marginseg
from made_up_calibrations import maps
from marginseg.calibration import calibration_table, fit
from marginseg.classes import Classes


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_it_helps_on_other_voxels(method):
    """What was learnt on some voxels makes the error on others small, and t* right."""
    random = np.random.default_rng(2)
    z = random.normal(-2, 2, (2, 1, 40_000))
    label = random.random(z.shape) < expit(z)
    p = expit(4 * z + 2).astype(np.float32)
    calibration = fit((p[0], label[0]), method=method)
    before = calibration_table(p[1], label[1])
    after = calibration_table(calibration.apply(p[1]), label[1])
    limit = 0.06 if method == "temperature" else 0.01  # a shift is not of its kind
    assert after.expected_calibration_error()[0] < limit < before.expected_calibration_error()[0]
    if method != "temperature":
        truth = torch.from_numpy(expit(z[1]))
        best = float(marginseg.dice_threshold(truth, spatial_dims=1).threshold)
        calibrated = torch.from_numpy(calibration.apply(p[1]))
        found = float(marginseg.dice_threshold(calibrated, spatial_dims=1).threshold)
        raw = float(marginseg.dice_threshold(torch.from_numpy(p[1]), spatial_dims=1).threshold)
        assert abs(found - best) < 0.01 < abs(raw - best)


def test_cases_come_as_label_maps_of_classes():
    classes = Classes.softmax(["organ", "tumour"], ignored=9)
    p = maps(3, (3000,)).astype(np.float32)
    random = np.random.default_rng(3)
    label = (random.random(3000) < p.cumsum(0)[:-1]).sum(0)
    label = np.array([2, 1, 0])[label].astype(np.uint8)
    label[::7] = 9
    mask = random.random(3000) < 0.9
    calibration = fit([(p, label, mask)], method="platt", classes=classes)
    assert (calibration.channels, calibration.background) == ((1, 2), 0)
    there = mask & (label != 9)
    targets = np.stack([label == 1, label == 2])
    expected = fit((p[:, there], targets[:, there]), method="platt", channels=[1, 2], background=0)
    assert calibration == expected
    tensors = (torch.from_numpy(p), torch.from_numpy(label), torch.from_numpy(mask))
    assert fit(tensors, method="platt", classes=classes) == expected
    tables = [
        calibration_table(part, held, channels=[1, 2])
        for part, held in (
            (p[:, there][:, :900], targets[:, there][:, :900]),
            (p[:, there][:, 900:], targets[:, there][:, 900:]),
        )
    ]
    parts = fit(iter(tables), method="platt", classes=classes)
    for ours, theirs in zip(parts.mappings, expected.mappings, strict=True):
        assert ours.slope == pytest.approx(theirs.slope, rel=1e-9)


@pytest.mark.parametrize(
    ("cases", "settings_", "message"),
    [
        ([], {}, "cases: expected at least one, got none"),
        (3, {}, "cases: expected .probabilities, target. or several, got int"),
        (np.ones((1, 2)), {}, "cases: expected .probabilities, target. or several"),
        ([3], {}, "cases: expected tuples"),
        ((np.ones((1, 2)), np.ones((1, 2))), {"method": "magic"}, "method: expected one of"),
        ((np.ones((1, 2)), np.ones((1, 2))), {"method": "matrix"}, "background: expected"),
        (
            (np.ones((3, 2)), np.ones((1, 2))),
            {"method": "matrix", "channels": [1], "background": 2},
            "channels: expected all of the map's",
        ),
        (
            (np.ones((2, 2)), np.ones((2, 2))),
            {"method": "matrix", "classes": Classes.regions({"a": (1,), "b": (2,)})},
            "method: expected one class by class",
        ),
        (
            (np.ones((2, 2)), np.ones(2)),
            {"classes": Classes.softmax(["a"]), "channels": [1]},
            "channels: expected none beside classes",
        ),
        (
            calibration_table(np.ones((2, 2)), np.ones((2, 2))),
            {"channels": [1]},
            "channels: expected the",
        ),
        ((np.ones((2, 2)), np.ones((2, 2))), {"channels": [1, 1]}, "channels: expected some that"),
        ((np.ones((1, 2)), np.ones((1, 2))), {"background": 0}, "channels: expected none below 0"),
        ((np.ones((1, 2)), np.ones((1, 2))), {"background": -1}, "background: expected a channel"),
    ],
)
def test_cases_that_cannot_be_fitted_are_refused(cases, settings_, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        fit(cases, **settings_)


ORGANS = Classes.softmax(["a", "b"])


@pytest.mark.parametrize("label", [np.full((5, 6), 0.5), np.full((5, 6), np.nan)])
def test_soft_labels_are_no_label_map(label):
    p = np.full((3, 5, 6), 1 / 3)
    with pytest.raises(ValueError, match="^target: expected whole numbers.*; soft targets are"):
        fit((p, label), classes=ORGANS)
    with pytest.raises(ValueError, match=r"^target: expected a label map \(\*spatial\), or \(2,"):
        fit((p, np.zeros((1, 5, 6))), classes=ORGANS)
    fit((p, np.ones((5, 6), np.float32)), classes=ORGANS)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "?", ">i2", "f2"])
def test_targets_of_any_dtype_are_the_same(dtype):
    random = np.random.default_rng(0)
    p = random.random((2, 300))
    held = random.random((2, 300)) < p
    assert fit((p, held.astype(dtype))) == fit((p, held))
    with pytest.raises(TypeError, match="^targets: expected"):
        fit((p, held.astype(np.uint64)))


def test_tables_remember_their_channels():
    random = np.random.default_rng(0)
    p = maps(3, (5, 6, 7))
    held = random.random((2, 5, 6, 7)) < p[1:]
    table = calibration_table(p, held, channels=[1, 2])
    found = fit(table - calibration_table(p[:, :1], held[:, :1], channels=[1, 2]), background=0)
    assert (found.channels, found.background) == ((1, 2), 0)
    assert fit([table, table]).channels == (1, 2)
    with pytest.raises(ValueError, match="^channels: expected the table's"):
        fit(table, channels=[0, 1])
    with pytest.raises(ValueError, match="^table: expected one of the channels"):
        table + calibration_table(p[:2], held)


def test_nothing_is_left_of_soft_targets_that_are_taken_out_again():
    """Thirds do not add up exactly: what is left of a class that nobody holds is nobody's."""
    random = np.random.default_rng(0)
    p = random.random((5, 1, 4000)) ** 3
    raters = random.random((5, 3, 1, 4000)) < p[:, None]
    soft = [calibration_table(p[k], raters[k].mean(0)) for k in range(5)]
    none, every = (calibration_table(p[0], np.full((1, 4000), value)) for value in (False, True))
    for rest, outcome in ((none, "no foreground"), (every, "no background")):
        left = sum(soft) + rest + rest
        for table in soft:
            left = left - table
        assert fit(left).mappings[0].outcome == outcome


@pytest.mark.parametrize("options", [{"voxels": 0}, {"seed": -1}])
def test_impossible_draws_are_refused(options):
    with pytest.raises(ValueError, match="^voxels and seed: expected"):
        fit(
            (np.full((2, 9), 0.5), np.ones((1, 9))),
            method="vector",
            channels=[1],
            background=0,
            **options,
        )


def test_the_other_kind_of_sums_is_named():
    table = calibration_table(np.full((2, 9), 0.5), np.ones((1, 9), bool), channels=[1])
    with pytest.raises(TypeError, match="^cases: expected voxel samples for this method"):
        fit(table, method="vector", channels=[1], background=0)
