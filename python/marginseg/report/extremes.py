"""The cases where a rule loses and gains most, read again for a look at them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marginseg.evaluation.candidates import BY_NAME, PRESENT
from marginseg.evaluation.case import Case
from marginseg.evaluation.evaluate import Evaluation
from marginseg.evaluation.verdict import gained, points
from marginseg.flat_map import FlatMap
from marginseg.rule import Rule

#: Planes are cut across the axis whose voxels are longer than the others' by this factor.
FLAT: Final = 1.5


class Change(NamedTuple):
    """A case under a rule, and the class that changes most.

    Attributes:
        case: Its name.
        difference: In the mean over its classes.
        structure: The class that changes most in the same direction.
        before: Its overlap under the present rule; NaN where label and segmentation are empty.
        after: The same, under the rule.

    """

    case: str
    difference: float
    structure: str
    before: float
    after: float


@dataclass(frozen=True)
class Plane:
    """A plane of a case.

    Attributes:
        title: Which case, and what became of it.
        probability: The network's map of one class, (rows, columns).
        label: Where the label has it.
        before: Where the present rule has it.
        after: Where the rule has it.
        sizes: Of a voxel along both axes.
        rule: The name of the rule.

    """

    title: Sequence[str]
    probability: NDArray[Any]
    label: NDArray[np.bool_]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    sizes: tuple[float, float]
    rule: str


def extreme_changes(evaluation: Evaluation, rule: str) -> list[Change]:
    """Return the largest loss and the largest gain, in the mean over the classes of a case.

    Gains are those of a comparison, see :func:`marginseg.evaluation.verdict.gained`.

    Returns:
        None, one or both of them; without those that are no loss, or no gain.

    """
    overlaps: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for score in evaluation.scores:
        if score.rule in (PRESENT.name, rule):
            overlaps[score.case][score.rule][score.structure] = score.overlap
    changes = []
    for case, by_rule in overlaps.items():
        before, after = by_rule[PRESENT.name], by_rule[rule]
        moved = {name: gained(after[name], before[name]) for name in before}
        moved = {name: gain for name, gain in moved.items() if math.isfinite(gain)}
        if not moved:
            continue
        difference = math.fsum(moved.values()) / len(moved)
        if difference == 0:
            continue
        pick = min if difference < 0 else max
        structure = pick(moved, key=lambda name: moved[name])
        changes.append(Change(case, difference, structure, before[structure], after[structure]))
    changes.sort(key=lambda change: change.difference)
    found = [change for change in changes[:1] if change.difference < 0]
    return found + [change for change in changes[-1:] if change.difference > 0]


def read_plane(evaluation: Evaluation, rule: str, change: Change) -> Plane | None:
    """Return the plane of a case that has most of label and segmentations; None for one axis.

    Raises:
        OSError: A file cannot be read again.

    """
    case = next(case for case in evaluation.cases if case.name == change.case)
    classes = evaluation.classes
    place = classes.names.index(change.structure)
    label = case.label()
    axes = label.masks.ndim - 1
    if axes not in (2, 3):
        return None
    held, labelled = label.masks[place], label.labelled
    probabilities, own = case.probabilities(), case.segmentation()
    before = (
        _mask(evaluation.rules[PRESENT.name], probabilities, place)
        if own is None
        else np.isin(own, classes.values[place])
    )
    used = evaluation.fitted.get((case.name, rule), evaluation.rules[rule])
    masks = np.stack([held, before, _mask(used, probabilities, place)])
    if labelled is not None:
        masks &= labelled
    probability = probabilities[classes.channels[place]]
    spacing = case.spacing or (1.0,) * axes
    if axes == 3:
        axis, index = fullest_plane(masks, spacing)
        probability = probability.take(index, axis)
        masks = masks.take(index, axis + 1)
        spacing = tuple(size for place, size in enumerate(spacing) if place != axis)
    held, old, new = masks
    sizes = (spacing[0], spacing[1])
    return Plane(_title(case, rule, change), probability, held, old, new, sizes, rule)


def fullest_plane(masks: NDArray[np.bool_], spacing: Sequence[float]) -> tuple[int, int]:
    """Return the axis and the index of the plane with the largest area in these masks together.

    Planes lie across the axis of thick slices, where there is one.

    Args:
        masks: (masks, *spatial), of 3 axes of space.
        spacing: The voxels' size along each.

    Example:
        >>> mask = np.zeros((4, 4, 4), bool)
        >>> mask[1:3, 1, 1:] = True
        >>> fullest_plane(mask[None], (1.0, 1.0, 1.0)), fullest_plane(mask[None], (1.0, 1.0, 5.0))
        ((1, 1), (2, 1))

    """
    counts = masks.sum(axis=0, dtype=np.int64)
    longest = int(np.argmax(spacing))
    others = [size for axis, size in enumerate(spacing) if axis != longest]
    axes = [longest] if spacing[longest] >= FLAT * max(others) else [0, 1, 2]
    best = (0, 0)
    largest = -1.0
    for axis in axes:
        across = tuple(other for other in range(3) if other != axis)
        areas = counts.sum(axis=across) * float(np.prod([spacing[other] for other in across]))
        if areas.max() > largest:
            largest, best = float(areas.max()), (axis, int(areas.argmax()))
    return best


def _mask(rule: Rule, probabilities: NDArray[Any], place: int) -> NDArray[np.bool_]:
    """Return the segmentation of one class; those of all would take memory for each of them."""
    flat = FlatMap.of(probabilities, rule.classes.channel_count)
    mask: NDArray[np.bool_] = flat.restored(rule.decide(flat).mask(place)[None])[0]
    return mask


def _title(case: Case, rule: str, change: Change) -> list[str]:
    kind = "largest loss" if change.difference < 0 else "largest gain"
    return [
        f"{kind}: {points(change.difference)} points",
        case.name,
        change.structure,
        f"{_told(change.before)} before, {_told(change.after)} with {BY_NAME[rule].title}",
    ]


def _told(overlap: float) -> str:
    return f"{overlap:.3f}" if math.isfinite(overlap) else "rightly empty"
