"""What takes the probabilities of one class to others: a line in the logit, or knots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: What became of a fit. ``bounded``: the best slope lies beyond the bounds, which the fit keeps to.
#: ``shifted``: there is one probability alone, whose logit can be shifted but not scaled. The
#: others leave the class as it is, for want of voxels that are in it, or that are not.
Outcome = Literal["fitted", "bounded", "shifted", "no voxels", "no foreground", "no background"]

#: A float32 rounds what is above 1 - 2^-25 to 1: so sure may a network that says 1 have been.
SUREST = math.log(2.0**25 - 1.0)


@dataclass(frozen=True)
class LogitLine:
    """p goes to expit(slope · logit p + intercept): temperature 1 / slope, or Platt's two.

    0 stays 0. 1 is taken for the least that float32 rounds to 1, 1 - 2^-25, and so is all that is
    above it.

    Attributes:
        slope: Above 0, so that the order of the voxels stays.
        intercept: Added to the logit.
        outcome: What became of the fit.

    """

    slope: float = 1.0
    intercept: float = 0.0
    outcome: Outcome = "fitted"

    def __post_init__(self) -> None:
        if not (0.0 < self.slope < math.inf and math.isfinite(self.intercept)):
            raise ValueError(
                "calibration: expected a finite slope above 0 and a finite intercept, "
                f"got {self.slope} and {self.intercept}"
            )
        _check_outcome(self.outcome)

    def of_array(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what probabilities go to; those of the line of slope 1 through 0 are the same."""
        if self.slope == 1.0 and self.intercept == 0.0:
            return values
        with np.errstate(divide="ignore", over="ignore"):
            found = values / (1.0 - values)
            np.minimum(np.log(found, out=found), SUREST, out=found)
            np.multiply(found, -self.slope, out=found)
            np.exp(np.subtract(found, self.intercept, out=found), out=found)
            return np.divide(1.0, np.add(found, 1.0, out=found), out=found)

    def of_tensor(self, values: Tensor) -> Tensor:
        """Return the same of float64 tensors, on any device."""
        if self.slope == 1.0 and self.intercept == 0.0:
            return values
        found = torch.logit(values).clamp_(max=SUREST)
        return found.mul_(self.slope).add_(self.intercept).sigmoid_()

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"slope": self.slope, "intercept": self.intercept, "outcome": self.outcome}


@dataclass(frozen=True)
class Knots:
    """p goes along straight lines from knot to knot; beyond the last one it stays level.

    Attributes:
        promised: Probabilities, increasing from 0.
        held: What each goes to, not decreasing, from 0.
        outcome: What became of the fit.

    """

    promised: tuple[float, ...]
    held: tuple[float, ...]
    outcome: Outcome = "fitted"

    def __post_init__(self) -> None:
        x, y = np.array(self.promised, np.float64), np.array(self.held, np.float64)
        whole = x.ndim == y.ndim == 1 and len(x) == len(y) >= 2
        if not (whole and x[0] == y[0] == 0 and x[-1] <= 1 and y[-1] <= 1):
            raise ValueError("calibration: expected as many knots of both, from 0 to at most 1")
        if not ((np.diff(x) > 0).all() and (np.diff(y) >= 0).all()):  # NaN fails too
            raise ValueError("calibration: expected knots in increasing order")
        with np.errstate(over="ignore"):
            if not np.isfinite(np.diff(y) / np.diff(x)).all():
                raise ValueError("calibration: expected knots that are farther from each other")
        _check_outcome(self.outcome)

    def of_array(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what probabilities go to."""
        return np.interp(values, self.promised, self.held)

    def of_tensor(self, values: Tensor) -> Tensor:
        """Return the same of float64 tensors, on any device."""
        x = torch.tensor(self.promised, dtype=torch.float64, device=values.device)
        y = torch.tensor(self.held, dtype=torch.float64, device=values.device)
        slope = y.diff() / x.diff()
        right = torch.bucketize(values, x).clamp_(1, len(x) - 1)
        left = right - 1
        found = values - torch.take(x, left)
        found.mul_(torch.take(slope, left)).add_(torch.take(y, left))
        # Beyond the last knot it is level.
        return torch.minimum(found, torch.take(y, right), out=found)

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "promised": list(self.promised),
            "held": list(self.held),
            "outcome": self.outcome,
        }


Mapping = LogitLine | Knots


def mapping_of(state: Any) -> Mapping:
    """Return the mapping that ``state()`` described.

    Raises:
        ValueError: It is not what ``state()`` returns.

    """
    try:
        outcome = state["outcome"]
        if "slope" in state:
            return LogitLine(_float(state["slope"]), _float(state["intercept"]), outcome)
        return Knots(_floats(state["promised"]), _floats(state["held"]), outcome)
    except (KeyError, TypeError) as error:
        raise ValueError(f"calibration: expected a class's mapping, got {state!r:.80}") from error


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    try:
        return float(value)
    except OverflowError:
        raise TypeError("no number that float64 holds") from None


def _floats(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise TypeError("no list")
    return tuple(_float(value) for value in values)


def _check_outcome(outcome: Any) -> None:
    if outcome not in get_args(Outcome):
        raise ValueError(
            f"calibration: expected an outcome of {', '.join(get_args(Outcome))}, got {outcome!r}"
        )
