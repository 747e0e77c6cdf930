"""What a map promises and what it holds, by fine bins: all that a fit class by class needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.calibration.maps import mask_of, pieces, probabilities_of, tensor_of
from marginseg.metrics import CalibrationCurve
from marginseg.numbers import integer
from marginseg.values import WIDER, within_unit

#: Bins are what the exponent and the 4 first bits behind it tell of a float32.
_SHIFT = 19

#: The codes of negative numbers begin so far below those of others.
_SIGN = 1 << (31 - _SHIFT)

#: The bin of ½, the last one whose values are their own distance from the nearer end.
_HALF = 126 << 4

#: The least distance from 1 is 2^-53, in float64; the last bin is that of exactly 1.
_LAST = 2 * _HALF - (74 << 4) + 1

#: How many codes there are, of which the bins are a part.
_CODES = _SIGN + _HALF + 1

#: Bins of a table: of 0 (and of what is below 1e-39), of (0, ½], of (½, 1), of 1.
BINS = _LAST + 1


@dataclass(frozen=True, eq=False)
class CalibrationTable:
    """Sums over the voxels of K classes, by fine bins of their probabilities.

    A bin spans a sixteenth of an octave, of p up to ½ and of 1 - p above: at most 0.13 in the
    logit, and mostly half as much, however near p is to 0 or 1. Exactly 0 and exactly 1 have bins
    of their own. Tables of several cases add up; subtracting one leaves the others.

    Attributes:
        count: Voxels in each bin, (K, bins), float64.
        promised: Sums of their probabilities, (K, bins), float64.
        held: Sums of their targets, (K, bins), float64: labels, or what raters hold on average.
        channels: The channel of each class, where it is known.

    Raises:
        ValueError: The arrays are not of one shape (K, bins).

    Example:
        >>> first = calibration_table(np.array([[0.0, 0.25]]), np.array([[0, 1]]))
        >>> second = calibration_table(np.array([[0.25, 1.0]]), np.array([[0, 1]]))
        >>> both = first + second
        >>> both.count.sum(), both.promised.sum(), both.held.sum()
        (np.float64(4.0), np.float64(1.5), np.float64(2.0))
        >>> bool(np.array_equal((both - second).held, first.held))
        True

    """

    count: NDArray[np.float64]
    promised: NDArray[np.float64]
    held: NDArray[np.float64]
    channels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        shapes = [np.shape(sums) for sums in (self.count, self.promised, self.held)]
        if len(shapes[0]) != 2 or shapes[0][1] != BINS or len(set(shapes)) != 1:
            raise ValueError(f"table: expected three arrays (K, {BINS}), got {shapes}")

    @classmethod
    def empty(cls, classes: int) -> CalibrationTable:
        """Return a table of no voxels."""
        return cls(*np.zeros((3, classes, BINS)))

    @property
    def classes(self) -> int:
        """K."""
        return len(self.count)

    def __add__(self, other: CalibrationTable) -> CalibrationTable:
        """Return the table of both."""
        channels = self._match(other)
        return CalibrationTable(
            self.count + other.count,
            self.promised + other.promised,
            self.held + other.held,
            channels,
        )

    def __radd__(self, other: Any) -> CalibrationTable:
        """Return itself for the 0 with which :func:`sum` begins."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __sub__(self, other: CalibrationTable) -> CalibrationTable:
        """Return the table without the voxels of another, which it has to hold."""
        channels = self._match(other)
        count = self.count - other.count
        # Sums of other orders differ in their last bits; nothing must be left of no voxels, and
        # what is left of soft targets must not be a class that nobody holds, or all do.
        held, rounding = self.held - other.held, 1e-12 * self.count
        held = np.where(held < rounding, 0.0, np.where(held > count - rounding, count, held))
        return CalibrationTable(
            count,
            np.where(count > 0, np.maximum(self.promised - other.promised, 0.0), 0.0),
            np.where(count > 0, held, 0.0),
            channels,
        )

    def probability(self) -> NDArray[np.float64]:
        """Return the mean probability of each bin, (K, bins); NaN where no voxel is."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.promised / self.count
        return np.clip(mean, *_EDGES)

    def curves(self, bins: int = 15) -> tuple[CalibrationCurve[Tensor], ...]:
        """Return each class's calibration curve, by ``bins`` bins of equal width.

        Fine bins go where their mean lies, so sums are those of
        :func:`marginseg.calibration_curve` but for voxels nearer to an edge than a fine bin's
        width.
        """
        return self._curves(_equal_width(self.probability(), _positive(bins)), bins)

    def quantile_curves(self, bins: int = 15) -> tuple[CalibrationCurve[Tensor], ...]:
        """Return each class's calibration curve, by bins of about as many voxels each.

        The voxels of exactly 0 are left out: outside a network's crop there are any number of them.
        A fine bin is never divided.
        """
        count = self.count.copy()
        count[:, 0] = 0.0
        middle = np.cumsum(count, 1) - count / 2
        share = middle / np.maximum(count.sum(1, keepdims=True), 1.0)
        place = np.clip((share * _positive(bins)).astype(np.int64), 0, bins - 1)
        place[:, 0] = -1
        return self._curves(place, bins)

    def expected_calibration_error(self, bins: int = 15) -> NDArray[np.float64]:
        """Return how far promises are from what is held, of each class, by bins of equal width.

        Returns:
            (K,), float64, within [0, 1]; 0 for no voxels.

        """
        gaps = [float((c.promised - c.held).abs().sum()) for c in self.curves(bins)]
        return np.array(gaps) / np.maximum(self.count.sum(1), 1.0)

    def cross_entropy(self) -> NDArray[np.float64]:
        """Return the mean cross-entropy of each class, (K,), in nats, each bin at its mean.

        Voxels of exactly 0 or 1 that hold something else are infinitely wrong; so they are taken
        for 2^-53, and for as much below 1.
        """
        p = np.clip(self.probability(), 2.0**-53, 1 - 2.0**-53)
        loss = -(self.held * np.log(p) + (self.count - self.held) * np.log1p(-p))
        loss = np.where(self.count > 0, loss, 0.0)
        return np.asarray(loss.sum(1) / np.maximum(self.count.sum(1), 1.0))

    def moved(self, row: int, probability: NDArray[np.float64]) -> CalibrationTable:
        """Return the table of one class alone, with other probabilities of its bins."""
        filled = self.count[row] > 0
        p = np.where(filled, probability, 0.0)
        place = places(p)
        count = self.count[row]

        def summed(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.bincount(place, weights, BINS)[None].astype(np.float64, copy=False)

        return CalibrationTable(summed(count), summed(count * p), summed(self.held[row]))

    def _curves(self, place: NDArray[np.int64], bins: int) -> tuple[CalibrationCurve[Tensor], ...]:
        return tuple(
            CalibrationCurve(
                *(
                    torch.from_numpy(np.bincount(where[where >= 0], sums[row][where >= 0], bins))
                    for sums in (self.count, self.promised, self.held)
                )
            )
            for row, where in enumerate(place)
        )

    def _match(self, other: CalibrationTable) -> tuple[int, ...] | None:
        """Check that another table is of the same classes, and return their channels."""
        if other.classes != self.classes:
            raise ValueError(
                f"table: expected one of {self.classes} classes, got one of {other.classes}"
            )
        if self.channels is None or other.channels is None:
            return self.channels or other.channels
        if other.channels != self.channels:
            raise ValueError(
                f"table: expected one of the channels {self.channels}, got {other.channels}"
            )
        return self.channels


def calibration_table(
    probabilities: Any,
    targets: Any,
    mask: Any = None,
    *,
    channels: Sequence[int] | None = None,
) -> CalibrationTable:
    """Sum up one case.

    Args:
        probabilities: NumPy array or tensor, (channels, *spatial), floating, within [0, 1].
        targets: Where each class is, (K, *spatial): bool, 0 and 1, or soft labels within [0, 1],
            such as the mean of several raters.
        mask: Which voxels count, (*spatial), bool; the default is all.
        channels: The channel of each class; the default is 0 to K - 1, and a map of K channels.

    Returns:
        :class:`CalibrationTable` of K classes.

    Raises:
        TypeError: Something is no array or tensor, or of a wrong dtype.
        ValueError: Shapes do not match, or values are outside [0, 1] or NaN.

    Example:
        >>> p = np.array([[0.9, 0.2], [0.1, 0.8]])  # a softmax of background and organ
        >>> table = calibration_table(p, np.array([[False, True]]), channels=[1])
        >>> table.curves(2)[0].held.tolist()
        [0.0, 1.0]

    """
    maps, held = probabilities_of(probabilities), tensor_of("targets", targets)
    chosen = _channels(maps, held, channels)
    counted = None if mask is None else mask_of(mask, maps)
    others = [] if counted is None else [counted]
    sums = [
        _sums(pieces([maps[channel], held[row].to(maps.device), *others]))
        for row, channel in enumerate(chosen)
    ]
    count, promised, total_held = np.stack(sums, 1)
    return CalibrationTable(count, promised, total_held, tuple(chosen))


def total(tables: Iterable[CalibrationTable]) -> CalibrationTable:
    """Return the table of all.

    Raises:
        ValueError: There are none, or they are of different numbers of classes.

    """
    found: CalibrationTable | None = None
    for table in tables:
        found = table if found is None else found + table
    if found is None:
        raise ValueError("cases: expected at least one, got none")
    return found


def places(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the bin of each probability, of the same shape."""
    return _BIN_OF[_codes(torch.from_numpy(probabilities), 1.0).numpy()]


