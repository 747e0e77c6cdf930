"""Intervals that know about training: means over cases, trainings and folds.

A bootstrap of the few networks that a study can afford is too narrow: resampling four of them loses
a quarter of their variance, and its percentiles know nothing of how badly four numbers tell a
variance. So the variance is taken apart by an analysis of variance, and each part has Student's
quantile for its own degrees of freedom.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from marginseg.intervals import LEVEL, Interval

#: What an interval may know the chance of, from the least to the most.
COVERS = ("cases", "cases, trainings", "cases, trainings, folds")

#: With two folds the variance between them has one degree of freedom, and Student's quantile is
#: 12.7: an interval that asks for it says nothing, also where folds make no difference.
FEWEST_FOLDS = 3

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
        covers: What the parts know the chance of: one of `COVERS`, nothing where there are none.

    """

    mean: float
    parts: tuple[Part, ...]
    cases: int
    networks: int
    covers: str

    @property
    def knows_training(self) -> bool:
        """Whether the parts know what another training would change."""
        return self.covers in COVERS[1:]

    def reach(self, level: float) -> float:
        r"""Return half the interval's width, :math:`\sqrt{\sum_i t_i^2 v_i}` (Howe 1974)."""
        tail = (1.0 + level) / 2.0
        return math.sqrt(sum(float(stdtrit(df, tail)) ** 2 * v for v, df in self.parts))

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the interval around the mean; NaN where nothing tells its width.

        Example:
            >>> found = Spread(1.0, (Part(0.01, 10),), 11, 1, "cases").interval()
            >>> f"{found.low:.3f} {found.high:.3f}", found.n
            ('0.777 1.223', 11)

        """
        reach = self.reach(level) if self.parts else math.nan
        return Interval(self.mean, self.mean - reach, self.mean + reach, self.cases)

    def p_value(self, bound: float) -> float:
        """Return 1 less the level of the interval that ends at ``bound``.

        Example:
            >>> round(Spread(1.0, (Part(0.01, 10),), 11, 1, "cases").p_value(0.8), 3)
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

    A value is :math:`y_{rfc} = \mu + a_c + d_f + b_{rf} + e_{rfc}`: a case has its effect in every
    repeat, a fold (its training cases) on all its networks, a network on all its test cases. Over R
    repeats of a fold with n cases,

    .. math::

        \operatorname{var} \bar y_f = \sigma_d^2 + \frac{\sigma_a^2}{n} + \frac{\sigma_b^2}{R}
        + \frac{\sigma_e^2}{n R} = \sigma_d^2 + \Bigl(\frac{A}{n} - \frac{E}{n R}\Bigr)
        + \frac{B}{R},

    where A is the variance of the cases' means over repeats, B that of the repeats' means over
    cases, and E the residual mean square, each pooled over folds: a fold that lacks a repeat learns
    from the others how far two trainings are apart. What the means of the folds vary more than the
    last two terms explain is :math:`\sigma_d^2`, or 0. The bracket has the degrees of freedom of
    the cases, B those of the networks, :math:`\sigma_d^2` one less than there are folds.

    With fewer than ``FEWEST_FOLDS`` folds they are taken as they are: there is no such part. Where
    no network was trained twice, or fewer than tell as much, B is 0, and what the folds' means vary
    more is that of trainings and training cases together; with too few folds for that the networks
    are taken as they are, and Student's interval over the cases is left.

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
        return Spread(math.nan, (), 0, 0, "")
    weights = np.array([table.shape[1] / cases for table in tables])
    mean = float(weights @ [table.mean() for table in tables])
    if len(tables) >= FEWEST_FOLDS:
        parts, covers = _parts(tables, weights), COVERS[2]
    elif any(min(table.shape) > 1 for table in tables):
        parts, covers = _parts(tables, weights), COVERS[1]
    elif cases > 1:
        means = np.concatenate([table.mean(axis=0) for table in tables])
        parts, covers = (Part(float(means.var(ddof=1)) / cases, cases - 1),), COVERS[0]
    else:
        parts, covers = (), ""
    return Spread(mean, parts, cases, networks, covers)


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
    """A mean square that is pooled over folds; 0 where none of them tells it."""

    def __init__(self) -> None:
        self.squares, self.freedom = 0.0, 0

    def add(self, deviations: NDArray[np.float64], freedom: int) -> None:
        self.squares += float((deviations**2).sum())
        self.freedom += freedom

    @property
    def value(self) -> float:
        return self.squares / self.freedom if self.freedom else 0.0


def _parts(tables: Sequence[NDArray[np.float64]], weights: NDArray[np.float64]) -> tuple[Part, ...]:
    """Return the parts of cases, of networks and of folds, as far as something tells them."""
    of_cases, of_networks, residual = _MeanSquare(), _MeanSquare(), _MeanSquare()
    for table in tables:
        repeats, cases = table.shape
        by_case = table.mean(axis=0) - table.mean()
        by_network = table.mean(axis=1) - table.mean()
        of_cases.add(by_case, cases - 1)
        of_networks.add(by_network, repeats - 1)
        rest = table - table.mean() - by_case - by_network[:, None]
        residual.add(rest, (repeats - 1) * (cases - 1))
    repeats, cases = np.array([table.shape for table in tables]).T
    # Of each fold's mean. Chance can make the residual larger than what it is a part of.
    by_cases = (of_cases.value / cases - residual.value / (repeats * cases)).clip(0.0)
    by_networks = of_networks.value / repeats
    folds = len(tables)
    if folds >= FEWEST_FOLDS and of_networks.freedom < folds - 1:
        # Most folds lack their repeats yet; how far their means are apart tells more of trainings.
        of_networks, by_networks = _MeanSquare(), 0.0 * by_networks
    parts = [
        Part(float(weights**2 @ by_cases), of_cases.freedom),
        Part(float(weights**2 @ by_networks), of_networks.freedom),
    ]
    if folds >= FEWEST_FOLDS:
        means = np.array([table.mean() for table in tables])
        # What is expected of Σ w (mean - mean of all)², is Σ w (1 - w) var(mean).
        found = weights @ (means - weights @ means) ** 2
        shares = weights * (1.0 - weights)
        excess = max(0.0, float(found - shares @ (by_cases + by_networks)) / float(shares.sum()))
        parts.append(Part(float((weights**2).sum()) * excess, folds - 1))
    return tuple(part for part in parts if part.freedom)
