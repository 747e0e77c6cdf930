"""Intervals that know about training: means over cases and over networks trained anew.

A bootstrap of the few networks that a study can afford is too narrow: resampling four of them loses
a quarter of their variance, and its percentiles know nothing of how badly four numbers tell a
variance. So the variance is taken apart by an analysis of variance, and each part has Student's
quantile for its own degrees of freedom.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from marginseg.intervals import LEVEL, Interval

#: What an interval may know the chance of, from the least to the most.
COVERS = ("cases", "cases, trainings")

#: A value for each repeat, fold and case.
Cell = Mapping[tuple[int, int, str], float]


class Part(NamedTuple):
    """A part of a mean's variance.

    Attributes:
        variance: What it adds to the variance of the mean.
        freedom: The degrees of freedom that this is known with.

    """

    variance: float
    freedom: int


class Spread(NamedTuple):
    """How far the mean of a cell may be from that of all such cases and networks.

    Attributes:
        mean: Of all values.
        parts: Of its variance; none where nothing tells it.
        cases: How many different cases there are.
        networks: How many networks were trained.
        knows_training: Whether there is a part for what another training would change.

    """

    mean: float
    parts: tuple[Part, ...]
    cases: int
    networks: int
    knows_training: bool

    @property
    def covers(self) -> str:
        """What the interval knows the chance of: one of `COVERS`, nothing where there is none."""
        return COVERS[self.knows_training] if self.parts else ""

    def reach(self, level: float) -> float:
        r"""Return half the interval's width, :math:`\sqrt{\sum_i t_i^2 v_i}` (Howe 1974)."""
        tail = (1.0 + level) / 2.0
        return math.sqrt(sum(float(stdtrit(df, tail)) ** 2 * v for v, df in self.parts))

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the interval around the mean; NaN where nothing tells its width.

        Example:
            >>> found = Spread(1.0, (Part(0.01, 10),), 11, 1, False).interval()
            >>> f"{found.low:.3f} {found.high:.3f}", found.n
            ('0.777 1.223', 11)

        """
        reach = self.reach(level) if self.parts else math.nan
        return Interval(self.mean, self.mean - reach, self.mean + reach, self.cases)

    def p_value(self, bound: float) -> float:
        """Return 1 less the level of the interval that ends at ``bound``.

        Example:
            >>> round(Spread(1.0, (Part(0.01, 10),), 11, 1, False).p_value(0.8), 3)
            0.073

        """
        if not self.parts:
            return math.nan
        distance = abs(self.mean - bound)
        if self.reach(0.5) == 0.0:
            return 0.0 if distance else 1.0
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2.0
            low, high = (middle, high) if self.reach(1.0 - middle) > distance else (low, middle)
        return high


def spread(cell: Cell) -> Spread:
    r"""Return a cell's mean, and what its variance consists of.

    Where no network was trained twice, the networks are taken as they are, and the variance is that
    of the cases alone. Else a value is :math:`y_{rfc} = \mu + a_c + b_{rf} + e_{rfc}`: a case has its effect
    in every repeat, a network on all its test cases. Over R repeats of a fold with n cases,

    .. math::

        \operatorname{var} \bar y_f = \frac{\sigma_a^2}{n} + \frac{\sigma_b^2}{R}
        + \frac{\sigma_e^2}{n R} = \Bigl(\frac{A}{n} - \frac{E}{n R}\Bigr) + \frac{B}{R},

    where A is the variance of the cases' means over repeats, B that of the repeats' means over
    cases, and E the residual mean square, each pooled over folds. The bracket has the degrees of
    freedom of the cases, the rest those of the networks.

    Args:
        cell: Values that are not finite are left out, and cases that lack a repeat.

    Example:
        >>> found = spread({(r, 0, c): v + w for r, v in ((0, 0.0), (1, 0.2))
        ...                 for c, w in (("a", 0.0), ("b", 0.1), ("c", 0.5))})
        >>> f"{found.mean:.2f}", [f"{v:.3f} {df}" for v, df in found.parts], found.networks
        ('0.30', ['0.023 2', '0.010 1'], 2)

    """
    tables = _tables(cell)
    cases = sum(table.shape[1] for table in tables)
    networks = sum(table.shape[0] for table in tables)
    if not cases:
        return Spread(math.nan, (), 0, 0, False)
    weights = [table.shape[1] / cases for table in tables]
    mean = sum(w * float(table.mean()) for w, table in zip(weights, tables, strict=True))
    # A fold that lacks a repeat is no reason to take its network for the only one that there is: the
    # others tell how far two trainings are apart.
    repeated = any(table.shape[0] > 1 and table.shape[1] > 1 for table in tables)
    parts: tuple[Part, ...] = ()
    if repeated:
        parts = _parts(tables, weights)
    elif cases > 1:
        means = np.concatenate([table.mean(axis=0) for table in tables])
        parts = (Part(float(means.var(ddof=1)) / cases, cases - 1),)
    return Spread(mean, parts, cases, networks, repeated)


def _tables(cell: Cell) -> list[NDArray[np.float64]]:
    """Return for each fold the values, repeats × cases, that all its repeats have."""
    folds: dict[int, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for (repeat, fold, name), value in cell.items():
        if math.isfinite(value):
            folds[fold][repeat][name] = float(value)
    tables = []
    for fold in sorted(folds):
        repeats = [folds[fold][repeat] for repeat in sorted(folds[fold])]
        shared = sorted(set.intersection(*map(set, repeats)))
        if shared:
            tables.append(np.array([[values[name] for name in shared] for values in repeats]))
    return tables


class _MeanSquare:
    """A mean square that is pooled over folds, and the share that the mean's variance has of it."""

    def __init__(self) -> None:
        self.squares, self.freedom, self.share = 0.0, 0, 0.0

    def add(self, deviations: NDArray[np.float64], freedom: int, share: float) -> None:
        self.squares += float((deviations**2).sum())
        self.freedom += freedom
        self.share += share

    @property
    def variance(self) -> float:
        return self.share * self.squares / self.freedom


def _parts(tables: list[NDArray[np.float64]], weights: list[float]) -> tuple[Part, Part]:
    """Return the parts of cases and of networks; there are two of each in some fold."""
    of_cases, of_networks, residual = _MeanSquare(), _MeanSquare(), _MeanSquare()
    for table, weight in zip(tables, weights, strict=True):
        repeats, cases = table.shape
        by_case = table.mean(axis=0) - table.mean()
        by_network = table.mean(axis=1) - table.mean()
        rest = table - table.mean() - by_case - by_network[:, None]
        of_cases.add(by_case, cases - 1, weight**2 / cases)
        of_networks.add(by_network, repeats - 1, weight**2 / repeats)
        residual.add(rest, (repeats - 1) * (cases - 1), weight**2 / (repeats * cases))
    # Chance can make the residual larger than what it is a part of.
    rest_of_cases = max(0.0, of_cases.variance - residual.variance)
    return Part(rest_of_cases, of_cases.freedom), Part(of_networks.variance, of_networks.freedom)
