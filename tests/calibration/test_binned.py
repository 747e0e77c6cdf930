"""Fits class by class: known truths, brute force on the voxels, and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from marginseg.calibration import LogitLine, calibration_table, fit
from marginseg.calibration.binned import _Bins
from marginseg.calibration.mappings import SUREST

ONE_BY_ONE = ("temperature", "platt", "isotonic")


def drawn(seed, voxels, mean=-2.0, spread=2.0):
    """Return true logits, and labels that are drawn from them, (1, voxels)."""
    random = np.random.default_rng(seed)
    logits = random.normal(mean, spread, (1, voxels))
    return logits, random.random(logits.shape) < expit(logits)


def information(logits, *factors):
    """Return the standard deviations of a likelihood's maximum: Fisher's information, inverted."""
    p = expit(logits.ravel())
    design = np.stack([np.broadcast_to(one, logits.shape).ravel() for one in factors])
    return np.sqrt(np.diag(np.linalg.inv((design * p * (1 - p)) @ design.T)))


@pytest.mark.parametrize("temperature", [3.0, 1.0, 0.5])
def test_a_known_temperature_is_found(temperature):
    """The map's logits are T times the true ones, as those of a network that is too sure."""
    logits, label = drawn(0, 100_000)
    mapped = temperature * logits
    (mapping,) = fit((expit(mapped), label), method="temperature").mappings
    (deviation,) = information(logits, mapped)
    assert mapping.outcome == "fitted"
    assert mapping.intercept == 0.0
    # What bins add is of second order in their width.
    assert abs(mapping.slope - 1 / temperature) < 5 * deviation + 1e-3 / temperature


@pytest.mark.parametrize(("slope", "shift"), [(3.0, 1.0), (0.5, -2.0), (1.0, 4.0)])
def test_a_known_line_is_found(slope, shift):
    logits, label = drawn(1, 100_000)
    mapped = slope * logits + shift
    (mapping,) = fit((expit(mapped), label), method="platt").mappings
    deviations = information(logits, mapped, 1.0)
    assert mapping.outcome == "fitted"
    assert abs(mapping.slope - 1 / slope) < 5 * deviations[0] + 1e-3 / slope
    assert abs(mapping.intercept + shift / slope) < 5 * deviations[1] + 2e-3


def test_isotonic_finds_what_is_no_line():
    """p^3 and its like; within the error of the voxels that a plateau has."""
    random = np.random.default_rng(2)
    p = random.random((1, 200_000))
    label = random.random(p.shape) < p**3
    calibration = fit((p, label), method="isotonic")
    grid = np.linspace(0, 1, 201)[None]
    assert np.abs(calibration.apply(grid) - grid**3).max() < 0.06
    assert np.abs(calibration.apply(grid) - grid**3).mean() < 0.01


def test_temperature_is_that_of_a_scan_over_the_voxels():
    logits, label = drawn(3, 20_000)
    p = expit(2.5 * logits).astype(np.float32).astype(np.float64)
    z = np.minimum(logit(p), SUREST)

    def loss(slope):
        return (np.logaddexp(0, slope * z) - label * (slope * z)).mean()

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    (mapping,) = fit((p, label), method="temperature").mappings
    assert mapping.slope == pytest.approx(best, rel=1e-3)
    # Where each voxel's value has a bin of its own, up to the minimiser's accuracy.
    coarse = np.array([1e-7, 1e-3, 0.02, 0.2, 0.5, 0.7, 0.99, 1.0])
    p = coarse[np.searchsorted(coarse, p).clip(max=7)]
    z = np.minimum(logit(p), SUREST)
    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    (mapping,) = fit((p, label), method="temperature").mappings
    assert mapping.slope == pytest.approx(best, rel=1e-5)


def test_platt_is_scikit_learns_logistic_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    logits, label = drawn(4, 20_000)
    p = expit(2 * logits + 1)
    peer = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    peer.fit(logit(p).T, label.ravel())
    (mapping,) = fit((p, label), method="platt").mappings
    assert mapping.slope == pytest.approx(peer.coef_[0, 0], rel=2e-3)
    assert mapping.intercept == pytest.approx(peer.intercept_[0], abs=2e-3)