def _codes(values: Tensor, most: float) -> Tensor:
    """Return sign, exponent and first bits of the signed distance from the nearer end, int32.

    The distance is exact: above ½, p - 1 has no more digits than p. It is 0 at both ends; so what
    is 1 gets a code that no distance has.
    """
    # 1 and 0; rounding to them would share so few voxels out among threads, which takes longer.
    end = torch.gt(values, 0.5, out=torch.empty_like(values))
    distance = values - end
    codes = distance.float().view(torch.int32) >> _SHIFT
    if most == 1.0:
        codes.masked_fill_(values == 1.0, 1 - _SIGN)
    return codes.add_(_SIGN)


def _sums(pieces_of_class: Iterator[tuple[Tensor, ...]]) -> NDArray[np.float64]:
    """Return count, promised and held of one class, (3, bins)."""
    sums = np.zeros((3, _CODES))
    for piece in pieces_of_class:
        values, held, *mask = (part.reshape(-1) for part in piece)
        if mask:
            values, held = values[mask[0]], held[mask[0]]
        if values.numel() == 0:
            continue
        if values.dtype != torch.float64:
            values = values.float()
        values, most = _within("probabilities", values)
        codes = _codes(values, most)
        promised = torch.bincount(codes, values.double(), _CODES)
        if held.dtype == torch.bool:
            # Count voxels inside and outside the class at once.
            both = torch.bincount(codes.add_(held, alpha=_CODES), minlength=2 * _CODES)
            found = both[_CODES:]
            count = both[:_CODES] + found
        else:
            held, _ = _within("targets", held.to(WIDER.get(held.dtype, held.dtype)))
            found = torch.bincount(codes, held.double(), _CODES)
            count = torch.bincount(codes, minlength=_CODES)
        sums += torch.stack([count.double(), promised, found.double()]).cpu().numpy()
    return np.stack([np.bincount(_BIN_OF, row, BINS) for row in sums])


