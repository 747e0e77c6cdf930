from __future__ import annotations

import math

import pytest

from marginseg.report.claims import CLAIMS, interval_text, judge, sentences

NAN = math.nan


@pytest.mark.parametrize(
    ("mean", "p", "better", "as_good"),
    [
        (0.01, 0.05, "holds", "holds"),
        (0.01, 0.051, "undecided", "undecided"),
        (-0.004, 0.001, "fails", "holds"),
        (-0.006, 0.001, "fails", "fails"),
        (-0.02, 0.06, "undecided", "undecided"),
        (0.5, NAN, "undecided", "undecided"),
    ],
)
def test_verdicts(mean, p, better, as_good) -> None:
    first, second = CLAIMS
    assert first.verdict(mean, p, cases=6, std=0.02) == better
    assert second.verdict(mean, p, cases=6, std=0.02) == as_good
    assert first.verdict(mean, p, cases=6, std=0) == "nothing to expect"
    assert second.verdict(mean, p, cases=6, std=0) == as_good
    assert first.verdict(mean, p, cases=5, std=0.02) == "too few cases"
    assert second.verdict(mean, p, cases=5, std=0) == "too few cases"


def _row(
    baseline: str, structure: str, std: float, mean: float, p: float, n: int = 9
) -> dict[str, object]:
    return {
        "structure": structure,
        "std": std,
        "method": "CE(*)",
        "baseline": baseline,
        "reference": "noisy",
        "mean": mean,
        "low": mean - 0.01,
        "high": mean + 0.01,
        "n": n,
        "networks": 2,
        "covers": "cases",
        "p": p,
    }


def test_words_name_every_place_where_a_claim_does_not_hold() -> None:
    findings = judge(
        [
            _row("CE(0)", "thin_tube", 0.0, 0.0, 1e-9),
            _row("CE(0)", "thin_tube", 0.06, 0.03, 0.01),
            {**_row("CE(0)", "thin_tube", 0.06, 0.0, 0.5), "reference": "clean"},
            _row("CE(0)", "kidney", 0.06, -0.03, 0.02),
            _row("CE(0)", "tube", 0.06, 0.3, 1e-9, n=5),
        ]
    )
    assert [row["verdict"] for row in findings] == [
        "nothing to expect",
        "holds",
        "fails",
        "too few cases",
    ]
    first, second = sentences(findings)
    assert "holds at 1 of 2 structures and noise levels." in first
    assert "Fails: kidney at a = 0.06, −0.030 [−0.040, −0.020]." in first
    assert "Too few cases: tube at a = 0.06, +0.300 [+0.290, +0.310]." in first
    assert "thin tube" not in first
    assert "no case has been tested with both methods" in second


def test_verdicts_are_corrected_for_the_number_of_those_that_can_be_given() -> None:
    """Two of them, whatever stands beside: 2 * 0.026 is above 0.05, and 2 * 0.024 is not."""
    unjudged = [_row("CE(0)", "tube", 0.0, 0.1, 0.5), _row("CE(0)", "tube", 0.02, 0.1, 0.5, n=2)]
    for smallest, verdict in ((0.026, "undecided"), (0.024, "holds")):
        rows = [_row("CE(0)", "kidney", 0.06, 0.1, smallest), _row("SD(0)", "tube", 0, 0.1, 0.9)]
        found = {row["structure"]: row for row in judge(unjudged + rows) if row["n"] == 9}
        assert found["kidney"]["verdict"] == verdict
        assert found["kidney"]["p"] == pytest.approx(2 * smallest)


def test_few_cases_are_no_finding() -> None:
    """Two cases with one sign held the claim at 1 of 1 once."""
    (first, _) = sentences(judge([_row("CE(0)", "tube", 0.06, 0.2, 0.001, n=2)]))
    assert "holds at" not in first
    assert "fewer than 6 cases say nothing" in first


def test_without_noise_only_one_claim_is_judged() -> None:
    first, second = sentences(
        judge([_row("CE(0)", "tube", 0, 0.15, 0.2), _row("SD(0)", "tube", 0, 0.1, 0.001)])
    )
    assert "no noise level above 0 has been tested" in first
    assert "holds at 1 of 1" in second


def test_a_mean_without_interval() -> None:
    assert interval_text({"mean": -0.5, "low": NAN, "high": NAN}) == "−0.500"


def test_an_overlap_near_zero_has_no_sign() -> None:
    """An interval by variances may reach a little below 0; the side of a difference is told."""
    row = {"mean": 0.001, "low": -0.0002, "high": 0.003}
    assert interval_text(row) == "0.001 [0.000, 0.003]"
    assert interval_text(row, signed=True) == "+0.001 [−0.000, +0.003]"