def test_platt_step_is_newtons():
    """The Hessian by differences: one step from near the minimum is at it to second order."""
    logits, label = drawn(12, 20_000)
    bins = _Bins(calibration_table(expit(2 * logits + 1), label), 0)
    a, b, h = 0.55, -0.4, 1e-5
    gradient = np.array([bins.slope_derivative(a, b), bins.intercept_derivative(a, b)])
    hessian = np.array(
        [
            [
                (derivative(a + h * da, b + h * db) - derivative(a - h * da, b - h * db)) / (2 * h)
                for da, db in ((1, 0), (0, 1))
            ]
            for derivative in (bins.slope_derivative, bins.intercept_derivative)
        ]
    )
    np.testing.assert_allclose(bins.newton(a, b), -np.linalg.solve(hessian, gradient), rtol=1e-6)


def test_a_plateau_stands_at_its_mean():
    """Two values whose order the labels contradict become one knot between them."""
    p = np.array([[0.2, 0.2, 0.2, 0.4, 0.8, 0.8]])
    label = np.array([[0, 0, 1, 0, 1, 1]])
    (mapping,) = fit((p, label), method="isotonic").mappings
    assert mapping.promised == (0.0, pytest.approx(0.25), pytest.approx(0.8))
    assert mapping.held == (0.0, pytest.approx(0.25), 1.0)


def test_isotonic_has_scikit_learns_plateaus():
    isotonic = pytest.importorskip("sklearn.isotonic")
    random = np.random.default_rng(5)
    # Values with a bin of their own, for which bins lose nothing.
    p = expit(random.choice(np.arange(-40, 30) / 4, (1, 30_000)))
    soft = np.clip(p**2 + random.normal(0, 0.2, p.shape), 0, 1)
    peer = isotonic.IsotonicRegression().fit_transform(p.ravel(), soft.ravel())
    (mapping,) = fit((p, soft), method="isotonic").mappings
    plateaus = np.unique(peer.round(12))
    np.testing.assert_allclose(mapping.held[1:], plateaus, atol=1e-10)
    means = [p.ravel()[peer.round(12) == plateau].mean() for plateau in plateaus]
    np.testing.assert_allclose(mapping.promised[1:], means, atol=1e-10)


@example(seed=10, values=9, voxels=9)  # two plateaus of one height
@given(seed=st.integers(0, 2**32 - 1), values=st.integers(2, 12), voxels=st.integers(2, 60))
def test_isotonic_is_the_minimum_over_the_maximum_of_means(seed, values, voxels):
    """max over i <= k of min over j >= k of the mean from i to j: the closed form of plateaus."""
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(np.arange(-30, 30) / 3, values, replace=False))
    index = random.integers(0, values, voxels)
    label = random.random(voxels) < 0.5
    (mapping,) = fit((expit(chosen[index])[None], label[None]), method="isotonic").mappings
    if mapping.outcome != "fitted":
        assert label.all() or not label.any()
        return
    present = np.unique(index)
    sums = np.array([label[index == one].sum() for one in present], float)
    count = np.array([(index == one).sum() for one in present], float)

    def mean(i, j):
        return sums[i : j + 1].sum() / count[i : j + 1].sum()

    n = len(present)
    expected = [max(min(mean(i, j) for j in range(k, n)) for i in range(k + 1)) for k in range(n)]
    np.testing.assert_allclose(
        np.unique(mapping.held[1:]), np.unique(np.round(expected, 12)), atol=1e-9
    )


@pytest.mark.parametrize("method", ONE_BY_ONE)
def test_soft_targets_are_as_good_as_the_labels_that_they_are_the_mean_of(method):
    logits, _ = drawn(6, 5_000)
    p = expit(2 * logits)
    raters = np.random.default_rng(7).random((3, *p.shape)) < expit(logits)
    soft = fit((p, raters.mean(0)), method=method)
    hard = fit([(p, rater) for rater in raters], method=method)
    grid = np.linspace(0, 1, 101)[None]
    np.testing.assert_allclose(soft.apply(grid), hard.apply(grid), atol=1e-6)


