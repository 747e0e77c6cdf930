from __future__ import annotations

import math
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from marginseg.intervals import RESAMPLES, holm, mean_intervals


def expanded(n: int) -> float:
    """Return where a normal variable ends an interval as wide as Student's of n values."""
    return math.sqrt(n / (n - 1)) * float(scipy.stats.t.ppf(0.975, n - 1))


def end(n: int) -> float:
    """Return the standard deviation of a resampled end, in standard errors of the mean.

    That of the quantile in this tail of so many normal numbers.
    """
    tail = scipy.stats.norm.sf(expanded(n))
    return math.sqrt(tail * (1 - tail) / RESAMPLES) / float(scipy.stats.norm.pdf(expanded(n)))


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


@pytest.mark.parametrize("n", [6, 10, 20, 72])
def test_intervals_of_few_values_hold_the_mean_as_often_as_they_say(n) -> None:
    """BCa by itself would hold it 86 % of the time of 6 values, and 90 % of 10."""
    samples = 1500
    data = np.random.default_rng(n).normal(0.7, 0.1, (samples, n))
    intervals = mean_intervals(list(data), resamples=2000)
    held = sum(interval.low <= 0.7 <= interval.high for interval in intervals)
    # Four standard deviations; of 6 values the mean of any resample may lie too near.
    slack = 4 * math.sqrt(0.05 * 0.95 / samples)
    assert 0.935 - slack <= held / samples <= 0.95 + slack


@pytest.mark.parametrize("n", [6, 10, 24])
def test_intervals_of_few_values_are_about_as_wide_as_students(n) -> None:
    """So that they exclude 0 where Student's test is significant, and not elsewhere."""
    data = np.random.default_rng(n).normal(size=(300, n))
    ours = np.array([i.high - i.low for i in mean_intervals(list(data), resamples=2000)])
    students = 2 * scipy.stats.t.ppf(0.975, n - 1) * data.std(axis=1, ddof=1) / math.sqrt(n)
    # Sums of few values have lighter tails than the normal variable that the expansion is for.
    assert float(np.median(ours / students)) == pytest.approx(1, abs=0.02 + 0.4 / n)


@pytest.mark.parametrize("n", [12, 40, 300])
def test_intervals_are_those_of_scipy(n) -> None:
    """SciPy has no expanded BCa, but that of the level whose normal tails are the expanded ones."""
    values = np.random.default_rng(n).beta(8, 2, n)
    (ours,) = mean_intervals([values])
    theirs = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        method="BCa",
        confidence_level=1 - 2 * scipy.stats.norm.sf(expanded(n)),
        rng=np.random.default_rng(5),
    ).confidence_interval
    error = values.std() / math.sqrt(n)
    # Both are resampled; the correction moves an end to where there are fewer resamples.
    bound = 4 * math.sqrt(2) * 1.5 * end(n) * error
    assert ours.low == pytest.approx(theirs.low, abs=bound)
    assert ours.high == pytest.approx(theirs.high, abs=bound)


def test_many_values_give_the_normal_interval() -> None:
    n = 2000
    values = np.random.default_rng(2).normal(size=n)
    (interval,) = mean_intervals([values])
    error = values.std(ddof=1) / math.sqrt(n)
    bound = (4 * end(n) + 3 / math.sqrt(n)) * error
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
    """No bias and no skewness are to be corrected, though a sixth of the resamples are ties."""
    (interval,) = mean_intervals([[0.0, 1.0] * 11])
    # The quantiles' own levels are 0.8 % away, six standard deviations of so many resamples.
    tails = scipy.stats.norm.cdf([-expanded(22), expanded(22)])
    expected = scipy.stats.binom.ppf(tails, 22, 0.5) / 22
    assert interval[:3] == pytest.approx((0.5, *expected))


def test_a_wider_level_is_wider() -> None:
    values = np.random.default_rng(4).uniform(size=30)
    (narrow,), (wide,) = (mean_intervals([values], level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_few_skew_values_at_a_high_level_are_all_covered() -> None:
    """The correction for skewness has a pole there, and would turn the interval around."""
    (interval,) = mean_intervals([[0.0, 0.0, 0.9]], level=0.9999)
    assert interval[:3] == pytest.approx((0.3, 0.0, 0.9))


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
