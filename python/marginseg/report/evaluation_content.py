"""What an evaluation found, as ``evaluation.json`` has it: every number, settings and versions."""

from __future__ import annotations

import datetime
import math
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import torch

from marginseg import intervals
from marginseg.evaluation.candidates import ALL, BY_NAME, CANDIDATES, PRESENT, Candidate
from marginseg.evaluation.evaluate import Evaluation
from marginseg.evaluation.fits import Reliability
from marginseg.evaluation.scores import Score
from marginseg.evaluation.verdict import FEWEST_CASES, MEAN, SIGNIFICANCE, Comparison
from marginseg.report.columns import csv_text
from marginseg.report.map_thresholds import map_thresholds

#: The version of the layout of ``evaluation.json``.
FORMAT: Final = 1

#: Bins of a calibration curve.
BINS: Final = 15

#: Shares of the cases below what is told of their thresholds.
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)

#: The most classes that figures show one by one.
MOST_CLASSES: Final = 8

#: Of more classes, so many of the best and of the worst.
EXTREME_CLASSES: Final = 3

#: The columns of ``rules.csv``.
RULE_COLUMNS: Final = (
    "structure",
    "rule",
    "reached",
    "difference",
    "low",
    "high",
    "n",
    "p",
    "better",
    "worse",
    "worst",
    "worst_case",
    "promised",
    "volume_error",
    "surface",
)


def cases_text(scores: Sequence[Score]) -> str:
    """Return ``cases.csv``: every rule on every class of every case."""
    return csv_text([score._asdict() for score in scores], Score._fields)


