"""Whether a rule is better than the present one, and which is to be used."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import stdtr

from marginseg.evaluation.candidates import ALL, BY_NAME, CANDIDATES, PRESENT
from marginseg.evaluation.scores import Score
from marginseg.intervals import Interval, holm, mean_intervals

#: Of the mean over the classes, in the place of a class's name.
MEAN: Final = "mean over classes"

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
        structure: The class, or ``MEAN``.
        reached: The mean overlap of the cases.
        promised: The mean of what the maps promised of the same cases; NaN unless each of them
            promises something, or it would be the mean of others.
        difference: Of the paired overlaps, the rule's less the present one's, see `gained`.
        p: Of no difference, by Student's paired test; for the mean over classes corrected by Holm's
            method for the number of rules. NaN where it says nothing.
        better: Cases that gain more than a point.
        worse: Cases that lose more than a point.
        worst: The largest loss: a difference, 0 or less.
        worst_case: Whose it is; empty where no case loses.
        surface: The mean surface distance over cases where it is finite: where neither label nor
            segmentation is empty. NaN if there is none, or nobody asked.
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

    The mean of a case is over the classes whose overlap says something; what a rule gains, over
    those where it does under one of both rules at least, see `gained`.

    Returns:
        Rows by class, the mean first, and rule, the present one and the ceiling among them.

    """
    by_class = _by_class(scores)
    gains = {
        structure: {
            rule: _differences(lines, by_rule[PRESENT.name]) for rule, lines in by_rule.items()
        }
        for structure, by_rule in by_class.items()
    }
    over_classes = _over_classes(by_class)
    mean_gains = {
        rule: _mean_differences([by_rule[rule] for by_rule in gains.values()])
        for rule in over_classes
    }
    rows = _compared(MEAN, over_classes, mean_gains)
    for structure, by_rule in by_class.items():
        rows += _compared(structure, by_rule, gains[structure])
    return rows


def _compared(
    structure: str,
    by_rule: Mapping[str, Mapping[str, _Line]],
    gains: Mapping[str, Mapping[str, float]],
) -> list[Comparison]:
    """Return the rows of a class, or of the mean over classes."""
    names = [candidate.name for candidate in ALL if candidate.name in by_rule]
    values = {name: list(gains[name].values()) for name in names}
    intervals = mean_intervals([values[name] for name in names])
    p_values = {c.name: _p(values[c.name]) for c in CANDIDATES if c.name in by_rule}
    if structure == MEAN:
        known = [name for name, p in p_values.items() if math.isfinite(p)]
        corrected = holm([p_values[name] for name in known])
        p_values.update(zip(known, corrected, strict=True))
    rows = []
    for name, interval in zip(names, intervals, strict=True):
        worst_case, worst = _worst(gains[name])
        lines = by_rule[name].values()
        rows.append(
            Comparison(
                name,
                structure,
                _mean(line.overlap for line in lines),
                _promised(lines),
                interval,
                p_values.get(name, math.nan),
                sum(gain > POINT for gain in values[name]),
                sum(gain < -POINT for gain in values[name]),
                worst,
                worst_case,
                _mean(line.surface for line in lines),
                _median(line.volume_error for line in lines),
            )
        )
    return rows


def judge(comparisons: Sequence[Comparison]) -> Verdict:
    """Say which rule is to be used, or that none is better than the present one.

    A rule is better if its mean over the cases lies above the present one's by more than chance
    explains, corrected for the number of rules tried, and by a tenth of a point at least, of as
    many cases as are needed. Of those that are, it is the simplest one that is within a tenth of a
    point of the best.
    """
    rows = {row.rule: row for row in comparisons if row.structure == MEAN}
    tried = [rows[c.name] for c in CANDIDATES if c.name in rows]
    if not tried:
        return Verdict(PRESENT.name, "no other rule was tried: stay with the present rule")
    cases = max(row.difference.n for row in tried)
    if cases < FEWEST_CASES:
        are = "1 labelled case says" if cases == 1 else f"{cases} labelled cases say"
        return Verdict(
            PRESENT.name,
            f"{are} too little ({FEWEST_CASES} are needed): stay with the present rule",
        )
    corrected = sum(math.isfinite(row.p) for row in tried)
    better = [row for row in tried if not _against(row, corrected)]
    if not better:
        known = (row for row in tried if math.isfinite(row.difference.mean))
        best = max(known, key=lambda row: row.difference.mean)
        small = 0.0 < best.difference.mean < LEAST_GAIN
        return Verdict(
            PRESENT.name,
            f"stay with the present rule; nearest is {described(best, digits=2 if small else 1)}; "
            f"{_against(best, corrected)}",
        )
    most = max(row.difference.mean for row in better)
    best = next(row for row in better if row.difference.mean >= most - LEAST_GAIN)
    return Verdict(best.rule, f"{described(best)}: use it")


def _against(row: Comparison, corrected: int) -> str:
    """Return why a rule is not better than the present one; nothing if it is.

    Args:
        row: The rule, in the mean over classes.
        corrected: For how many rules its p-value is corrected.

    """
    mean, low, _, n = row.difference
    if not mean > 0:
        return "it gains nothing in the mean"
    if n < FEWEST_CASES:
        say = "1 case says" if n == 1 else f"{n} cases say"
        return f"{say} something of it, {FEWEST_CASES} are needed"
    if mean < LEAST_GAIN:
        return "better by less than a tenth of a point: not worth it"
    if not row.p <= SIGNIFICANCE:
        # As many digits as show on which side of the bound it lies.
        p = f"p = {row.p:.2f}" if round(row.p, 2) > SIGNIFICANCE else f"p = {row.p:.4f}"
        told = f"{p} after the correction for {corrected} rules" if corrected > 1 else p
        if not low > 0:
            return f"that can be chance, {told}"
        if corrected > 1:
            return f"{told}, which the interval is not corrected for"
        return f"{told} by Student's paired test"
    if not low > 0:
        return "but the interval reaches down to 0"
    return ""