@pytest.mark.parametrize("method", ONE_BY_ONE)
def test_zeros_teach_nothing_and_stay_zeros(method):
    logits, label = drawn(8, 5_000)
    p = expit(2 * logits)
    padded = np.concatenate([p, np.zeros((1, 100_000))], 1)
    outside = np.concatenate([label, np.arange(100_000)[None] < 10], 1)
    calibration = fit((padded, outside), method=method)
    (mapping,) = calibration.mappings
    (alone,) = fit((p, label), method=method).mappings
    np.testing.assert_allclose(
        calibration.apply(p), fit((p, label), method=method).apply(p), atol=1e-9
    )
    assert mapping.outcome == alone.outcome == "fitted"
    assert not calibration.apply(padded)[:, 5_000:].any()


@pytest.mark.parametrize("method", ONE_BY_ONE)
def test_what_is_exactly_1_is_learnt_from_too(method):
    """A float32 rounds a sigmoid above logits of 17 to 1, and not all of those voxels are right."""
    p = np.ones((1, 1000), np.float32)
    p[:, :500] = 1e-3
    label = np.zeros(p.shape, bool)
    label[:, 600:] = True
    label[:, :2] = True
    after = fit((p, label), method=method).apply(p)
    assert after.max() < 1
    if method != "temperature":  # a line through two points meets both
        np.testing.assert_allclose(np.unique(after), [2 / 500, 0.8], rtol=1e-5)


@pytest.mark.parametrize("method", ONE_BY_ONE)
@pytest.mark.parametrize(
    ("p", "label", "outcome"),
    [
        ([0.0, 0.0], [0, 1], "no voxels"),
        ([0.1, 0.9], [0, 0], "no foreground"),
        ([0.1, 0.9], [1, 1], "no background"),
    ],
)
def test_a_class_that_nothing_is_known_of_stays_as_it_is(method, p, label, outcome):
    calibration = fit((np.array([p]), np.array([label])), method=method)
    assert calibration.mappings == (LogitLine(1.0, 0.0, outcome),)
    grid = np.linspace(0, 1, 11)[None]
    assert np.array_equal(calibration.apply(grid), grid)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_slopes_keep_within_their_bounds(method):
    p = np.array([[0.1, 0.4, 0.6, 0.9]])
    (separated,) = fit((p, p > 0.5), method=method).mappings
    assert (separated.slope, separated.outcome) == (20.0, "bounded")
    (reversed_,) = fit((p, p < 0.5), method=method).mappings
    assert (reversed_.slope, reversed_.outcome) == (0.05, "bounded")
    assert abs(separated.intercept) < 1e-9 * 20
    assert abs(reversed_.intercept) < 1e-9


def test_at_a_bound_platt_still_promises_as_much_as_is_held():
    random = np.random.default_rng(9)
    p = random.random((1, 2000))
    label = random.random(p.shape) < 0.2 * (1 - p)
    calibration = fit((p, label), method="platt")
    assert calibration.mappings[0].outcome == "bounded"
    assert calibration.apply(p).mean() == pytest.approx(label.mean(), rel=1e-3)


def test_a_single_probability_is_shifted():
    p, label = np.full((1, 10), 0.9), np.arange(10)[None] < 6
    (line,) = fit((p, label), method="platt").mappings
    assert line.outcome == "shifted"
    assert expit(logit(0.9) + line.intercept) == pytest.approx(0.6)
    (half,) = fit((np.full((1, 10), 0.5), label), method="temperature").mappings
    assert half == LogitLine(1.0, 0.0, "shifted")
    knots = fit((p, label), method="isotonic").mappings[0]
    assert knots.promised == (0.0, pytest.approx(0.9))
    assert knots.held == (0.0, pytest.approx(0.6))


