"""A fitted calibration, applied to maps piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marginseg.calibration.binned import FITS
from marginseg.calibration.joint import JOINT_METHODS, LogAffine
from marginseg.calibration.mappings import Mapping, mapping_of
from marginseg.calibration.maps import PIECE, each_piece, probabilities_of, tensor_of
from marginseg.calibration.table import CalibrationTable
from marginseg.values import rounded_beyond_unit

#: All methods: the first class by class, the others jointly, of classes that exclude each other.
METHODS = (*FITS, *JOINT_METHODS)


@dataclass(frozen=True)
class Calibration:
    """What makes a network's probabilities right, fitted on cases with labels.

    Class by class, the order of a channel's values stays (of float64 but for their last bits), and
    0 stays 0. A background's channel gets what all others leave, 1 less their sum and at least 0,
    so that the most probable class is that of the calibrated probabilities; the foreground is not
    scaled to sum to 1. Channels that are not calibrated stay as they are.

    Attributes:
        method: One of :data:`METHODS`.
        channels: The channel of each class.
        background: The channel of the background, if there is one.
        mappings: What each class goes through, for methods that go class by class.
        joint: What all channels go through together, for those of exclusive classes.

    Raises:
        ValueError: The parts do not belong together.

    Example:
        >>> from marginseg.calibration import fit
        >>> p = np.array([[0.01, 0.01, 0.99, 0.99, 0.99]])
        >>> held = np.array([[0, 0, 0, 1, 1]])
        >>> calibration = fit((p, held), method="isotonic")
        >>> calibration.apply(p).round(2).tolist()
        [[0.0, 0.0, 0.67, 0.67, 0.67]]
        >>> Calibration.from_state(calibration.state()) == calibration
        True

    """

    method: str
    channels: tuple[int, ...]
    background: int | None = None
    mappings: tuple[Mapping, ...] = ()
    joint: LogAffine | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"method: expected one of {', '.join(METHODS)}, got {str(self.method)!r:.40}"
            )
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ValueError(f"channels: expected some that differ, got {self.channels}")
        if min(self.channels) < 0 or self.background in self.channels:
            raise ValueError(
                f"channels: expected none below 0 or of the background, got {self.channels}"
            )
        if self.background is not None and self.background < 0:
            raise ValueError(f"background: expected a channel, got {self.background}")
        if self.method in FITS:
            if self.joint is not None or len(self.mappings) != len(self.channels):
                raise ValueError("calibration: expected a mapping for each channel, and no other")
        elif self.joint is None or self.mappings:
            raise ValueError(f"calibration: expected the matrix of {self.method}, and no other")
        else:
            behind = () if self.background is None else (self.background,)
            every = sorted(self.channels + behind)
            if every != list(range(self.joint.channels)):
                raise ValueError(
                    f"channels: expected 0 to {self.joint.channels - 1} with the background's, "
                    f"got {every}"
                )

    @property
    def channel_count(self) -> int:
        """The channels that a map has at least."""
        return max(*self.channels, -1 if self.background is None else self.background) + 1

    def apply(self, probabilities: Any, *, out: Any = None) -> Any:
        """Return the calibrated map.

        Beside the result it takes memory for a piece of the map alone. (An array that torch cannot
        look at, of another byte order or with negative strides, is copied.)

        Args:
            probabilities: NumPy array or tensor, (channels, *spatial), floating, within [0, 1]; of
                at least :attr:`channel_count` channels.
            out: Where to write the result: of the same kind, shape and dtype, writeable, and an
                array that torch can look at. It may be ``probabilities`` itself.

        Returns:
            A map of the same kind, shape, dtype and device; ``out``, if it was given.

        Raises:
            TypeError: It is no floating array or tensor, or ``out`` is of another kind.
            ValueError: It has too few channels, or values outside [0, 1] or NaN, or ``out`` has
                another shape or cannot be written to.

        Example:
            >>> from marginseg.calibration import LogitLine
            >>> line = LogitLine(slope=0.5)
            >>> halved = Calibration("temperature", (0,), mappings=(line,))
            >>> round(float(halved.apply(np.array([0.9]))[0]), 3)
            0.75

        """
        maps = probabilities_of(probabilities)
        if len(maps) < self.channel_count or (self.joint and len(maps) != self.joint.channels):
            least = "" if self.joint else "at least "
            raise ValueError(
                f"probabilities: expected {least}{self.channel_count} channels, got {len(maps)}"
            )
        clamped = rounded_beyond_unit("probabilities", maps)
        if out is None:
            result: Any = (
                torch.empty_like(probabilities, requires_grad=False)
                if isinstance(probabilities, Tensor)
                else np.empty_like(probabilities, probabilities.dtype.newbyteorder("="))
            )
        else:
            result = _checked_out(out, probabilities)
        written = tensor_of("out", result)
        if self.joint is not None:
            each_piece(self.joint.write, [*maps, *written], max(1, 4 * PIECE // len(maps)))
            return result
        for channel, mapping in zip(self.channels, self.mappings, strict=True):
            each_piece(partial(_write, mapping, clamped), [maps[channel], written[channel]])
        others = [channel for channel in range(len(maps)) if channel != self.background]
        for channel in others:
            if channel not in self.channels:
                written[channel].copy_(maps[channel])
                if clamped:
                    written[channel].clamp_(0.0, 1.0)
        if self.background is not None:
            each_piece(_write_rest, [written[self.background], *(written[c] for c in others)])
        return result

    def applied_to(self, table: CalibrationTable) -> CalibrationTable:
        """Return the table of the calibrated maps, for curves and errors after.

        Every fine bin goes where its mean goes.

        Args:
            table: Of the classes of this calibration, in their order.

        Raises:
            ValueError: It is of other classes, or the method is a joint one, which takes the values
                of all channels of a voxel; then make the table of the calibrated maps.

        Example:
            >>> from marginseg.calibration import calibration_table, fit
            >>> p, held = np.full((1, 10), 0.9), np.arange(10)[None] < 6
            >>> before = calibration_table(p, held)
            >>> after = fit(before, method="platt").applied_to(before)
            >>> [round(float(t.expected_calibration_error()[0]), 6) for t in (before, after)]
            [0.3, 0.0]

        """
        if self.joint is not None:
            raise ValueError(f"table: expected a method class by class, got {self.method}")
        if table.classes != len(self.mappings):
            raise ValueError(
                f"table: expected one of {len(self.mappings)} classes, got one of {table.classes}"
            )
        means = np.nan_to_num(table.probability())
        rows = [
            table.moved(row, mapping.of_array(means[row]))
            for row, mapping in enumerate(self.mappings)
        ]
        return CalibrationTable(
            np.concatenate([row.count for row in rows]),
            np.concatenate([row.promised for row in rows]),
            np.concatenate([row.held for row in rows]),
            table.channels,
        )

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold; :meth:`from_state` is the way back, to the same bits."""
        return {
            "method": self.method,
            "channels": list(self.channels),
            "background": self.background,
            "mappings": [mapping.state() for mapping in self.mappings],
            "joint": None if self.joint is None else self.joint.state(),
        }

    @classmethod
    def from_state(cls, state: Any) -> Calibration:
        """Return the calibration that :meth:`state` described.

        Raises:
            ValueError: It is not what :meth:`state` returns.

        """
        try:
            return cls(
                state["method"],
                tuple(_channel(channel) for channel in state["channels"]),
                None if state["background"] is None else _channel(state["background"]),
                tuple(mapping_of(mapping) for mapping in state["mappings"]),
                None if state["joint"] is None else LogAffine.from_state(state["joint"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"calibration: expected what a calibration's state holds, got {state!r:.80}"
            ) from error


def _write(mapping: Mapping, clamped: bool, given: Tensor, target: Tensor) -> None:
    values = given.double()
    if clamped:
        values = values.clamp(0.0, 1.0)
    if values.device.type == "cpu":
        target.copy_(torch.from_numpy(mapping.of_array(values.numpy())))
    else:
        target.copy_(mapping.of_tensor(values))


def _write_rest(target: Tensor, *others: Tensor) -> None:
    left = torch.ones_like(target, dtype=torch.float64)
    for one in others:
        left -= one
    target.copy_(left.clamp_(min=0.0))


def _checked_out(out: Any, probabilities: Any) -> Any:
    if isinstance(out, Tensor) != isinstance(probabilities, Tensor) or not isinstance(
        out, Tensor | np.ndarray
    ):
        raise TypeError(f"out: expected {type(probabilities).__name__}, got {type(out).__name__}")
    dtype: Any = probabilities.dtype
    if isinstance(out, np.ndarray):
        dtype = dtype.newbyteorder("=")
        shared = out.flags.writeable and out.flags.aligned and out.dtype.isnative
        if not shared or any(stride < 0 or stride % out.itemsize for stride in out.strides):
            raise ValueError(
                "out: expected a writeable array that is aligned, of this machine's byte order and "
                "without negative strides, got another"
            )
    if out.shape != probabilities.shape or out.dtype != dtype:
        raise ValueError(
            f"out: expected {dtype} of shape {tuple(probabilities.shape)}, "
            f"got {out.dtype} of shape {tuple(out.shape)}"
        )
    return out


def _channel(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("no channel")
    return value
