"""A study in numbers: means with intervals, paired differences, calibration, thresholds."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marginseg.report.intervals import mean_intervals
from marginseg.report.results import CaseScore, Results, read_results
from marginseg.study.evaluation import METHOD_ORDER

REFERENCES: Mapping[str, str] = {
    "noisy": "against the noisy test label (the paper's number)",
    "clean": "against the clean label",
    "marginal": "against the marginals",
}

#: The name under which sup D, the most that any segmentation can expect, stands among the methods.
CEILING = "sup D"

#: The methods of the paper's Table 1, and the ceiling.
TABLE_1 = ("CE(0)", "SD(0)", "CE(*)", CEILING)

#: The pairs of methods whose difference is taken, case by case.
PAIRS = (("CE(*)", "CE(0)"), ("CE(*)", "SD(0)"))

#: Shares of the cases at which the thresholds' distribution is told.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

#: For each structure, std, method and reference, a value for every fold and case.
Cells = dict[tuple[str, float, str, str], dict[tuple[int, str], float]]


def summary_table(output_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return means over cases with their 95 % intervals, and their spread over folds.

    Args:
        output_dir: A study's folder.

    Returns:
        One row for each structure, std, method and reference, in the study's order, with ``mean``
        (over test cases), ``sd`` (of the folds' means; 0 for one fold), ``low`` and ``high`` (the
        bootstrap interval over cases, see
        :func:`marginseg.report.intervals.mean_intervals`) and ``n`` (cases). The references are

        - ``noisy``, ``clean``, ``marginal``: Dice against these. For ``noisy`` and ``marginal``
          the method ``sup D`` is the ceiling;
        - ``ceiling_gap``: sup D less Dice against the marginals, what was left to gain;
        - ``volume_ratio``: |s|/|l| against the clean label;
        - ``threshold``: where the map was cut;
        - ``calibration_error``: of CE(0) and SD(0), whose maps they are, against the marginals.

    Raises:
        ValueError: The folder holds no study.

    """
    return summarise(read_results(output_dir))