@pytest.mark.parametrize("method", ONE_BY_ONE)
@given(
    seed=st.integers(0, 2**32 - 1),
    voxels=st.integers(1, 300),
    spread=st.floats(0.01, 60),
    mean=st.floats(-60, 30),
)
def test_the_order_stays_and_nothing_leaves_the_unit_interval(method, seed, voxels, spread, mean):
    random = np.random.default_rng(seed)
    p = expit(random.normal(mean, spread, (1, voxels))).astype(np.float32)
    label = random.random(p.shape) < random.random()
    calibration = fit((p, label), method=method)
    probe = expit(random.normal(mean, 2 * spread, (1, 1000)))
    probe = np.sort(np.concatenate([probe, [[0.0, 1.0]], p], 1).astype(np.float32))
    probe = np.sort(np.concatenate([probe, np.nextafter(probe, np.float32(0.5))], 1))
    after = calibration.apply(probe)
    assert (np.diff(after) >= 0).all()
    assert after.min() >= 0
    assert after.max() <= 1
    assert after[0, 0] == 0


@pytest.mark.parametrize("method", ONE_BY_ONE)
def test_a_fit_is_best_among_its_kind(method):
    """Its cross-entropy on the table is below that of the identity and of each line nearby."""
    logits, label = drawn(10, 20_000)
    table = calibration_table(expit(3 * logits - 1), label)
    calibration = fit(table, method=method)
    reached = calibration.applied_to(table).cross_entropy()[0]
    assert reached < table.cross_entropy()[0]
    z = np.minimum(logit(np.where(table.count[0] > 0, table.probability()[0], 0.5)), SUREST)

    def loss(slope, intercept):
        y = slope * z + intercept
        return (table.count[0] * np.logaddexp(0, y) - table.held[0] * y).sum() / label.size

    if method == "isotonic":
        line = fit(table, method="platt").mappings[0]
        assert reached < loss(line.slope, line.intercept) + 1e-4
        return
    (line,) = calibration.mappings
    steps = (-1e-4, 0.0, 1e-4)
    others = [
        loss(line.slope + da, line.intercept + db)
        for da in steps
        for db in steps
        if (da or db) and (method == "platt" or db == 0)
    ]
    assert loss(line.slope, line.intercept) < min(others)
    assert math.isclose(reached, loss(line.slope, line.intercept), rel_tol=1e-3)


def test_a_million_zeros_and_a_dozen_voxels_of_a_small_class():
    """Newton begins where the function is nearly flat."""
    random = np.random.default_rng(11)
    p = np.full((1, 1_000_000), 1e-9, np.float32)
    p[:, :12] = 0.3
    p[:, 12:1000] = random.random(988) * 1e-2
    label = np.zeros(p.shape, bool)
    label[:, :9] = True
    after = fit((p, label), method="platt").apply(p)
    assert np.isfinite(after).all()
    assert after.sum(dtype=np.float64) == pytest.approx(9, rel=1e-2)


@pytest.mark.parametrize("method", ONE_BY_ONE)
@pytest.mark.parametrize("held", [1e-300, 1e-17, 1 - 2.0**-53])
def test_soft_targets_at_the_ends_of_float64(method, held):
    random = np.random.default_rng(13)
    p = random.random((1, 1000))
    after = fit((p, np.full(p.shape, held)), method=method).apply(p)
    assert ((after >= 0) & (after <= 1)).all()


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@pytest.mark.parametrize("mean", [-10.0, -6.0])
def test_rare_classes_are_promised_as_much_as_is_held(method, mean):
    """Lines between plateaus that are far from each other change the sum by little."""
    logits, label = drawn(14, 300_000, mean, 4.0)
    table = calibration_table(expit(3 * logits + 3), label)
    after = fit(table, method=method).applied_to(table)
    assert after.promised.sum() == pytest.approx(label.sum(), rel=0.02)


def test_a_temperature_cannot_take_a_shift_back():
    """So it is not the default: what is found too often it makes more probable than it is."""
    logits, label = drawn(15, 200_000, -8.0, 4.0)
    table = calibration_table(expit(3 * logits + 3), label)
    promised = {
        method: fit(table, method=method).applied_to(table).promised.sum() / label.sum()
        for method in ("temperature", "platt")
    }
    assert promised["temperature"] > 1.3
    assert promised["platt"] == pytest.approx(1, abs=1e-3)
    assert fit(table) == fit(table, method="platt")
