"""Bootstrap intervals of means over cases, and the correction of many verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 0

#: Indices drawn at a time, so that memory stays bounded however many cases there are.
_CHUNK = 1 << 22


class Interval(NamedTuple):
    """A mean and where the mean of such cases may lie.

    Attributes:
        mean: Of the sample.
        low: The interval's lower end; NaN for fewer than two values.
        high: Its upper end.
        n: Values in the sample.

    """

    mean: float
    low: float
    high: float
    n: int


def mean_intervals(
    samples: Sequence[ArrayLike],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Interval]:
    """Return the mean of each sample with its bootstrap interval (BCa, expanded).

    The resamples are drawn once for all samples of a size, and every mean of every resample comes
    out of one matrix product. Values that are not finite are left out. The order of the values
    makes no difference, nor do the other samples.

    BCa (Efron 1987) corrects the percentile interval for bias and skewness; for the mean the
    acceleration is the skewness over 6 √n. By itself it is too narrow for few values: resamples
    have the variance of the sample with n for n - 1, and normal quantiles where Student's are due.
    So its tails are expanded (Hesterberg 2015) to Φ(± √(n / (n - 1)) t), with Student's quantile t
    of n - 1 degrees of freedom. No interval goes beyond the resamples' means, so that those of five
    values or fewer hold the mean less often than they say.

    Args:
        samples: Each a sequence of numbers, of any lengths.
        level: Of confidence, within (0, 1).
        resamples: How many, >= 1.
        seed: Of the resamples.

    Returns:
        An interval for each sample. A sample of one value, or none, has no interval: NaN; one
        of equal values has an interval of no width.

    Raises:
        ValueError: ``level`` or ``resamples`` is out of its range.

    Example:
        >>> (interval,) = mean_intervals([[0.7, 0.8, 0.75, 0.9, 0.65]])
        >>> f"{interval.mean:.2f}", interval.low < 0.76 < interval.high, interval.n
        ('0.76', True, 5)
        >>> mean_intervals([[1.0, 1.0]])
        [Interval(mean=1.0, low=1.0, high=1.0, n=2)]

    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number within (0, 1), got {level}")
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, got {resamples}")
    columns = [_finite(sample) for sample in samples]
    found: dict[int, Interval] = {}
    by_size: dict[int, list[int]] = {}
    for place, column in enumerate(columns):
        if column.size < 2:
            mean = float(column[0]) if column.size else float("nan")
            found[place] = Interval(mean, float("nan"), float("nan"), column.size)
        elif column[0] == column[-1]:
            same = float(column[0])
            found[place] = Interval(same, same, same, column.size)
        else:
            by_size.setdefault(column.size, []).append(place)
    for n, places in by_size.items():
        values = np.stack([columns[place] for place in places], axis=1)
        means = values.mean(axis=0)
        low, high = _bca(values, means, _resampled_means(values, resamples, seed), level)
        for place, mean, start, end in zip(places, means, low, high, strict=True):
            found[place] = Interval(float(mean), float(start), float(end), n)
    return [found[place] for place in range(len(columns))]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979).

    The k-th smallest of n, counted from 0, is multiplied by n - k, and is at least the one before.

    Example:
        >>> holm([0.03, 0.01, 0.5])
        [0.06, 0.03, 0.5]

    """
    corrected = [math.nan] * len(p_values)
    least = 0.0
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def _finite(sample: ArrayLike) -> NDArray[np.float64]:
    """Return the finite values in order: an interval belongs to a set of values."""
    values = np.asarray(sample, dtype=np.float64).ravel()
    return np.sort(values[np.isfinite(values)])


def _resampled_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the mean of every column in every resample, shape (resamples, columns)."""
    n = len(values)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    step = max(1, _CHUNK // n)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = generator.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means[first : first + rows] = counts.astype(np.float64) @ values / n
    return means


def _bca(
    values: NDArray[np.float64],
    means: NDArray[np.float64],
    resampled: NDArray[np.float64],
    level: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n, count = len(values), len(resampled)
    # Resamples with the sample's own mean count half. Rounding must not set them apart from it, so
    # what is within a few roundings counts as equal.
    near = 1e-12 * np.abs(values).max(axis=0)
    less, up_to = (resampled < means - near), (resampled <= means + near)
    below = (less.sum(axis=0) + up_to.sum(axis=0)) / (2 * count)
    bias = ndtri(below.clip(0.5 / count, 1 - 0.5 / count))
    centred = values - means
    acceleration = (centred**3).sum(axis=0) / (6 * (centred**2).sum(axis=0) ** 1.5)
    resampled.sort(axis=0)
    ends = []
    reach = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, (1 + level) / 2))
    for tail in (-reach, reach):
        shifted = bias + tail
        # Far out in the tail of skew values the correction has a pole; beyond it nothing is left to
        # correct: the tail has less than one resample.
        left = 1 - acceleration * shifted
        share = ndtr(bias + shifted / np.where(left > 0, left, 1.0))
        place = share * (count - 1)
        lower = np.floor(place).astype(np.int64)
        upper = np.minimum(lower + 1, count - 1)
        columns = np.arange(resampled.shape[1])
        weight = place - lower
        ends.append((1 - weight) * resampled[lower, columns] + weight * resampled[upper, columns])
    return ends[0], ends[1]