def _within(name: str, values: Tensor) -> tuple[Tensor, float]:
    """Return values within [0, 1] and the largest of them, or refuse them."""
    low, high = (float(bound) for bound in torch.aminmax(values))
    if low >= 0.0 and high <= 1.0:
        return values, high
    return within_unit(name, values), min(high, 1.0)


def _channels(maps: Tensor, held: Tensor, channels: Sequence[int] | None) -> list[int]:
    """Check shapes, and return the channel of each class."""
    if held.is_complex() or held.dtype is torch.uint64:
        raise TypeError(f"targets: expected bools or numbers within [0, 1], got {held.dtype}")
    if held.ndim == 0 or held.shape[1:] != maps.shape[1:]:
        raise ValueError(
            f"targets: expected shape (K, *{tuple(maps.shape[1:])}), got {tuple(held.shape)}"
        )
    if channels is None:
        if len(held) != len(maps):
            raise ValueError(
                f"targets: expected one for each of {len(maps)} channels, got {len(held)}"
            )
        return list(range(len(held)))
    chosen = [integer("channels", channel) for channel in channels]
    if len(chosen) != len(held) or not all(0 <= channel < len(maps) for channel in chosen):
        raise ValueError(
            f"channels: expected {len(held)} of 0 to {len(maps) - 1}, got {tuple(chosen)}"
        )
    return chosen


def _positive(bins: int) -> int:
    bins = integer("bins", bins)
    if not 1 <= bins < 2**31:
        raise ValueError(f"bins: expected at least 1, and less than 2^31, got {bins}")
    return bins


def _equal_width(probability: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    place = (np.nan_to_num(probability) * bins).astype(np.int64)
    return np.minimum(place, bins - 1, dtype=np.int64)


def _edges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and the largest value of each bin."""
    bits = np.arange(_HALF + 2, dtype=np.int32) << _SHIFT
    grid = bits.view(np.float32).astype(np.float64)
    least = np.concatenate([grid[: _HALF + 1], 1.0 - grid[(74 << 4) + 1 : _HALF + 1][::-1], [1.0]])
    most = np.concatenate([grid[1 : _HALF + 1], [0.5], 1.0 - grid[74 << 4 : _HALF][::-1], [1.0]])
    least[0] = 0.0
    return least, most


def _bin_of() -> NDArray[np.int64]:
    """Return the bin of each code; codes that no probability has are in some bin or other."""
    codes = np.arange(_CODES)
    below, above = codes - _SIGN, 2 * _HALF - codes
    place = np.where(codes >= _SIGN, below, np.clip(above, _HALF, _LAST))
    place[0] = 0  # -0.0
    return place.astype(np.int64)


_EDGES = _edges()


def lower_edges() -> NDArray[np.float64]:
    """Return of each bin the threshold t for which {p >= t} are its voxels and those above it.

    Above ½ a bin does not hold its lower end: there t is the next float64. The first one is 0.
    Values of float64 that float32 rounds to an edge may lie on its other side.

    Example:
        >>> edges = lower_edges()
        >>> float(edges[0]), float(edges[-1]), bool((np.diff(edges) >= 0).all())
        (0.0, 1.0, True)

    """
    edges = _EDGES[0].copy()
    inside = slice(_HALF + 1, -1)
    edges[inside] = np.nextafter(edges[inside], 2.0)
    return edges


_BIN_OF = _bin_of()
