"""Fits of one class, from a table: temperature, Platt's line, isotonic regression.

Each minimises the cross-entropy of soft targets, with every fine bin at its mean probability; what
is exactly 0 is left out, for it stays 0 and nothing can be learnt from it. SciPy is imported where
it is needed: commands that fit nothing start sooner.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from marginseg.calibration.mappings import SUREST, Knots, LogitLine, Mapping, Outcome
from marginseg.calibration.table import CalibrationTable

#: Slopes that a line may have. At either end the extremes of float32 are between 0.01 and 0.7, or
#: all of the map is 0 or 1: what lies beyond is a map that says nothing, or one without errors.
SLOPES = (1 / 20, 20.0)

#: Newton's steps, which on a convex function of two parameters are few.
_STEPS, _HALVINGS, _SMALL = 100, 40, 1e-10

#: By how much, relatively, rounding may lift what is the same.
_ROUNDING = 1e-12


class _Bins:
    """The bins of one class that hold voxels: their shares of all voxels, logits and targets."""

    def __init__(self, table: CalibrationTable, row: int) -> None:
        filled = table.count[row] > 0
        filled[0] = False
        count = table.count[row, filled]
        self.probability = table.probability()[row, filled]
        self.logit = np.minimum(_logit(self.probability), SUREST)
        everything = count.sum() or 1.0
        self.weight = count / everything
        self.held = np.minimum(table.held[row, filled], count) / everything

    def outcome(self) -> Outcome:
        """Return why there is nothing to fit, or ``fitted``."""
        if len(self.weight) == 0:
            return "no voxels"
        if not self.held.any():
            return "no foreground"
        if (self.held == self.weight).all():
            return "no background"
        return "fitted"

    def slope_derivative(self, slope: float, intercept: float) -> float:
        """Return the derivative of the cross-entropy with respect to the slope."""
        return float(self.logit @ self._excess(slope, intercept))

    def intercept_derivative(self, slope: float, intercept: float) -> float:
        """Return the derivative of the cross-entropy with respect to the intercept."""
        return float(self._excess(slope, intercept).sum())

    def loss(self, slope: float, intercept: float) -> float:
        """Return the cross-entropy."""
        z = slope * self.logit + intercept
        return float(self.weight @ np.logaddexp(0.0, z) - self.held @ z)

    def newton(self, slope: float, intercept: float) -> tuple[float, float] | None:
        """Return Newton's step; None where the function is flat."""
        p = _expit(slope * self.logit + intercept)
        w = self.weight * p * (1.0 - p)
        total, first = w.sum(), w @ self.logit
        if total <= 0.0:
            return None
        centred = self.logit - first / total
        spread = w @ centred**2
        if spread <= 1e-12 * total:
            return None
        excess = self.weight * p - self.held
        along = -float(centred @ excess / spread)
        return along, -float(excess.sum() / total + along * first / total)

    def _excess(self, slope: float, intercept: float) -> NDArray[np.float64]:
        return self.weight * _expit(slope * self.logit + intercept) - self.held


def fit_temperature(table: CalibrationTable, row: int) -> Mapping:
    """Return logit p / T, where the cross-entropy is least."""
    bins = _Bins(table, row)
    outcome = bins.outcome()
    if outcome != "fitted":
        return LogitLine(outcome=outcome)
    if not bins.logit.any():
        return LogitLine(outcome="shifted")
    slope, outcome = _bounded_root(lambda a: bins.slope_derivative(a, 0.0))
    return LogitLine(slope, 0.0, outcome)


def fit_platt(table: CalibrationTable, row: int) -> Mapping:
    """Return a · logit p + b, where the cross-entropy is least among increasing lines."""
    bins = _Bins(table, row)
    outcome = bins.outcome()
    if outcome != "fitted":
        return LogitLine(outcome=outcome)
    if np.ptp(bins.logit) == 0.0:
        return LogitLine(1.0, _best_intercept(bins, 1.0), "shifted")
    found = _newton(bins)
    if found is not None and SLOPES[0] <= found[0] <= SLOPES[1]:
        return LogitLine(*found)
    # With the best intercept for each slope the cross-entropy is convex in the slope.
    slope, outcome = _bounded_root(lambda a: bins.slope_derivative(a, _best_intercept(bins, a)))
    return LogitLine(slope, _best_intercept(bins, slope), outcome)


