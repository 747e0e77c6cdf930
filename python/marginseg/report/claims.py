"""The paper's claims, and for which structures and noise levels a study bears them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marginseg.intervals import holm
from marginseg.report.covered import OVER, less_known, place

#: The verdicts on a claim, at one structure and noise level.
VERDICTS = ("holds", "fails", "undecided", "too few cases", "nothing to expect")

#: The verdicts that say something of the claim.
JUDGED = VERDICTS[:3]

#: With fewer cases not even differences of one sign are significant: 2 / 2⁵ > 0.05.
FEWEST_CASES = 6

#: What a finding has of the difference that it judges.
KEPT = ("method", "baseline", "mean", "low", "high", "n", "networks", "covers")

#: Of error, for all verdicts of a study together.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Claim:
    """That a method is better than another, or no worse by more than a margin.

    Attributes:
        text: In symbols.
        words: In words.
        method: The one.
        baseline: The other.
        margin: By which it may be worse, in Dice against the noisy label.
        needs_noise: Without noise the claim says nothing.

    """

    text: str
    words: str
    method: str
    baseline: str
    margin: float
    needs_noise: bool

    def is_judged(self, cases: int, std: float) -> bool:
        """Whether a number of cases at a noise level can say anything of it."""
        return cases >= FEWEST_CASES and not (self.needs_noise and std == 0)

    def verdict(self, mean: float, p: float, *, cases: int, std: float) -> str:
        """Judge the paired difference ``method`` less ``baseline``.

        Args:
            mean: Of the difference.
            p: How likely so large a distance from the claim's bound is by chance, corrected for
                the number of verdicts.
            cases: How many different cases there are.
            std: The noise level.

        Returns:
            ``"holds"`` or ``"fails"`` (the mean is significantly above the bound, 0 or less the
            margin, or below), ``"undecided"``, ``"too few cases"`` or ``"nothing to expect"``.

        Example:
            >>> better, as_good = CLAIMS
            >>> better.verdict(0.02, 0.01, cases=30, std=0.02)
            'holds'
            >>> better.verdict(0.02, 0.06, cases=30, std=0.02)
            'undecided'
            >>> as_good.verdict(-0.004, 0.01, cases=30, std=0)
            'holds'

        """
        if self.needs_noise and std == 0:
            return "nothing to expect"
        if not self.is_judged(cases, std):
            return "too few cases"
        if not p <= SIGNIFICANCE:
            return "undecided"
        return "holds" if mean > -self.margin else "fails"


CLAIMS = (
    Claim(
        "CE(*) > CE(0)",
        "cross-entropy cut at t* is better than cut at ½",
        "CE(*)",
        "CE(0)",
        0.0,
        True,
    ),
    Claim(
        "CE(*) ≥ SD(0) − 0.005",
        "cross-entropy cut at t* is as good as soft-Dice, or worse by 0.005 at most",
        "CE(*)",
        "SD(0)",
        0.005,
        False,
    ),
)


def judge(differences: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Judge every claim at every structure and noise level.

    The more verdicts, the likelier is one by chance: their p-values are corrected by Holm's method,
    so that with probability 0.95 not one of all is wrong.

    Args:
        differences: As from :func:`marginseg.report.summary.differences_table`.

    Returns:
        For each claim, structure and std a row with ``claim``, ``structure``, ``std``,
        ``verdict``, the corrected ``p``, and ``mean``, ``low``, ``high``, ``n``, ``networks`` and
        ``covers`` of the paired difference in Dice against the noisy label, ``method`` less
        ``baseline``. The interval has 95 % on its own.

    """
    rows = [
        (claim, row)
        for claim in CLAIMS
        for row in differences
        if (row["method"], row["baseline"], row["reference"])
        == (claim.method, claim.baseline, "noisy")
    ]
    judged = [claim.is_judged(row["n"], row["std"]) for claim, row in rows]
    corrected = iter(holm([row["p"] for (_, row), said in zip(rows, judged, strict=True) if said]))
    findings = []
    for (claim, row), said in zip(rows, judged, strict=True):
        p = next(corrected) if said else math.nan
        findings.append(
            {
                "claim": claim.text,
                "structure": row["structure"],
                "std": row["std"],
                "verdict": claim.verdict(row["mean"], p, cases=row["n"], std=row["std"]),
                "p": p,
                **{name: row[name] for name in KEPT},
            }
        )
    return findings


def sentences(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say at how many structures and noise levels each claim holds, and where it does not.

    Args:
        findings: As from `judge`.

    Returns:
        A sentence for each claim.

    """
    said = []
    for claim in CLAIMS:
        rows = [row for row in findings if row["claim"] == claim.text]
        if not rows:
            said.append(f"{claim.text}: no case has been tested with both methods.")
            continue
        judged = [row for row in rows if row["verdict"] in JUDGED]
        holds = sum(row["verdict"] == "holds" for row in judged)
        text = f"{claim.text} ({claim.words})"
        if judged:
            text += f": holds at {holds} of {len(judged)} structures and noise levels."
        elif any(row["verdict"] == "too few cases" for row in rows):
            text += f": fewer than {FEWEST_CASES} cases say nothing."
        else:
            text += ": no noise level above 0 has been tested."
        for verdict in VERDICTS[1:4]:
            chosen = [row for row in rows if row["verdict"] == verdict]
            if chosen:
                listed = "; ".join(_described(row) for row in chosen)
                text += f" {verdict.capitalize()}: {listed}."
        for covers, places in less_known(judged).items():
            text += f" Judged by {OVER[covers]}: {'; '.join(places)}."
        said.append(text)
    return said


def interval_text(row: Mapping[str, Any], *, signed: bool = False, digits: int = 3) -> str:
    """Return a mean and its interval in words.

    Example:
        >>> interval_text({"mean": 0.02, "low": 0.01, "high": 0.03}, signed=True)
        '+0.020 [+0.010, +0.030]'

    """
    sign = "+" if signed else "z"  # an overlap near 0 is not -0.000
    if math.isnan(row["low"]):
        return f"{row['mean']:{sign}.{digits}f}".replace("-", "−")
    numbers = [f"{row[name]:{sign}.{digits}f}" for name in ("mean", "low", "high")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]".replace("-", "−")


def _described(row: Mapping[str, Any]) -> str:
    return f"{place(row['structure'], row['std'])}, {interval_text(row, signed=True)}"
