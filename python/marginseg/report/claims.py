"""The paper's claims, and for which structures and noise levels a study bears them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The verdicts on a claim, at one structure and noise level.
VERDICTS = ("holds", "fails", "undecided", "nothing to expect")


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

    def verdict(self, low: float, high: float, *, std: float) -> str:
        """Judge the interval of the paired difference ``method`` less ``baseline``.

        Args:
            low: The interval's lower end; NaN where there is none.
            high: Its upper end.
            std: The noise level.

        Returns:
            ``"holds"`` (the whole interval is above 0, or for a margin not below it), ``"fails"``
            (the whole interval is below), ``"undecided"``, or ``"nothing to expect"``.

        Example:
            >>> better, as_good = CLAIMS
            >>> better.verdict(0.01, 0.03, std=0.02), better.verdict(-0.01, 0.03, std=0.02)
            ('holds', 'undecided')
            >>> as_good.verdict(-0.004, 0.001, std=0.02), as_good.verdict(-0.02, -0.01, std=0)
            ('holds', 'fails')

        """
        if self.needs_noise and std == 0:
            return "nothing to expect"
        if math.isnan(low) or math.isnan(high):
            return "undecided"
        if low > 0 or (self.margin > 0 and low >= -self.margin):
            return "holds"
        return "fails" if high < -self.margin else "undecided"


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

    Args:
        differences: As from :func:`marginseg.report.summary.differences_table`.

    Returns:
        For each claim, structure and std a row with ``claim``, ``structure``, ``std``,
        ``verdict``, and ``mean``, ``low``, ``high``, ``n`` of the paired difference in Dice
        against the noisy label.

    """
    return [
        {
            "claim": claim.text,
            "structure": row["structure"],
            "std": row["std"],
            "verdict": claim.verdict(row["low"], row["high"], std=row["std"]),
            **{name: row[name] for name in ("mean", "low", "high", "n")},
        }
        for claim in CLAIMS
        for row in differences
        if (row["method"], row["baseline"], row["reference"])
        == (claim.method, claim.baseline, "noisy")
    ]


def sentences(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say for which structures and noise levels each claim holds, with the intervals.

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
        judged = [row for row in rows if row["verdict"] != "nothing to expect"]
        holds = sum(row["verdict"] == "holds" for row in judged)
        text = f"{claim.text} ({claim.words})"
        if judged:
            text += f": holds at {holds} of {len(judged)} structures and noise levels."
        else:
            text += ": no noise level above 0 has been tested."
        for verdict in VERDICTS:
            chosen = [row for row in rows if row["verdict"] == verdict]
            if chosen:
                listed = "; ".join(_described(row) for row in chosen)
                name = "Nothing to expect without noise" if verdict == VERDICTS[3] else verdict
                text += f" {name.capitalize() if name == verdict else name}: {listed}."
        said.append(text)
    return said


def interval_text(row: Mapping[str, Any], *, signed: bool = False, digits: int = 3) -> str:
    """Return a mean and its interval in words.

    Example:
        >>> interval_text({"mean": 0.02, "low": 0.01, "high": 0.03}, signed=True)
        '+0.020 [+0.010, +0.030]'

    """
    sign = "+" if signed else ""
    if math.isnan(row["low"]):
        return f"{row['mean']:{sign}.{digits}f}".replace("-", "−")
    numbers = [f"{row[name]:{sign}.{digits}f}" for name in ("mean", "low", "high")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]".replace("-", "−")


def _described(row: Mapping[str, Any]) -> str:
    name = row["structure"].replace("_", " ")
    return f"{name} at a = {row['std']:g}, {interval_text(row, signed=True)}"
