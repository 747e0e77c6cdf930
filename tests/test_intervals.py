from __future__ import annotations

import math
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from marginseg.intervals import RESAMPLES, holm, mean_intervals

#: Standard deviation of a resampled interval's end, in standard errors of the mean: that of the
#: quantile at 2.5 % of so many normal numbers.
END = math.sqrt(0.025 * 0.975 / RESAMPLES) / scipy.stats.norm.pdf(1.96)


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, shape: rng.normal(0.7, 0.1, shape), 0.7),
        (lambda rng, shape: rng.beta(6, 2, shape), 0.75),
        (lambda rng, shape: rng.exponential(1, shape), 1.0),
    ],
    ids=["normal", "beta", "exponential"],
)
def test_intervals_hold_the_mean_as_often_as_they_say(draw, mean) -> None:
    samples = 1500
    data = draw(np.random.default_rng(1), (samples, 300))
    intervals = mean_intervals(list(data), resamples=2000)
    held = sum(interval.low <= mean <= interval.high for interval in intervals)
    # Four standard deviations of a share of so many samples, and what 300 values leave to wish.
    assert abs(held / samples - 0.95) < 4 * math.sqrt(0.05 * 0.95 / samples) + 0.01


@pytest.mark.parametrize("n", [12, 40, 300])
def test_intervals_are_those_of_scipy(n) -> None:
    values = np.random.default_rng(n).beta(8, 2, n)
    (ours,) = mean_intervals([values])
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(5)
    ).confidence_interval
    error = values.std() / math.sqrt(n)
    # Both are resampled; the correction moves an end to where there are fewer resamples.
    bound = 4 * math.sqrt(2) * 1.5 * END * error
    assert ours.low == pytest.approx(theirs.low, abs=bound)
    assert ours.high == pytest.approx(theirs.high, abs=bound)


def test_many_values_give_the_normal_interval() -> None:
    n = 2000
    values = np.random.default_rng(2).normal(size=n)
    (interval,) = mean_intervals([values])
    error = values.std(ddof=1) / math.sqrt(n)
    bound = (4 * END + 3 / math.sqrt(n)) * error
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=bound)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=bound)


def test_neither_order_nor_company_matters() -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform(size=50)
    (alone,) = mean_intervals([values])
    _, among, _ = mean_intervals([rng.uniform(size=50), rng.permutation(values), [0.5, 0.7]])
    assert among == pytest.approx(alone)
    (other,) = mean_intervals([values], seed=1)
    assert other != alone


def test_the_parts_in_which_resamples_are_drawn_make_no_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(7).uniform(size=90)
    (whole,) = mean_intervals([values])
    monkeypatch.setattr("marginseg.intervals._CHUNK", 90 * 100)
    (in_parts,) = mean_intervals([values])
    assert in_parts == pytest.approx(whole, rel=1e-12)


def test_of_two_values_as_often_the_interval_is_the_binomial_one() -> None:
    """No bias and no skewness are to be corrected, though a fifth of the resamples are ties."""
    (interval,) = mean_intervals([[0.0, 1.0] * 8])
    # The quantiles' own levels are 1.3 % away, eight standard deviations of so many resamples.
    expected = scipy.stats.binom.ppf([0.025, 0.975], 16, 0.5) / 16
    assert interval[:3] == pytest.approx((0.5, *expected))


def test_a_wider_level_is_wider() -> None:
    values = np.random.default_rng(4).uniform(size=30)
    (narrow,), (wide,) = (mean_intervals([values], level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_few_and_equal_values() -> None:
    empty, one, equal, holed = mean_intervals([[], [0.5], [0.1] * 9, [0.1, math.inf, math.nan]])
    assert empty.n == 0
    assert math.isnan(empty.mean)
    assert (one.mean, one.n) == (0.5, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert equal == (0.1, 0.1, 0.1, 9)
    assert (holed.mean, holed.n) == (0.1, 1)
    assert mean_intervals([]) == []


@pytest.mark.parametrize("level", [0, 1, math.nan])
def test_a_level_out_of_range_is_refused(level) -> None:
    with pytest.raises(ValueError, match="^level: "):
        mean_intervals([[1, 2]], level=level)


def test_no_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="^resamples: "):
        mean_intervals([[1, 2]], resamples=0)


def test_a_report_of_many_cells_is_quick() -> None:
    samples = list(np.random.default_rng(6).uniform(size=(300, 200)))
    started = time.process_time()
    mean_intervals(samples)
    assert time.process_time() - started < 20


@given(st.lists(st.floats(0, 1), max_size=9))
def test_holm_rejects_what_its_steps_reject(p_values) -> None:
    """By the steps of the paper: from the smallest on, p(k) <= α / (n - k), until one is not."""
    corrected = holm(p_values)
    assert len(corrected) == len(p_values)
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for k, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if (len(p_values) - k) * p_values[place] > alpha:
                break
            rejected.add(place)
        assert {i for i, p in enumerate(corrected) if p <= alpha} == rejected
