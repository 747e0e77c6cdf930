"""Whether a rule is better than the present one, and which is to be used."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from marginseg.evaluation.candidates import ALL, BY_NAME, CANDIDATES, PRESENT
from marginseg.evaluation.scores import Score
from marginseg.intervals import Interval, holm, mean_intervals

#: Of the mean over the classes, in the place of a class's name.
MEAN: Final = "mean"

#: With fewer cases not even differences of one sign are significant: 2 / 2⁵ > 0.05.
FEWEST_CASES: Final = 6

#: Of error, for all rules together.
SIGNIFICANCE: Final = 0.05

#: A hundredth of Dice: a case that changes by more is better or worse.
POINT: Final = 0.01

#: A rule that gains less in the mean is not worth its trouble: a tenth of a point.
LEAST_GAIN: Final = 0.001


@dataclass(frozen=True)
class Comparison:
    """A rule beside the present one, over the cases of a class, or of the mean over classes.

    Attributes:
        rule: Its name.
        structure: The class, or ``"mean"``.
        reached: The mean overlap of the cases.
        promised: The mean of what the maps promised of the same cases; NaN where they promise
            nothing.
        difference: Of the paired overlaps, the rule's less the present one's.
        p: Of no difference, by Student's paired test; for the mean over classes corrected by Holm's
            method for the number of rules. NaN where it says nothing.
        better: Cases that gain more than a point.
        worse: Cases that lose more than a point.
        worst: The largest loss: a difference, 0 or less.
        worst_case: Whose it is; empty where no case loses.
        surface: The mean surface distance over cases where it is finite; NaN if nobody asked.
        volume_error: The median over cases of |s|/|l| - 1.

    """

    rule: str
    structure: str
    reached: float
    promised: float
    difference: Interval
    p: float
    better: int
    worse: int
    worst: float
    worst_case: str
    surface: float
    volume_error: float


@dataclass(frozen=True)
class Verdict:
    """What to do.

    Attributes:
        rule: The name of the rule to be used; ``"present"`` to stay with what is done now.
        sentence: Why, with the numbers.

    """

    rule: str
    sentence: str


def compare(scores: Iterable[Score]) -> list[Comparison]:
    """Compare every rule with the present one, class by class and in the mean over classes.

    The mean of a case is over the classes whose overlap says something. A pair of which one value
    says nothing is left out.

    Returns:
        Rows by class, the mean first, and rule, the present one and the ceiling among them.

    """
    by_class = _by_class(scores)
    rows: list[Comparison] = []
    for structure, by_rule in by_class.items():
        present = by_rule[PRESENT.name]
        names = [candidate.name for candidate in ALL if candidate.name in by_rule]
        pairs = {name: _pairs(by_rule[name], present) for name in names}
        differences = {
            name: [after - before for after, before in both.values()]
            for name, both in pairs.items()
        }
        intervals = mean_intervals([differences[name] for name in names])
        tried = [c.name for c in CANDIDATES if c.name in by_rule]
        p_values = {name: _p(differences[name]) for name in tried}
        if structure == MEAN:
            known = [name for name in tried if math.isfinite(p_values[name])]
            corrected = holm([p_values[name] for name in known])
            p_values.update(zip(known, corrected, strict=True))
        for name, interval in zip(names, intervals, strict=True):
            worst_case, worst = _worst(pairs[name])
            rows.append(
                Comparison(
                    name,
                    structure,
                    _mean(line.overlap for line in by_rule[name].values()),
                    _mean(line.promised for line in by_rule[name].values()),
                    interval,
                    p_values.get(name, math.nan),
                    sum(difference > POINT for difference in differences[name]),
                    sum(difference < -POINT for difference in differences[name]),
                    worst,
                    worst_case,
                    _mean(line.surface for line in by_rule[name].values()),
                    _median(line.volume_error for line in by_rule[name].values()),
                )
            )
    return rows


def judge(comparisons: Sequence[Comparison]) -> Verdict:
    """Say which rule is to be used, or that none is better than the present one.

    A rule is better if its mean over the cases lies above the present one's by more than chance
    explains, corrected for the number of rules tried, and by a tenth of a point at least. Of those
    that are, it is the simplest one that is within a tenth of a point of the best.
    """
    rows = {row.rule: row for row in comparisons if row.structure == MEAN}
    tried = [rows[c.name] for c in CANDIDATES if c.name in rows]
    cases = max((row.difference.n for row in tried), default=0)
    if cases < FEWEST_CASES:
        are = "1 labelled case says" if cases == 1 else f"{cases} labelled cases say"
        return Verdict(
            PRESENT.name,
            f"{are} too little ({FEWEST_CASES} are needed): stay with the present rule",
        )
    better = [
        row
        for row in tried
        if row.p <= SIGNIFICANCE and row.difference.low > 0 and row.difference.mean >= LEAST_GAIN
    ]
    if not better:
        best = max(tried, key=lambda row: row.difference.mean)
        return Verdict(
            PRESENT.name,
            "stay with the present rule: no other is better by more than chance explains; "
            f"nearest: {described(best)}",
        )
    most = max(row.difference.mean for row in better)
    best = next(row for row in better if row.difference.mean >= most - LEAST_GAIN)
    return Verdict(best.rule, f"{described(best)}: use it")


def described(row: Comparison) -> str:
    """Return a comparison in words, in points (hundredths).

    Example:
        >>> found = Interval(0.012, 0.006, 0.019, 40)
        >>> described(Comparison("isotonic", "mean", 0.8, 0.8, found, 0.001, 20, 3, -0.008,
        ...                      "case_7", math.nan, 0.0))
        'isotonic + t*: +1.2 points [+0.6, +1.9], worst case −0.8 (case_7)'

    """
    mean, low, high = (points(value) for value in row.difference[:3])
    interval = "" if math.isnan(row.difference.low) else f" [{low}, {high}]"
    worst = f"worst case {points(row.worst)} ({row.worst_case})" if row.worst_case else "none loses"
    return f"{BY_NAME[row.rule].title}: {mean} points{interval}, {worst}"


def points(value: float) -> str:
    """Return a difference in hundredths, with its sign.

    Example:
        >>> points(0.0123), points(-0.008), points(0.0001)
        ('+1.2', '−0.8', '0.0')

    """
    text = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


@dataclass(frozen=True)
class _Line:
    """A case of a class under a rule."""

    overlap: float
    promised: float
    surface: float
    volume_error: float


def _by_class(scores: Iterable[Score]) -> dict[str, dict[str, dict[str, _Line]]]:
    """Return lines by class (the mean first), rule and case."""
    found: dict[str, dict[str, dict[str, _Line]]] = {MEAN: defaultdict(dict)}
    grouped: dict[tuple[str, str], list[_Line]] = defaultdict(list)
    for score in scores:
        line = _Line(
            score.overlap,
            score.promised if math.isfinite(score.overlap) else math.nan,
            score.surface,
            score.voxels / score.label_voxels - 1 if score.label_voxels else math.nan,
        )
        found.setdefault(score.structure, defaultdict(dict))[score.rule][score.case] = line
        grouped[score.rule, score.case].append(line)
    for (rule, case), lines in grouped.items():
        found[MEAN][rule][case] = _Line(
            _mean(line.overlap for line in lines),
            _mean(line.promised for line in lines),
            _mean(line.surface for line in lines),
            _mean(line.volume_error for line in lines),
        )
    return found


def _pairs(
    lines: Mapping[str, _Line], present: Mapping[str, _Line]
) -> dict[str, tuple[float, float]]:
    both = {case: (line.overlap, present[case].overlap) for case, line in lines.items()}
    return {case: pair for case, pair in both.items() if all(map(math.isfinite, pair))}


def _p(differences: Sequence[float]) -> float:
    """Return the p-value of Student's paired test; 1 where nothing differs."""
    if len(differences) < 2:
        return math.nan
    values = np.asarray(differences)
    if values.min() == values.max():
        return 1.0 if values[0] == 0 else 0.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def _worst(pairs: Mapping[str, tuple[float, float]]) -> tuple[str, float]:
    losses = {case: after - before for case, (after, before) in pairs.items()}
    if not losses or min(losses.values()) >= 0:
        return "", 0.0
    case = min(losses, key=lambda name: losses[name])
    return case, losses[case]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan
