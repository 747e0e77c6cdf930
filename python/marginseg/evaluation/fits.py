"""The rules that have to be fitted: on all cases, or on all but the one that they are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from marginseg.calibration import Calibration, CalibrationTable, fit, total
from marginseg.evaluation.candidates import CANDIDATES, Candidate
from marginseg.evaluation.thresholds import EDGES, MeanCurves
from marginseg.evaluation.work import Reading, Work
from marginseg.rule import Rule


class Reliability(NamedTuple):
    """What maps promise and hold, summed over the cases, each calibrated by the others.

    Attributes:
        method: How they were calibrated; None for the maps as they are.
        table: The sums.

    """

    method: str | None
    table: CalibrationTable


class Fits:
    """The rules that need other cases, fitted on all, or on all but one."""

    def __init__(self, work: Work, readings: Sequence[Reading]) -> None:
        self._work = work
        self._readings = readings
        self._table = total(reading.table for reading in readings)
        self._curves = MeanCurves([reading.curves.overlap for reading in readings])

    def rule(self, candidate: Candidate, *, without: int | None) -> Rule:
        """Return a candidate's rule, fitted on all cases but one."""
        fitted: dict[str, Any] = {}
        left_out = None if without is None else self._readings[without]
        if candidate.method is not None:
            table = self._table if left_out is None else self._table - left_out.table
            classes = self._work.classes
            fitted["calibration"] = fit(
                table,
                method=candidate.method,
                channels=classes.channels,
                background=classes.background,
            )
        if candidate.decision == "fixed":
            best = self._curves.best(left_out and left_out.curves.overlap)
            fitted["thresholds"] = tuple(EDGES[best].tolist())
        return self._work.rule(candidate, **fitted)

    def reliability(self, fitted: dict[tuple[str, str], Rule]) -> list[Reliability]:
        """Return the maps' promises before and after each calibration."""
        found = [Reliability(None, self._table)]
        for candidate in CANDIDATES:
            tables = []
            for reading in self._readings:
                rule = fitted.get((reading.name, candidate.name))
                if rule is not None and rule.calibration is not None:
                    tables.append(_calibrated(rule, rule.calibration, reading.table))
            if tables:
                found.append(Reliability(candidate.method, total(tables)))
        return found


def _calibrated(rule: Rule, calibration: Calibration, table: CalibrationTable) -> CalibrationTable:
    """Return the table of what a rule decides on: classes that are left at ½ are as they were."""
    after = calibration.applied_to(table)
    kept = np.array([name in rule.at_half for name in rule.classes.names])[:, None]
    return CalibrationTable(
        np.where(kept, table.count, after.count),
        np.where(kept, table.promised, after.promised),
        np.where(kept, table.held, after.held),
        table.channels,
    )