def fit_isotonic(table: CalibrationTable, row: int) -> Mapping:
    """Return the centred isotonic regression: knots at the means of the plateaus.

    Isotonic regression has plateaus, some of them wide where the foreground is rare, and would make
    voxels equal whose order the network knows. Straight lines between the plateaus' means (Oron and
    Flournoy 2017) keep the order. Above the last mean all are equal; that does not matter, for t*
    is always less than the largest probability.
    """
    bins = _Bins(table, row)
    outcome = bins.outcome()
    if outcome != "fitted":
        return LogitLine(outcome=outcome)
    from scipy.optimize import isotonic_regression

    fitted = isotonic_regression(bins.held / bins.weight, weights=bins.weight)
    starts = fitted.blocks[:-1]
    # Plateaus of one height, but for rounding, are one.
    height = fitted.x[starts]
    starts = starts[np.diff(height, prepend=-1.0) > _ROUNDING * height]
    weight = np.add.reduceat(bins.weight, starts)
    promised = np.add.reduceat(bins.weight * bins.probability, starts) / weight
    held = np.clip(np.add.reduceat(bins.held, starts) / weight, 0.0, 1.0)
    knots = np.maximum.accumulate(np.stack([promised, held]), 1)
    # Neighbouring sums may round to the same mean.
    kept = np.diff(knots[0], prepend=0.0) > 0
    x, y = knots[:, kept].tolist()
    return Knots((0.0, *x), (0.0, *y))


FITS: dict[str, Callable[[CalibrationTable, int], Mapping]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p / (1.0 - p)))


def _expit(z: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-z)))


def _newton(bins: _Bins) -> tuple[float, float] | None:
    """Return slope and intercept at the minimum; None if it is not within reach."""
    slope, intercept = 1.0, _best_intercept(bins, 1.0)
    loss = bins.loss(slope, intercept)
    for _ in range(_STEPS):
        step = bins.newton(slope, intercept)
        if step is None:
            return None
        scale = 1.0
        for _ in range(_HALVINGS):
            reached = bins.loss(slope + scale * step[0], intercept + scale * step[1])
            if reached <= loss * (1.0 + _ROUNDING):
                break
            scale /= 2
        slope, intercept, loss = slope + scale * step[0], intercept + scale * step[1], reached
        if max(abs(step[0]), abs(step[1])) < _SMALL * (1.0 + abs(slope) + abs(intercept)):
            return slope, intercept
        if abs(slope) > 10 * SLOPES[1]:
            return None
    return None


def _best_intercept(bins: _Bins, slope: float) -> float:
    """Return the intercept that promises as much as is held, which is where the loss is least."""
    mean = float(_logit(np.clip(bins.held.sum(), 1e-300, 1 - 1e-16)))
    low, high = mean - slope * bins.logit.max(), mean - slope * bins.logit.min()
    return _root(lambda b: bins.intercept_derivative(slope, b), low - 1.0, high + 1.0)


def _bounded_root(derivative: Callable[[float], float]) -> tuple[float, Outcome]:
    """Return the slope where a convex function is least within the bounds."""
    low, high = SLOPES
    if derivative(low) >= 0.0:
        return low, "bounded"
    if derivative(high) <= 0.0:
        return high, "bounded"
    return _root(derivative, low, high), "fitted"


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the root of an increasing function; an end where rounding leaves none between them."""
    from scipy.optimize import brentq

    if function(low) >= 0.0:
        return low
    if function(high) <= 0.0:
        return high
    return float(brentq(function, low, high, xtol=1e-14, rtol=1e-14))