def differences_table(output_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the mean differences of two methods on the same cases, with 95 % intervals.

    Args:
        output_dir: A study's folder.

    Returns:
        One row for each structure, std, pair of methods and reference (``noisy``, ``clean``,
        ``marginal``): ``method`` less ``baseline``, over the cases that both have, paired by name,
        with ``mean``, ``sd`` (of the folds' means), ``low``, ``high`` and ``n``.

    Raises:
        ValueError: The folder holds no study.

    """
    return differences(read_results(output_dir))


def summarise(results: Results) -> list[dict[str, Any]]:
    """Return the rows of :func:`summary_table`."""
    cells: Cells = defaultdict(dict)
    for score in results.scores:
        for reference, value in _values(score).items():
            cells[score.structure, score.std, score.method, reference][score.fold, score.name] = (
                value
            )
        for reference in ("noisy", "marginal"):
            cells[score.structure, score.std, CEILING, reference][score.fold, score.name] = (
                score.sup_dice
            )
    keys = sorted(cells, key=_order(results, [*METHOD_ORDER, CEILING]))
    return [
        {
            **dict(zip(("structure", "std", "method", "reference"), key, strict=True)),
            **numbers,
        }
        for key, numbers in zip(keys, _numbers(cells[key] for key in keys), strict=True)
    ]


def differences(results: Results) -> list[dict[str, Any]]:
    """Return the rows of :func:`differences_table`."""
    dice: Cells = defaultdict(dict)
    for score in results.scores:
        for reference in REFERENCES:
            dice[score.structure, score.std, score.method, reference][score.fold, score.name] = (
                getattr(score, f"dice_{reference}")
            )
    pairs: dict[tuple[str, float, str, str, str], dict[tuple[int, str], float]] = {}
    for structure, std in dict.fromkeys(key[:2] for key in dice):
        for method, baseline in PAIRS:
            for reference in REFERENCES:
                ours = dice.get((structure, std, method, reference), {})
                theirs = dice.get((structure, std, baseline, reference), {})
                both = {case: ours[case] - theirs[case] for case in ours if case in theirs}
                if both:
                    pairs[structure, std, method, baseline, reference] = both
    columns = ("structure", "std", "method", "baseline", "reference")
    return [
        {**dict(zip(columns, key, strict=True)), **numbers}
        for key, numbers in zip(pairs, _numbers(pairs.values()), strict=True)
    ]


def calibration_curves(results: Results) -> list[dict[str, Any]]:
    """Return the calibration curves of the maps against the marginals, all cases summed.

    Returns:
        One row for each structure, std and loss: ``structure``, ``std``, ``loss`` and the lists
        ``count``, ``promised`` and ``held`` over bins.

    """
    sums: dict[tuple[str, float, str], NDArray[np.float64]] = {}
    for run, result in results.finished.items():
        for case in result["cases"]:
            curve = np.array([case["calibration"][name] for name in ("count", "promised", "held")])
            key = run.structure, run.std, run.loss
            sums[key] = sums[key] + curve if key in sums else curve
    return [
        {
            "structure": structure,
            "std": std,
            "loss": loss,
            **dict(zip(("count", "promised", "held"), curve.tolist(), strict=True)),
        }
        for (structure, std, loss), curve in sums.items()
    ]


def threshold_quantiles(results: Results) -> list[dict[str, Any]]:
    """Return how t* is distributed over cases.

    Returns:
        One row for each structure, std and method that cuts at t*, with the ``quantiles`` at
        ``QUANTILES`` and the thresholds' ``mean``, ``min``, ``max`` and number ``n``.

    """
    values: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    for score in results.scores:
        if score.method.endswith("(*)"):
            values[score.structure, score.std, score.method].append(score.threshold)
    return [
        {
            "structure": structure,
            "std": std,
            "method": method,
            "quantiles": np.quantile(thresholds, QUANTILES).tolist(),
            "mean": statistics.fmean(thresholds),
            "min": min(thresholds),
            "max": max(thresholds),
            "n": len(thresholds),
        }
        for (structure, std, method), thresholds in values.items()
    ]


def _values(score: CaseScore) -> dict[str, float]:
    values = {reference: getattr(score, f"dice_{reference}") for reference in REFERENCES}
    values["ceiling_gap"] = score.sup_dice - score.dice_marginal
    values["volume_ratio"] = score.volume_ratio
    values["threshold"] = score.threshold
    if score.method.endswith("(0)"):
        values["calibration_error"] = score.calibration_error
    return values


def _numbers(cells: Iterable[Mapping[tuple[int, str], float]]) -> list[dict[str, Any]]:
    """Return mean, spread and interval of cells of values by fold and case."""
    chosen = list(cells)
    intervals = mean_intervals([list(cell.values()) for cell in chosen])
    return [
        {
            "mean": interval.mean,
            "sd": _spread(cell),
            "low": interval.low,
            "high": interval.high,
            "n": interval.n,
        }
        for cell, interval in zip(chosen, intervals, strict=True)
    ]


def _spread(cell: Mapping[tuple[int, str], float]) -> float:
    """Return the standard deviation of the folds' means."""
    folds: dict[int, list[float]] = defaultdict(list)
    for (fold, _), value in cell.items():
        if np.isfinite(value):
            folds[fold].append(value)
    means = [statistics.fmean(values) for values in folds.values()]
    return statistics.stdev(means) if len(means) > 1 else 0.0


def _order(results: Results, methods: Sequence[str]) -> Any:
    structures = {name: place for place, name in enumerate(results.config.structures)}
    places = {name: place for place, name in enumerate(methods)}

    def key(cell: tuple[str, float, str, str]) -> tuple[int, float, int]:
        structure, std, method, _ = cell
        return structures[structure], std, places[method]

    return key
