"""What to do with the probability maps of a trained network: a rule that is kept in a file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.calibration import Calibration
from marginseg.classes import Classes
from marginseg.decided import (
    Decided,
    above,
    expected_overlap,
    painted,
    renumbered,
    shown,
    small_components,
)
from marginseg.exclusive import optimal_labels
from marginseg.files.records import parse_json, write_json
from marginseg.flat_map import FlatMap
from marginseg.ops.assign_labels import assign_labels
from marginseg.ops.boundary import computing_dtype
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.threshold import cut

#: How a map is cut: at ½ (the argmax of classes that exclude each other), where the overlap that it
#: promises is largest, or at one threshold for all cases.
Decision = Literal["half", "optimal", "fixed"]

#: The version of the layout of the file.
FORMAT: Final = 1

Map = TypeVar("Map", NDArray[Any], Tensor)


@dataclass(frozen=True)
class Rule:
    r"""What is done with a probability map to get a segmentation.

    The map is calibrated, cut, and what is too small or too improbable is taken out.

    - ``"half"``: the largest of the channels, as everyone labels a softmax (where no channel is the
      background's, and it exceeds ½); of classes that may overlap, what exceeds ½.
    - ``"optimal"``: each map at its own t*; of classes that exclude each other the labels of
      :func:`marginseg.optimal_labels`.
    - ``"fixed"``: {m >= t} at the threshold t of each class. Of classes that exclude each other a
      voxel gets the one with the largest m / t.

    Attributes:
        classes: What the channels stand for.
        decision: ``"half"``, ``"optimal"`` or ``"fixed"``.
        thresholds: With ``"fixed"``, one for each class, within (0, 1].
        calibration: What the map goes through before, if anything.
        beta: What is largest where the map is cut is F_β; 1 is Dice.
        min_probability: No voxel of a lower probability, after calibration, belongs to a class.
        smallest_component: Components of fewer voxels, of those that touch at faces, edges or
            corners, are taken out. 0 and 1 keep them all.
        at_half: The names of classes that are decided as with ``"half"``, and not calibrated. Of
            classes that exclude each other they come before the others.
        fitted_on: What the rule was fitted on, for the reader; plain JSON.

    Raises:
        ValueError: The rule contradicts itself.

    Example:
        >>> rule = Rule(Classes.regions({"vessel": (1,)}, painted=(1,)))
        >>> rule.labels(np.array([[0.9, 0.4, 0.4, 0.1]]))
        array([1, 1, 1, 0], dtype=uint8)

    """

    classes: Classes
    decision: Decision = "optimal"
    thresholds: tuple[float, ...] | None = None
    calibration: Calibration | None = None
    beta: float = 1.0
    min_probability: float = 0.0
    smallest_component: int = 0
    at_half: tuple[str, ...] = ()
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.classes.names)
        if self.decision not in get_args(Decision):
            known = ", ".join(get_args(Decision))
            raise ValueError(f"decision: expected one of {known}, got {self.decision!r}")
        if (self.thresholds is not None) != (self.decision == "fixed"):
            raise ValueError("thresholds: expected with the decision fixed, and with no other")
        if self.thresholds is not None:
            if len(self.thresholds) != count:
                raise ValueError(f"thresholds: expected {count}, got {len(self.thresholds)}")
            if not all(0.0 < threshold <= 1.0 for threshold in self.thresholds):
                raise ValueError(f"thresholds: expected within (0, 1], got {self.thresholds}")
        if not 0.0 < self.beta < math.inf:
            raise ValueError(f"beta: expected a finite number > 0, got {self.beta}")
        if not 0.0 <= self.min_probability <= 1.0:
            raise ValueError(f"min_probability: expected 0 to 1, got {self.min_probability}")
        if not 0 <= self.smallest_component < 2**63:
            raise ValueError(
                f"smallest_component: expected 0 to 2^63 - 1, got {self.smallest_component}"
            )
        unknown = [name for name in self.at_half if name not in self.classes.names]
        if unknown:
            known = ", ".join(self.classes.names)
            raise ValueError(f"at_half: expected names of classes ({known}), got {unknown[0]}")

    def decide(self, flat: FlatMap) -> Decided:
        """Decide, and say at which thresholds, and what the map promises."""
        maps, spatial = flat.values, flat.spatial
        calibrated = self._calibrated(maps)
        rows = list(self.classes.channels)
        numbers = stacked = None
        thresholds = [0.5] * len(rows)
        if self.classes.exclusive:
            numbers = self._numbers(maps, calibrated)
        else:
            stacked, thresholds = self._separate(calibrated[rows])
        self._clean(Decided(numbers, stacked, (), ()), calibrated, spatial)
        if stacked is not None and self.classes.painted is not None:
            # A label map shows the last of classes that overlap: it is what is told of.
            numbers = painted(stacked)
            stacked = shown(numbers, self.classes)
        decided = Decided(numbers, stacked, (), ())
        expected = [
            expected_overlap(calibrated[row], decided.mask(place), self.beta)
            for place, row in enumerate(rows)
        ]
        if self.thresholds is not None:
            thresholds = list(self.thresholds)
        elif self.classes.exclusive and self.decision == "optimal":
            # No voxel below gains anything by joining: the gain is (1 + β²) m - F.
            thresholds = [value / (1.0 + self.beta**2) for value in expected]
        told = (
            max(0.5 if name in self.at_half else threshold, self.min_probability)
            for name, threshold in zip(self.classes.names, thresholds, strict=True)
        )
        return Decided(numbers, stacked, tuple(told), tuple(expected))

    def promised(self, flat: FlatMap, decided: Decided, counted: Tensor) -> tuple[float, ...]:
        """Return of each class the overlap that the map promises within some voxels alone.

        What is compared with a label that leaves voxels out is promised of the others.

        Args:
            flat: The map.
            decided: What :meth:`decide` made of it.
            counted: The voxels that count, (voxels,), bool.

        """
        calibrated = self._calibrated(flat.values)
        return tuple(
            expected_overlap(calibrated[row][counted], decided.mask(place)[counted], self.beta)
            for place, row in enumerate(self.classes.channels)
        )

    def masks(self, probabilities: Map) -> Map:
        """Return the segmentation of each class, (classes, *spatial), as bools.

        Of classes that may overlap, and are painted, it is what their label map shows of each.

        Args:
            probabilities: m, (K, *spatial), floating, within [0, 1]; a NumPy array or a tensor.

        Raises:
            TypeError: It is not floating.
            ValueError: It holds NaN or values outside [0, 1], or has too few channels.

        """
        flat = FlatMap.of(probabilities, self.classes.channel_count)
        masks: Map = flat.restored(self.decide(flat).masks())
        return masks

    def labels(self, probabilities: Map) -> Map:
        """Return the label map, (*spatial), of the smallest unsigned integers.

        Args and errors are those of :meth:`masks`; and ValueError where classes that overlap have
        no values to be painted with.
        """
        flat = FlatMap.of(probabilities, self.classes.channel_count)
        labels: Map = flat.restored(self.paint(self.decide(flat))[None])[0]
        return labels

    def paint(self, decided: Decided) -> Tensor:
        """Return the label map of what was decided, (voxels,)."""
        if self.classes.painted is None:
            raise ValueError("classes: expected the values to paint; these classes have none")
        assert decided.numbers is not None
        smallest = torch.from_numpy(np.zeros(0, np.min_scalar_type(max(self.classes.painted))))
        values = torch.tensor((0, *self.classes.painted), device=decided.numbers.device)
        return values.to(smallest.dtype)[decided.numbers.long()]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the rule as JSON, whole or not at all.

        Raises:
            OSError: The file cannot be written.

        """
        write_json(Path(path), self.state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Rule:
        """Read a rule.

        Raises:
            OSError: There is no such file, or it cannot be read.
            ValueError: It is no rule; the message names the file.

        """
        try:
            return cls.from_state(parse_json(Path(path).read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            raise ValueError(f"{path}: expected a rule, as marginseg evaluate writes") from None
        except ValueError as error:
            raise ValueError(f"{path}: expected a rule: {error}") from None

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold; :meth:`from_state` is the way back."""
        return {
            "format": FORMAT,
            "classes": self.classes.state(),
            "decision": self.decision,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "calibration": None if self.calibration is None else self.calibration.state(),
            "beta": self.beta,
            "min_probability": self.min_probability,
            "smallest_component": self.smallest_component,
            "at_half": list(self.at_half),
            "fitted_on": dict(self.fitted_on),
        }

    @classmethod
    def from_state(cls, state: Any) -> Rule:
        """Return the rule that :meth:`state` described.

        Raises:
            ValueError: It is not what :meth:`state` returns.

        """
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {_brief(state)}")
        try:
            thresholds, calibration = state["thresholds"], state["calibration"]
            return cls(
                Classes.from_state(state["classes"]),
                state["decision"],
                None if thresholds is None else tuple(float(value) for value in thresholds),
                None if calibration is None else Calibration.from_state(calibration),
                float(state["beta"]),
                float(state["min_probability"]),
                int(state["smallest_component"]),
                tuple(str(name) for name in state["at_half"]),
                dict(state["fitted_on"]),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"expected what a rule holds, got {_brief(state)}") from error

    def _calibrated(self, maps: Tensor) -> Tensor:
        if self.calibration is None:
            return maps
        calibrated = self.calibration.apply(maps)
        for name in self.at_half:
            channel = self.classes.channels[self.classes.names.index(name)]
            calibrated[channel] = maps[channel]
        return calibrated

    def _separate(self, maps: Tensor) -> tuple[Tensor, list[float]]:
        """Cut each map (classes, voxels) by itself."""
        held = [name in self.at_half for name in self.classes.names]
        if self.decision == "half" or all(held):
            return maps > 0.5, [0.5] * len(maps)
        if self.thresholds is not None:
            thresholds = torch.tensor(self.thresholds, dtype=torch.float64, device=maps.device)
        else:
            thresholds = dice_threshold(maps, spatial_dims=1, beta=self.beta).threshold
        masks = cut(maps, thresholds)
        for place, kept in enumerate(held):
            if kept:
                masks[place] = maps[place] > 0.5
        return masks, thresholds.tolist()

    def _numbers(self, maps: Tensor, calibrated: Tensor) -> Tensor:
        """Return of each voxel the number of its class, counted from 1; 0 is none.

        Classes that are left at ½ are decided on the map as it was, and taken first.
        """
        held = [name in self.at_half for name in self.classes.names]
        if self.decision == "half" or all(held):
            return self._largest(calibrated)
        chosen = [place for place, kept in enumerate(held) if not kept]
        rows = [self.classes.channels[place] for place in chosen]
        if self.thresholds is not None:
            bounds = [self.thresholds[place] for place in chosen]
            numbers = above(calibrated, rows, bounds)
        else:
            numbers = self._best(calibrated, rows)
        if any(held):
            numbers = renumbered(numbers, [place + 1 for place in chosen])
            largest = self._largest(maps)
            for place, kept in enumerate(held):
                if kept:
                    numbers[largest == place + 1] = place + 1
        return numbers

    def _best(self, maps: Tensor, rows: list[int]) -> Tensor:
        """Return numbers 1, 2, ... of channels, by the largest expected mean overlap."""
        background = self.classes.background
        order = sorted(rows if background is None else [background, *rows])
        # A map of many classes is not copied where all of its channels are meant.
        chosen = maps if order == list(range(len(maps))) else maps[order]
        labels = optimal_labels(
            chosen,
            metric="fbeta",
            beta=self.beta,
            background=None if background is None else order.index(background),
            spatial_dims=1,
        ).labels
        if background is None or order[0] == background:
            return labels
        # Labels are places among the channels here, and the background's is not the first.
        numbers = [0 if channel == background else rows.index(channel) + 1 for channel in order]
        return renumbered(labels, numbers[1:], first=numbers[0])

    def _largest(self, maps: Tensor) -> Tensor:
        """Return the number of the largest channel, 0 where that is the background's.

        Of equal channels the first one counts. Without a background's channel, the largest has to
        exceed ½.
        """
        background, rows = self.classes.background, list(self.classes.channels)
        order = rows if background is None else sorted([background, *rows])
        chosen = maps if order == list(range(len(maps))) else maps[order]
        ones = torch.ones(len(order), dtype=computing_dtype(maps.dtype), device=maps.device)
        if background is None:
            return assign_labels(chosen, ones, 0 * ones, fallback=-1, floor=0.5).labels
        found = assign_labels(chosen, ones, 0 * ones, floor=-1.0).labels
        numbers = [0 if channel == background else rows.index(channel) + 1 for channel in order]
        if numbers == list(range(len(order))):
            return found
        return renumbered(found, numbers[1:], first=numbers[0])

    def _clean(self, decided: Decided, maps: Tensor, spatial: tuple[int, ...]) -> None:
        """Take out, in place, what is too improbable or too small."""
        if self.min_probability == 0.0 and self.smallest_component <= 1:
            return
        for place, channel in enumerate(self.classes.channels):
            mask = decided.mask(place)
            kept = mask & cut(maps[channel], self.min_probability)
            if self.smallest_component > 1 and bool(kept.any()):
                small = small_components(kept.reshape(spatial), self.smallest_component)
                kept &= ~small.reshape(-1)
            if decided.stacked is not None:
                decided.stacked[place] = kept
            elif decided.numbers is not None:
                decided.numbers[mask & ~kept] = 0


def load_rule(rule: Rule | str | os.PathLike[str]) -> Rule:
    """Return a rule that is given as itself or by its file; what accepts both calls this."""
    return rule if isinstance(rule, Rule) else Rule.load(rule)


def _brief(state: Any) -> str:
    text = repr(state)
    return text if len(text) <= 60 else f"{text[:57]}..."
