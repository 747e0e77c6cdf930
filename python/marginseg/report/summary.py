"""A study in numbers: means with intervals, paired differences, calibration, thresholds."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marginseg.intervals import mean_intervals
from marginseg.report.claims import CLAIMS
from marginseg.report.repeats import Cell, spread
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

#: The methods that aim at Dice, one of each loss.
BEST_OF_LOSSES = ("CE(*)", "SD(0)")

#: Shares of the cases at which the thresholds' distribution is told.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

#: For each structure, std, method and reference, a value for every repeat, fold and case.
Cells = dict[tuple[str, float, str, str], dict[tuple[int, int, str], float]]


def summary_table(output_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return means over cases with their 95 % intervals, and their spread over networks.

    Args:
        output_dir: A study's folder.

    Returns:
        One row for each structure, std, method and reference, in the study's order, with ``mean``
        (over test cases), ``sd`` (of the networks' means; 0 for one), ``low`` and ``high``, ``n``
        (cases), ``networks``, and what the interval ``covers``: ``"cases"``, where there are two
        folds and no network was trained twice, is the bootstrap's,
        :func:`marginseg.intervals.mean_intervals`; ``"cases, trainings"``, with two folds and
        repeats, and ``"cases, trainings, folds"``, from three folds on, are those of
        :func:`marginseg.report.repeats.spread`. The references are

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
        with ``mean``, ``sd``, ``low``, ``high``, ``n``, ``networks`` and ``covers`` as in
        :func:`summary_table`, and ``p``: how likely so large a distance from the claim's bound is
        where there is none (:meth:`marginseg.report.repeats.Spread.p_value`).

    Raises:
        ValueError: The folder holds no study.

    """
    return differences(read_results(output_dir))


def summarise(results: Results) -> list[dict[str, Any]]:
    """Return the rows of :func:`summary_table`."""
    cells: Cells = defaultdict(dict)
    for score in results.scores:
        for reference, value in _values(score).items():
            cells[score.structure, score.std, score.method, reference][_place(score)] = value
        for reference in ("noisy", "marginal"):
            cells[score.structure, score.std, CEILING, reference][_place(score)] = score.sup_dice
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
            cell = dice[score.structure, score.std, score.method, reference]
            cell[_place(score)] = getattr(score, f"dice_{reference}")
    pairs: dict[tuple[str, float, str, str, str], dict[tuple[int, int, str], float]] = {}
    bounds = []
    for structure, std in dict.fromkeys(key[:2] for key in dice):
        for claim in CLAIMS:
            for reference in REFERENCES:
                ours = dice.get((structure, std, claim.method, reference), {})
                theirs = dice.get((structure, std, claim.baseline, reference), {})
                both = {case: ours[case] - theirs[case] for case in ours if case in theirs}
                if both:
                    pairs[structure, std, claim.method, claim.baseline, reference] = both
                    bounds.append(-claim.margin)
    columns = ("structure", "std", "method", "baseline", "reference")
    return [
        {
            **dict(zip(columns, key, strict=True)),
            **numbers,
            "p": spread(pairs[key]).p_value(bound),
        }
        for key, bound, numbers in zip(pairs, bounds, _numbers(pairs.values()), strict=True)
    ]


def predicted(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the score without noise and the ceiling predict for every other noise level.

    A network that finds the border as well as it does without noise, and answers the noise as well
    as can be, has its score at a = 0 times sup D.

    Args:
        rows: As from `summarise`.

    Returns:
        For each structure with std 0, std above 0 and method of ``BEST_OF_LOSSES`` a row with
        ``structure``, ``std``, ``method``, ``predicted`` and ``found`` mean Dice against the noisy
        label.

    """
    means = {
        (row["structure"], row["std"], row["method"]): row["mean"]
        for row in rows
        if row["reference"] == "noisy"
    }
    return [
        {
            "structure": structure,
            "std": std,
            "method": method,
            "predicted": means[structure, 0.0, method] * means[structure, std, CEILING],
            "found": found,
        }
        for (structure, std, method), found in means.items()
        if std > 0 and method in BEST_OF_LOSSES and (structure, 0.0, method) in means
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


def _place(score: CaseScore) -> tuple[int, int, str]:
    return score.repeat, score.fold, score.name


def _numbers(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Return mean, spread and interval of cells of values by repeat, fold and case."""
    chosen = list(cells)
    spreads = [spread(cell) for cell in chosen]
    # Where nothing tells what training changes, the cases alone are drawn again, and may be skew.
    once = [cell for cell, found in zip(chosen, spreads, strict=True) if not found.knows_training]
    of_cases = iter(mean_intervals([_case_means(cell) for cell in once]))
    numbers = []
    for cell, found in zip(chosen, spreads, strict=True):
        interval = found.interval() if found.knows_training else next(of_cases)
        numbers.append(
            {
                "mean": interval.mean,
                "sd": _spread_of_networks(cell),
                "low": interval.low,
                "high": interval.high,
                "n": found.cases,
                "networks": found.networks,
                "covers": found.covers,
            }
        )
    return numbers


def _case_means(cell: Cell) -> list[float]:
    """Return a value a case: where a repeat is not finished, some cases have more than one."""
    cases: dict[tuple[int, str], list[float]] = defaultdict(list)
    for (_, fold, name), value in cell.items():
        if np.isfinite(value):
            cases[fold, name].append(value)
    return [statistics.fmean(values) for values in cases.values()]


def _spread_of_networks(cell: Cell) -> float:
    """Return the standard deviation of the means of the networks' test cases."""
    networks: dict[tuple[int, int], list[float]] = defaultdict(list)
    for (repeat, fold, _), value in cell.items():
        if np.isfinite(value):
            networks[repeat, fold].append(value)
    means = [statistics.fmean(values) for values in networks.values()]
    return statistics.stdev(means) if len(means) > 1 else 0.0


def _order(results: Results, methods: Sequence[str]) -> Any:
    structures = {name: place for place, name in enumerate(results.config.structures)}
    places = {name: place for place, name in enumerate(methods)}

    def key(cell: tuple[str, float, str, str]) -> tuple[int, float, int]:
        structure, std, method, _ = cell
        return structures[structure], std, places[method]

    return key