def rules_text(comparisons: Sequence[Comparison]) -> str:
    """Return ``rules.csv``: every rule beside the present one."""
    return csv_text([comparison_row(comparison) for comparison in comparisons], RULE_COLUMNS)


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as a row of `RULE_COLUMNS`."""
    row = {**vars(comparison), **comparison.difference._asdict()}
    row["difference"] = row.pop("mean")
    return {name: row[name] for name in RULE_COLUMNS}


def metric_name(beta: float) -> str:
    """Return what the overlap is called.

    Example:
        >>> metric_name(1.0), metric_name(2.0)
        ('Dice', 'F2')

    """
    return "Dice" if beta == 1.0 else f"F{beta:g}"


def shown_rule(evaluation: Evaluation) -> str:
    """Return the name of the rule that figures show: that to be used, or the nearest to it."""
    return evaluation.verdict.rule if _changes(evaluation) else _best(evaluation, CANDIDATES)


def best_calibrated(evaluation: Evaluation) -> str:
    """Return the best rule that calibrates; the name of the present one where none was tried."""
    chosen = BY_NAME[shown_rule(evaluation)]
    return (
        chosen.name
        if chosen.method is not None
        else _best(evaluation, [c for c in CANDIDATES if c.method is not None])
    )


def evaluation_content(evaluation: Evaluation, described: str) -> dict[str, Any]:
    """Return all that the page says, as JSON has it but for NaN.

    Args:
        evaluation: What was found.
        described: What cases and classes were taken from, in a sentence.

    """
    verdict = evaluation.verdict
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "layout": described,
        "versions": {
            "marginseg": version("marginseg"),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "scipy": version("scipy"),
            "python": platform.python_version(),
        },
        "settings": asdict(evaluation.settings),
        "metric": metric_name(evaluation.settings.beta),
        "statistics": {
            "interval": "expanded BCa bootstrap of the mean over cases",
            "level": intervals.LEVEL,
            "resamples": intervals.RESAMPLES,
            "seed": intervals.SEED,
            "p": "Student's paired test; of the mean over classes corrected by Holm's method",
            "significance": SIGNIFICANCE,
            "fewest_cases": FEWEST_CASES,
        },
        "classes": evaluation.classes.state(),
        "cases": [
            {"name": case.name, "spacing": None if case.spacing is None else [*case.spacing]}
            for case in evaluation.cases
        ],
        "own": evaluation.own,
        "unlike": dict(evaluation.unlike),
        "verdict": {
            "rule": verdict.rule,
            "sentence": verdict.sentence,
            "cases": max((row.difference.n for row in _means(evaluation)), default=0),
            "changes": _changes(evaluation),
            "shown": shown_rule(evaluation),
            "calibrated": best_calibrated(evaluation),
        },
        "table": [comparison_row(comparison) for comparison in evaluation.comparisons],
        "pictured": pictured_classes(evaluation),
        "unread": [],
        "thresholds": _thresholds(evaluation),
        "reliability": [
            row for found in evaluation.reliability for row in _curves(evaluation, found)
        ],
        "rules": {name: rule.state() for name, rule in evaluation.rules.items()},
    }


def fitted_on(evaluation: Evaluation, content: dict[str, Any]) -> dict[str, Any]:
    """Return what the file of the rule to be used says of where it is from."""
    return {
        "cases": len(evaluation.cases),
        "names": [case.name for case in evaluation.cases],
        "layout": content["layout"],
        "marginseg": content["versions"]["marginseg"],
        "date": content["date"],
        "verdict": evaluation.verdict.sentence,
        "settings": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in content["settings"].items()
        },
    }


def _means(evaluation: Evaluation) -> list[Comparison]:
    """Return the comparisons of the mean over classes."""
    return [row for row in evaluation.comparisons if row.structure == MEAN]


def _changes(evaluation: Evaluation) -> bool:
    return evaluation.verdict.rule != PRESENT.name


def _best(evaluation: Evaluation, candidates: Sequence[Candidate]) -> str:
    """Return which of these gains most in the mean over classes; the present rule for none."""
    gains = {row.rule: row.difference.mean for row in _means(evaluation)}
    known = [c.name for c in candidates if math.isfinite(gains.get(c.name, math.nan))]
    return max(known, key=lambda name: gains[name], default=PRESENT.name)


def pictured_classes(evaluation: Evaluation) -> list[str]:
    """Return the classes that have a place in figures: all, or of many the extreme ones.

    Of more than `MOST_CLASSES` they are the ones that the shown rule makes best, and the ones that
    it makes worst, from the best to the worst.
    """
    names = list(evaluation.classes.names)
    if len(names) <= MOST_CLASSES:
        return names
    rule = shown_rule(evaluation)
    gains = {
        row.structure: row.difference.mean
        for row in evaluation.comparisons
        if row.rule == rule and row.structure in names
    }
    order = [name for name in names if math.isfinite(gains[name])]
    order.sort(key=lambda name: -gains[name])
    if len(order) <= 2 * EXTREME_CLASSES:
        return order or names[: 2 * EXTREME_CLASSES]
    return order[:EXTREME_CLASSES] + order[-EXTREME_CLASSES:]


def _thresholds(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return how the thresholds of each class and rule are distributed over cases."""
    cut: dict[tuple[str, str], list[float]] = defaultdict(list)
    for score in evaluation.scores:
        if math.isfinite(score.threshold):
            cut[score.structure, score.rule].append(score.threshold)
    of_map = map_thresholds(evaluation)
    return [
        {
            "structure": structure,
            "rule": candidate.name,
            "n": len(cut[key]),
            "calibrated": _quantiles(cut[key]),
            "map": _quantiles([*of_map[key].values()]),
        }
        for structure in evaluation.classes.names
        for candidate in ALL
        if (key := (structure, candidate.name)) in cut
    ]


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    found = np.quantile(values, QUANTILES).tolist()
    return dict(zip(map(str, QUANTILES), found, strict=True))


def _curves(evaluation: Evaluation, found: Reliability) -> list[dict[str, Any]]:
    """Return what is promised and held of each class, after a calibration."""
    table = found.table
    errors, entropies = table.expected_calibration_error(BINS), table.cross_entropy()
    return [
        {
            "structure": structure,
            "method": found.method,
            "error": float(errors[place]),
            "cross_entropy": float(entropies[place]),
            "voxels": float(curve.count.sum()),
            "count": curve.count.tolist(),
            "promised": curve.promised.tolist(),
            "held": curve.held.tolist(),
        }
        for place, (structure, curve) in enumerate(
            zip(evaluation.classes.names, table.curves(BINS), strict=True)
        )
    ]
