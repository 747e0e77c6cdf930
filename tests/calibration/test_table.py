"""Tables: bins that are narrow everywhere, sums that are right, for whatever holds the map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logit

from marginseg import calibration_curve, cut, expected_calibration_error
from marginseg.calibration import BINS, CalibrationTable, calibration_table, lower_edges
from marginseg.calibration.table import places


def case(seed=0, shape=(2, 5, 6, 7)):
    random = np.random.default_rng(seed)
    p = random.random(shape) ** 6
    p[:, 0, 0, :7] = [0.0, 1.0, 0.5, 1e-30, 1 - 2.0**-24, -0.0, 1.0]
    return p.astype(np.float32), random.random(shape) < 0.3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bins_are_narrow_however_near_to_an_end(dtype):
    random = np.random.default_rng(1)
    z = random.uniform(-80, 36, 200_000)
    z = np.concatenate([z, random.uniform(-3, 3, 50_000)])
    p = np.sort((1 / (1 + np.exp(-z))).astype(dtype))
    p = p[(p > 1e-36) & (p < 1)]
    place = places(p)
    assert (np.diff(place) >= 0).all()
    first, last = (
        np.flatnonzero(np.diff(place, prepend=-1)),
        np.flatnonzero(np.diff(place, append=-1)),
    )
    # Within a sixteenth of an octave of the distance from the nearer end.
    wide = p.astype(np.float64)
    low = np.log2(np.minimum(wide, 1 - wide))
    assert np.abs(low[last] - low[first]).max() <= math.log2(17 / 16) + 1e-6
    assert (logit(wide[last]) - logit(wide[first])).max() <= 0.125 + 1e-6
    # Not much narrower either: so many there are at least between -3 and 3.
    assert len(np.unique(place[np.abs(logit(wide)) < 3])) < 130


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_ends_have_bins_of_their_own(dtype):
    one, tiny = np.array(1, dtype), max(np.finfo(dtype).smallest_normal, 1e-38)
    p = np.array([0.0, -0.0, tiny, np.nextafter(one, 0 * one), 1.0], dtype)
    assert places(p).tolist() == [0, 0, places(p)[2], places(p)[3], BINS - 1]
    assert 0 < places(p)[2] < places(p)[3] < BINS - 1
    assert places(np.array([0.5, 0.5 + 2**-20], np.float32)).tolist() == [2016, 2017]


def test_sums_are_those_of_the_voxels():
    p, y = case()
    table = calibration_table(p, y)
    for row in range(2):
        place = places(p[row])
        for bin_ in np.unique(place):
            there = place == bin_
            assert table.count[row, bin_] == there.sum()
            assert table.held[row, bin_] == y[row][there].sum()
            assert math.isclose(table.promised[row, bin_], math.fsum(p[row][there]), abs_tol=1e-12)
    assert table.count.sum() == p.size
    assert table.held.sum() == y.sum()


def same(table, other):
    assert np.array_equal(table.count, other.count)
    assert np.array_equal(table.held, other.held)
    np.testing.assert_allclose(table.promised, other.promised, rtol=1e-14, atol=0)


def test_it_does_not_matter_what_holds_the_map(tmp_path):
    p, y = case(shape=(2, 50, 60, 70))
    table = calibration_table(p, y)
    np.save(tmp_path / "p.npy", p)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    for maps in (
        np.asfortranarray(p),
        p[:, ::-1][:, ::-1],
        p.astype(">f4"),
        p.astype(np.float64),
        mapped,
        torch.from_numpy(p),
        torch.from_numpy(p).permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1),
        torch.from_numpy(p).requires_grad_(),
        np.repeat(p, 2, axis=3)[..., ::2],
    ):
        same(calibration_table(maps, y), table)
    for targets in (
        y.astype(np.uint8),
        y.astype(np.float32),
        torch.from_numpy(y),
        np.asfortranarray(y),
    ):
        same(calibration_table(p, targets), table)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_the_numbers_that_they_are(dtype):
    p, y = case()
    half = torch.from_numpy(p).to(dtype)
    same(calibration_table(half, y), calibration_table(half.double(), y))


def test_a_gpu_gives_the_same(device):
    p, y = case()
    table = calibration_table(torch.from_numpy(p).to(device), torch.from_numpy(y).to(device))
    same(table, calibration_table(p, y))


def test_voxels_out_of_the_mask_do_not_count():
    p, y = case()
    mask = np.random.default_rng(3).random(p.shape[1:]) < 0.5
    table = calibration_table(p, y, mask)
    same(table, calibration_table(p[:, mask], y[:, mask]))
    assert calibration_table(p, y, np.zeros_like(mask)).count.sum() == 0


def test_classes_take_their_channels():
    p, y = case(shape=(3, 5, 6, 7))
    table = calibration_table(p, y[:2], channels=[2, 0])
    same(table, calibration_table(p[[2, 0]], y[:2]))


def test_soft_targets_are_the_mean_of_the_raters():
    p, _ = case()
    random = np.random.default_rng(4)
    raters = random.random((4, *p.shape)) < 0.3
    soft = calibration_table(p, raters.mean(0))
    each = sum(calibration_table(p, rater) for rater in raters)
    np.testing.assert_allclose(soft.held, each.held / 4, atol=1e-12)
    assert np.array_equal(soft.count, each.count / 4)


def test_tables_add_up_and_leave_out():
    tables = [calibration_table(*case(seed)) for seed in range(4)]
    together = sum(tables)
    joined = np.concatenate([case(seed)[0] for seed in range(4)], 1)
    held = np.concatenate([case(seed)[1] for seed in range(4)], 1)
    same(together, calibration_table(joined, held))
    same(together - tables[2], tables[0] + tables[1] + tables[3])
    nothing = together - together
    assert not nothing.count.any()
    assert not nothing.promised.any()
    same(CalibrationTable.empty(2) + tables[0], tables[0])
    with pytest.raises(ValueError, match="^table: expected one of 2 classes, got one of 1"):
        tables[0] + CalibrationTable.empty(1)
    with pytest.raises(TypeError):
        1 + tables[0]


def test_curves_are_those_of_the_voxels():
    """But of voxels within a fine bin of an edge."""
    random = np.random.default_rng(5)
    p = random.random((1, 100_000))
    y = random.random(p.shape) < p**2
    table = calibration_table(p, y)
    (curve,) = table.curves(10)
    exact = calibration_curve(torch.from_numpy(p[0]), torch.from_numpy(y[0]), bins=10)
    near = np.abs(p - np.round(p, 1)).ravel() < 0.5 / 16
    for name in ("count", "promised", "held"):
        assert float((getattr(curve, name) - getattr(exact, name)).abs().sum()) <= 2 * near.sum()
        assert float(getattr(curve, name).sum()) == pytest.approx(
            float(getattr(exact, name).sum()), abs=1e-6
        )
    exact_error = expected_calibration_error(torch.from_numpy(p[0]), torch.from_numpy(y[0]))
    assert table.expected_calibration_error()[0] == pytest.approx(float(exact_error), abs=2e-3)
    # On values in the middle of the equal bins they are the same.
    p = random.choice((np.arange(10) + 0.5) / 10, (1, 1000))
    y = random.random(p.shape) < p
    (curve,) = calibration_table(p, y).curves(10)
    exact = calibration_curve(torch.from_numpy(p[0]), torch.from_numpy(y[0]), bins=10)
    assert torch.equal(curve.count, exact.count)
    assert torch.equal(curve.held, exact.held)


def test_quantile_curves_share_the_voxels_out():
    random = np.random.default_rng(6)
    p = np.maximum(random.random((1, 200_000)) ** 8, 1e-30)
    padded = np.concatenate([np.zeros((1, 100_000)), p], 1)
    (curve,) = calibration_table(padded, padded > 0.5).quantile_curves(8)
    share = curve.count.numpy() / p.size
    assert share.sum() == 1.0
    np.testing.assert_allclose(share, 1 / 8, atol=0.02)
    edges = np.quantile(p, np.arange(9) / 8)
    mean = (curve.promised / curve.count).numpy()
    assert ((mean > edges[:-1] * 0.8) & (mean < edges[1:] * 1.2)).all()


def test_cross_entropy_is_that_of_the_voxels():
    random = np.random.default_rng(7)
    p = random.random((1, 50_000)) ** 3
    y = random.random(p.shape) < 0.3
    exact = -np.where(y, np.log(p), np.log1p(-p)).mean()
    assert calibration_table(p, y).cross_entropy()[0] == pytest.approx(exact, rel=1e-3)
    assert CalibrationTable.empty(1).cross_entropy()[0] == 0.0
    certain = calibration_table(np.array([[0.0, 1.0]]), np.array([[1, 0]])).cross_entropy()
    assert certain[0] == pytest.approx(53 * math.log(2), rel=1e-6)


P, Y = np.full((2, 3), 0.5), np.zeros((2, 3), bool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probabilities": [[0.5]]}, "probabilities: expected a torch.Tensor or a NumPy array"),
        ({"probabilities": P.astype(int)}, "probabilities: expected a floating dtype"),
        (
            {"probabilities": P.astype(np.longdouble)},
            "probabilities: expected a dtype that torch has",
        ),
        ({"probabilities": np.array(0.5)}, "probabilities: expected an axis of channels"),
        ({"probabilities": P * np.nan}, "probabilities: expected values within .0, 1., got NaN"),
        ({"probabilities": P * 3}, "probabilities: expected values within"),
        ({"probabilities": -P}, "probabilities: expected values within"),
        ({"targets": Y[:, :2]}, r"targets: expected shape \(K, \*\(3,\)\), got \(2, 2\)"),
        ({"targets": Y[:1]}, "targets: expected one for each of 2 channels, got 1"),
        ({"targets": P * 3}, "targets: expected values within"),
        ({"targets": Y.astype(complex)}, "targets: expected bools or numbers"),
        ({"targets": "no"}, "targets: expected a torch.Tensor"),
        ({"channels": [0]}, "channels: expected 2 of 0 to 1"),
        ({"channels": [0, 2]}, "channels: expected 2 of 0 to 1"),
        ({"mask": np.ones(3)}, "mask: expected bool"),
        ({"mask": np.ones(4, bool)}, r"mask: expected shape \(3,\), got \(4,\)"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        calibration_table(**{"probabilities": P, "targets": Y, **arguments})


def test_wrong_tables_are_refused():
    with pytest.raises(ValueError, match="^table: expected three arrays"):
        CalibrationTable(*np.zeros((3, 2, 15)))
    with pytest.raises(ValueError, match="^bins: expected at least 1"):
        CalibrationTable.empty(1).curves(0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_cuts_at_edges_are_whole_bins(dtype):
    """{p >= edge} holds the bins from there on, as `cut` decides it; also next to 0 and to 1."""
    random = np.random.default_rng(0)
    near_0 = np.concatenate([random.uniform(0, 0.5, 3000), 2.0 ** random.uniform(-20, -1, 3000)])
    p = np.concatenate([near_0, 1 - near_0, [0, 0.5, 1], np.clip(lower_edges(), 0, 1)])
    p = p.astype(dtype)
    table = calibration_table(p[None], np.zeros((1, len(p)), bool))
    above = table.count[0, ::-1].cumsum()[::-1]
    for edge, expected in [*zip(lower_edges(), above, strict=True)][::13]:
        assert cut(p, edge).sum() == expected