def described(row: Comparison, *, digits: int = 1) -> str:
    """Return a comparison in words, in points (hundredths) of so many digits.

    Example:
        >>> found = Interval(0.012, 0.006, 0.019, 40)
        >>> described(Comparison("isotonic", MEAN, 0.8, 0.8, found, 0.001, 20, 3, -0.008,
        ...                      "case_7", math.nan, 0.0))
        'isotonic + t*: +1.2 points [+0.6, +1.9], worst case −0.8 (case_7)'

    """
    mean, low, high = (points(value, digits) for value in row.difference[:3])
    interval = "" if math.isnan(row.difference.low) else f" [{low}, {high}]"
    loss = f"worst case {points(row.worst, digits)} ({row.worst_case})"
    worst = loss if row.worst_case else "none loses"
    return f"{BY_NAME[row.rule].title}: {mean} points{interval}, {worst}"


def gained(after: float, before: float) -> float:
    """Return what an overlap gains over another one of the same case and class.

    Where one of both says nothing, the label is empty and so is that segmentation alone: it is
    right, and counts as 1. If such cases were left out, nothing would be lost by painting where
    there is nothing.

    Args:
        after: An overlap; NaN where it says nothing.
        before: That which it is compared with.

    Returns:
        The difference; NaN where neither says anything.

    Example:
        >>> gained(0.0, math.nan), gained(math.nan, 0.0), gained(math.nan, math.nan)
        (-1.0, 1.0, nan)

    """
    if math.isnan(after) and math.isnan(before):
        return math.nan
    return (1.0 if math.isnan(after) else after) - (1.0 if math.isnan(before) else before)


def points(value: float, digits: int = 1) -> str:
    """Return a difference in hundredths, with its sign.

    Example:
        >>> points(0.0123), points(-0.008), points(0.0001), points(0.0001, 2)
        ('+1.2', '−0.8', '0.0', '+0.01')

    """
    text = f"{100 * value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


@dataclass(frozen=True)
class _Line:
    """A case of a class under a rule."""

    overlap: float
    promised: float
    surface: float
    volume_error: float


def _by_class(scores: Iterable[Score]) -> dict[str, dict[str, dict[str, _Line]]]:
    """Return lines by class, rule and case."""
    found: dict[str, dict[str, dict[str, _Line]]] = {}
    for score in scores:
        line = _Line(
            score.overlap,
            score.promised,
            score.surface,
            score.voxels / score.label_voxels - 1 if score.label_voxels else math.nan,
        )
        found.setdefault(score.structure, defaultdict(dict))[score.rule][score.case] = line
    return found


def _over_classes(
    by_class: Mapping[str, Mapping[str, Mapping[str, _Line]]],
) -> dict[str, dict[str, _Line]]:
    """Return the means over classes of each rule and case."""
    grouped: dict[str, dict[str, list[_Line]]] = defaultdict(lambda: defaultdict(list))
    for by_rule in by_class.values():
        for rule, lines in by_rule.items():
            for case, line in lines.items():
                grouped[rule][case].append(line)
    return {
        rule: {
            case: _Line(
                _mean(line.overlap for line in lines),
                _promised(lines),
                _mean(line.surface for line in lines),
                _mean(line.volume_error for line in lines),
            )
            for case, lines in cases.items()
        }
        for rule, cases in grouped.items()
    }


def _differences(lines: Mapping[str, _Line], present: Mapping[str, _Line]) -> dict[str, float]:
    """Return of each case what a rule gains, where that says something."""
    found = {case: gained(line.overlap, present[case].overlap) for case, line in lines.items()}
    return {case: difference for case, difference in found.items() if math.isfinite(difference)}


def _mean_differences(of_classes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return of each case the mean over the classes where the gain says something."""
    found: dict[str, list[float]] = defaultdict(list)
    for differences in of_classes:
        for case, difference in differences.items():
            found[case].append(difference)
    return {case: _mean(values) for case, values in found.items()}


def _p(differences: Sequence[float]) -> float:
    """Return the p-value of Student's paired test; 1 where nothing differs."""
    if len(differences) < 2:
        return math.nan
    values = np.asarray(differences)
    if values.min() == values.max():
        return 1.0 if values[0] == 0 else 0.0
    t = values.mean() / (values.std(ddof=1) / math.sqrt(len(values)))
    return float(2 * stdtr(len(values) - 1, -abs(t)))


def _worst(differences: Mapping[str, float]) -> tuple[str, float]:
    if not differences or min(differences.values()) >= 0:
        return "", 0.0
    case = min(differences, key=lambda name: differences[name])
    return case, differences[case]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _promised(lines: Iterable[_Line]) -> float:
    """Return the mean promise of what counts; NaN where something of it has none."""
    known = [line.promised for line in lines if math.isfinite(line.overlap)]
    return math.fsum(known) / len(known) if known else math.nan


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan
