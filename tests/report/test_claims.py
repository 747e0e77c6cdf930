from __future__ import annotations

import math

import pytest

from marginseg.report.claims import CLAIMS, interval_text, judge, sentences

NAN = math.nan


@pytest.mark.parametrize(
    ("low", "high", "better", "as_good"),
    [
        (0.001, 0.01, "holds", "holds"),
        (0.0, 0.01, "undecided", "holds"),
        (-0.005, 0.01, "undecided", "holds"),
        (-0.006, 0.01, "undecided", "undecided"),
        (-0.02, -0.001, "fails", "undecided"),
        (-0.02, -0.005, "fails", "undecided"),
        (-0.02, -0.006, "fails", "fails"),
        (NAN, NAN, "undecided", "undecided"),
    ],
)
def test_verdicts(low, high, better, as_good) -> None:
    first, second = CLAIMS
    assert first.verdict(low, high, std=0.02) == better
    assert second.verdict(low, high, std=0.02) == as_good
    assert first.verdict(low, high, std=0) == "nothing to expect"
    assert second.verdict(low, high, std=0) == as_good


def _row(baseline: str, structure: str, std: float, low: float, high: float) -> dict[str, object]:
    return {
        "structure": structure,
        "std": std,
        "method": "CE(*)",
        "baseline": baseline,
        "reference": "noisy",
        "mean": (low + high) / 2,
        "low": low,
        "high": high,
        "n": 9,
    }


def test_words_name_every_place_with_its_interval() -> None:
    findings = judge(
        [
            _row("CE(0)", "thin_tube", 0.0, -0.01, 0.01),
            _row("CE(0)", "thin_tube", 0.06, 0.02, 0.04),
            {**_row("CE(0)", "thin_tube", 0.06, -1, 1), "reference": "clean"},
            _row("CE(0)", "kidney", 0.06, -0.04, -0.02),
        ]
    )
    assert [row["verdict"] for row in findings] == ["nothing to expect", "holds", "fails"]
    first, second = sentences(findings)
    assert "holds at 1 of 2 structures and noise levels." in first
    assert "Holds: thin tube at a = 0.06, +0.030 [+0.020, +0.040]." in first
    assert "Fails: kidney at a = 0.06, −0.030 [−0.040, −0.020]." in first
    assert "Nothing to expect without noise: thin tube at a = 0," in first
    assert "no case has been tested with both methods" in second


def test_without_noise_only_one_claim_is_judged() -> None:
    first, second = sentences(
        judge([_row("CE(0)", "tube", 0, 0.1, 0.2), _row("SD(0)", "tube", 0, -0.001, 0.2)])
    )
    assert "no noise level above 0 has been tested" in first
    assert "Holds: tube at a = 0" in second


def test_a_mean_without_interval() -> None:
    assert interval_text({"mean": -0.5, "low": NAN, "high": NAN}) == "−0.500"
