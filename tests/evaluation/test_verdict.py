"""What is concluded from scores that were made up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from marginseg.evaluation.scores import Score, overlap_of
from marginseg.evaluation.surface import surface_distance
from marginseg.evaluation.verdict import MEAN, Comparison, compare, judge
from marginseg.intervals import Interval, holm, mean_intervals


def _scores(values: dict[str, list[list[float]]]) -> list[Score]:
    """Of each rule the overlaps, a list for each class."""
    return [
        Score(f"case {case}", f"class {place}", rule, overlap, 0.9, 0.5, 10, 8)
        for rule, classes in values.items()
        for place, overlaps in enumerate(classes)
        for case, overlap in enumerate(overlaps)
    ]


def _rows(scores: list[Score], structure: str = MEAN) -> dict[str, object]:
    return {row.rule: row for row in compare(scores) if row.structure == structure}


@pytest.fixture(scope="module")
def random() -> list[Score]:
    noise = np.random.default_rng(0)
    base = noise.uniform(0.5, 0.8, (2, 20))
    return _scores(
        {
            "present": base.tolist(),
            "threshold": (base + noise.normal(0.01, 0.02, base.shape)).tolist(),
            "optimal": (base + noise.normal(-0.02, 0.02, base.shape)).tolist(),
            "isotonic": (base + noise.normal(0.03, 0.02, base.shape)).tolist(),
        }
    )


def test_differences_are_paired_and_corrected(random) -> None:
    """By SciPy's paired test, and Holm's correction of the rules that were tried."""
    values = {(s.rule, s.structure, s.case): s.overlap for s in random}
    cases = [f"case {n}" for n in range(20)]

    def mean(rule: str) -> np.ndarray:
        return np.array(
            [np.mean([values[rule, f"class {k}", case] for k in (0, 1)]) for case in cases]
        )

    tried = ("threshold", "optimal", "isotonic")
    tests = [scipy.stats.ttest_rel(mean(rule), mean("present")).pvalue for rule in tried]
    rows = _rows(random)
    for rule, p in zip(tried, holm(tests), strict=True):
        row, difference = rows[rule], mean(rule) - mean("present")
        assert row.p == pytest.approx(p, rel=1e-9)
        assert row.difference.mean == pytest.approx(difference.mean(), abs=1e-12)
        assert row.difference == pytest.approx(mean_intervals([difference])[0], abs=1e-12)
        assert (row.better, row.worse) == ((difference > 0.01).sum(), (difference < -0.01).sum())
        assert row.worst == pytest.approx(min(difference.min(), 0), abs=1e-12)
        if row.worst_case:
            assert row.worst_case == cases[int(difference.argmin())]
    one = _rows(random, "class 1")["isotonic"]
    pair = [[values[rule, "class 1", case] for case in cases] for rule in ("isotonic", "present")]
    assert one.p == pytest.approx(scipy.stats.ttest_rel(*pair).pvalue, rel=1e-9)


def test_the_best_rule_is_recommended(random) -> None:
    verdict = judge(compare(random))
    assert verdict.rule == "isotonic"
    assert verdict.sentence.startswith("isotonic + t*: +")
    assert verdict.sentence.endswith("use it")


def _of(gains: dict[str, float], cases: int = 12, spread: float = 0.002) -> list[Score]:
    noise = np.random.default_rng(1).normal(0, spread, cases)
    noise -= noise.mean()
    values = {"present": [[0.7] * cases]}
    values |= {rule: [(0.7 + gain + noise).tolist()] for rule, gain in gains.items()}
    return _scores(values)


@pytest.mark.parametrize(
    ("gains", "rule"),
    [
        ({"threshold": 0.02, "isotonic": 0.05}, "isotonic"),
        ({"threshold": 0.0495, "isotonic": 0.05}, "threshold"),  # the simpler one is as good
        ({"threshold": 0.0009, "isotonic": 0.0}, "present"),  # not worth it
        ({"threshold": -0.05, "isotonic": -0.01}, "present"),
    ],
)
def test_the_simplest_of_the_best_is_recommended(gains, rule) -> None:
    assert judge(compare(_of(gains))).rule == rule


def test_chance_is_not_taken_for_a_gain() -> None:
    verdict = judge(compare(_of({"optimal": 0.01}, spread=0.05)))
    assert verdict.rule == "present"
    assert "chance" in verdict.sentence


def _row(rule: str, mean: float, low: float, p: float, n: int = 20) -> Comparison:
    """A rule in the mean over classes; the interval is as wide below as above."""
    found = Interval(mean, low, 2 * mean - low, n)
    return Comparison(rule, MEAN, 0.7, 0.7, found, p, 3, 1, -0.02, "a", math.nan, 0.0)


OTHER = _row("platt", -0.01, -0.02, 1.0)


@pytest.mark.parametrize(
    ("rows", "numbers", "reason"),
    [
        ([_row("optimal", -0.01, -0.02, 0.01)], "−1.0 points [−2.0, 0.0]", "it gains nothing in"),
        ([_row("optimal", 0.0008, 0.0003, 0.001)], "+0.08 points [+0.03, +0.13]", "not worth it"),
        (
            [_row("optimal", 0.03, -0.02, 0.2), OTHER],
            "+3.0 points [−2.0, +8.0]",
            "that can be chance, p = 0.20 after the correction for 2 rules",
        ),
        ([_row("optimal", 0.03, -0.02, 0.0504)], "+3.0", "that can be chance, p = 0.0504"),
        (
            [_row("optimal", 0.03, 0.01, 0.07), OTHER],
            "+3.0 points [+1.0, +5.0]",
            "p = 0.07 after the correction for 2 rules, which the interval is not corrected for",
        ),
        ([_row("optimal", 0.03, 0.01, 0.07)], "+3.0", "p = 0.07 by Student's paired test"),
        ([_row("optimal", 0.03, -0.001, 0.04)], "+3.0 points [−0.1,", "but the interval reaches"),
        (
            [_row("optimal", 0.03, 0.02, 0.001, n=3), OTHER],
            "+3.0 points",
            "3 cases say something of it, 6 are needed",
        ),
    ],
)
def test_why_a_rule_is_not_recommended_is_what_is_true_of_it(rows, numbers, reason) -> None:
    verdict = judge(rows)
    assert verdict.rule == "present"
    start = "stay with the present rule; nearest is t*: "
    assert verdict.sentence.startswith(start + numbers)
    assert reason in verdict.sentence.rpartition("; ")[2]
    assert ("chance" in verdict.sentence) == (reason.startswith("that can be chance"))


def test_each_rule_needs_enough_cases() -> None:
    """Of one threshold three cases say something, of t* eight: only that says enough of t*."""
    values = {
        "present": [[0.7, 0.71, 0.72] + [math.nan] * 5],
        "threshold": [[0.72, 0.731, 0.742] + [math.nan] * 5],
        "optimal": [[0.7, 0.71, 0.72] + [0.0] * 5],
    }
    rows = _rows(_scores(values))
    assert rows["threshold"].p <= 0.05
    assert rows["threshold"].difference.low > 0
    assert rows["optimal"].difference.n == 8
    verdict = judge(list(rows.values()))
    assert verdict.rule == "present"
    assert "nearest is one threshold: +2.1 points" in verdict.sentence


def test_a_rule_that_nothing_is_known_of_is_not_the_nearest() -> None:
    unknown = _row("threshold", math.nan, math.nan, math.nan, n=0)
    verdict = judge([unknown, _row("optimal", 0.03, -0.02, 0.2)])
    assert "nearest is t*" in verdict.sentence
    assert "nan" not in verdict.sentence
    assert verdict.sentence.endswith("chance, p = 0.20")  # which no other rule had a part in


@pytest.mark.parametrize(("cases", "words"), [(1, "1 labelled case says"), (5, "5 labelled cases")])
def test_few_cases_say_nothing(cases, words) -> None:
    verdict = judge(compare(_of({"optimal": 0.1}, cases)))
    assert verdict.rule == "present"
    assert words in verdict.sentence


def test_nothing_was_tried() -> None:
    assert judge(compare(_of({}))).rule == "present"


def test_a_class_counts_where_it_counts_under_one_rule() -> None:
    """The label lacks the second class: what is painted there is lost, what is no longer won."""
    values = {
        "present": [[0.5, 0.5, 0.5], [math.nan, 0.0, math.nan]],
        "optimal": [[0.6, 0.6, 0.6], [0.0, math.nan, math.nan]],
    }
    row = _rows(_scores(values))["optimal"]
    assert row.difference.mean == pytest.approx(((0.1 - 1) / 2 + (0.1 + 1) / 2 + 0.1) / 3)
    assert (row.worst_case, row.worst) == ("case 0", pytest.approx(-0.45))
    row = _rows(_scores(values), "class 1")["optimal"]
    assert (row.difference.n, row.better, row.worse) == (2, 1, 1)
    assert row.reached == 0.0


def test_promises_are_those_of_every_case_that_counts() -> None:
    """One case of eight promises something: that is not the mean of the eight."""
    scores = _scores({"present": [[0.5] * 7 + [0.9]], "optimal": [[0.5] * 7 + [math.nan]]})
    scores = [
        s._replace(promised=math.nan if s.case == "case 7" else int(s.case[-1]) / 10)
        for s in scores
    ]
    for structure in (MEAN, "class 0"):
        rows = _rows(scores, structure)
        assert math.isnan(rows["present"].promised)
        assert rows["optimal"].promised == pytest.approx(sum(range(7)) / 70)


def test_volume_errors_are_medians() -> None:
    scores = [s._replace(voxels=8 + 4 * n) for n, s in enumerate(_of({}, 5))]
    assert _rows(scores)["present"].volume_error == pytest.approx((8 + 4 * 2) / 8 - 1)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_overlap_is_f_beta_of_precision_and_recall(beta) -> None:
    precision, recall = 3 / 7, 3 / 5
    expected = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
    assert overlap_of(3, 7, 5, beta, "one") == pytest.approx(expected)


def test_surface_distance_of_shifted_boxes() -> None:
    """By brute force over all pairs of surface voxels."""
    random = np.random.default_rng(0)
    first = np.zeros((12, 14, 10), bool)
    first[2:7, 3:9, 2:6] = True
    second = np.roll(first, (2, 1, 3), (0, 1, 2)) | (random.uniform(size=first.shape) > 0.999)
    spacing = (1.0, 0.5, 2.5)

    def surface(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        inside = mask.copy()
        for axis in range(3):
            for step in (-1, 1):
                inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inside) * spacing

    one, two = surface(first), surface(second)
    distances = np.sqrt(((one[:, None] - two[None]) ** 2).sum(-1))
    expected = max(np.quantile(distances.min(1), 0.95), np.quantile(distances.min(0), 0.95))
    assert surface_distance(first, second, spacing) == pytest.approx(expected)
    assert surface_distance(first, np.zeros_like(first), spacing) == math.inf
    assert math.isnan(surface_distance(~first & first, np.zeros_like(first), spacing))
