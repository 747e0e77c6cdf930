"""What the segmentation of one case is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from marginseg.evaluation.surface import surface_distance
from marginseg.flat_map import voxel_count

#: What the overlap of a class is that a case's label lacks: 1 where nothing is segmented either;
#: NaN there, as nnU-Net tells it; or NaN whatever is segmented, as MONAI's ``ignore_empty`` does.
Empty = Literal["one", "nan", "skip"]


class Score(NamedTuple):
    """A class of a case under a rule; one row of ``cases.csv``.

    Attributes:
        case: The case's name.
        structure: The class.
        rule: The rule's name.
        overlap: Dice, or F_β, with the label; NaN where an empty label says nothing.
        promised: What the map promised of the voxels that count, after the rule's calibration; NaN
            for nothing.
        threshold: At which the map was cut; NaN where it was not.
        voxels: Of the segmentation.
        label_voxels: Of the label.
        surface: The 95 % surface distance; infinity where label or segmentation is empty, NaN where
            both are, where the overlap is, and where it was not asked for.

    """

    case: str
    structure: str
    rule: str
    overlap: float
    promised: float
    threshold: float
    voxels: int
    label_voxels: int
    surface: float = math.nan


class Masks(Protocol):
    """The segmentations of all classes of a case, flat."""

    def mask(self, place: int) -> Tensor:
        """Return that of one class, (voxels,), bool."""
        ...


@dataclass(frozen=True)
class Stacked:
    """Masks that are there already, (classes, voxels)."""

    masks: Tensor

    def mask(self, place: int) -> Tensor:
        """Return one of them."""
        return self.masks[place]


@dataclass(frozen=True)
class Target:
    """The label of a case, and how segmentations are compared with it.

    Attributes:
        case: The case's name.
        structures: The names of the classes.
        masks: Where each class is, (classes, voxels), bool.
        labelled: The voxels that count; None stands for all.
        spatial: The shape of the voxels.
        spacing: Their size along each axis; None where surface distances are not asked for.
        beta: The overlap is F_β; 1 is Dice.
        empty: What that of an empty label is.

    """

    case: str
    structures: Sequence[str]
    masks: Tensor
    labelled: Tensor | None
    spatial: tuple[int, ...]
    spacing: tuple[float, ...] | None
    beta: float
    empty: Empty

    def scores(
        self,
        rule: str,
        found: Masks,
        *,
        promised: Sequence[float] = (),
        thresholds: Sequence[float] = (),
    ) -> list[Score]:
        """Return the score of each class."""
        return [
            self._score(
                rule,
                place,
                found.mask(place),
                promised[place] if promised else math.nan,
                thresholds[place] if thresholds else math.nan,
            )
            for place in range(len(self.structures))
        ]

    def _score(
        self, rule: str, place: int, mask: Tensor, promised: float, threshold: float
    ) -> Score:
        label = self.masks[place]
        if self.labelled is not None:
            mask, label = mask & self.labelled, label & self.labelled
        voxels, label_voxels = voxel_count(mask), voxel_count(label)
        inside = voxel_count(mask & label)
        overlap = overlap_of(inside, voxels, label_voxels, self.beta, self.empty)
        surface = math.nan
        if self.spacing is not None and math.isfinite(overlap):
            first, second = (array.reshape(self.spatial).numpy() for array in (mask, label))
            surface = surface_distance(first, second, self.spacing)
        return Score(
            self.case,
            self.structures[place],
            rule,
            overlap,
            promised,
            threshold,
            voxels,
            label_voxels,
            surface,
        )


def overlap_of(inside: float, volume: float, label: float, beta: float, empty: Empty) -> float:
    r"""Return :math:`F_\beta = (1 + \beta^2) |s \cap l| / (|s| + \beta^2 |l|)`; Dice for β = 1.

    Args:
        inside: The volume of what the segmentation and the label share.
        volume: The segmentation's.
        label: The label's.
        beta: β weighs what is missed against what is too much.
        empty: What it is where the label is empty.

    Example:
        >>> overlap_of(1, 2, 1, 1.0, "one"), overlap_of(0, 0, 0, 1.0, "one")
        (0.6666666666666666, 1.0)
        >>> overlap_of(0, 2, 0, 1.0, "nan"), overlap_of(0, 2, 0, 1.0, "skip")
        (0.0, nan)

    """
    if label == 0 and (empty == "skip" or (volume == 0 and empty == "nan")):
        return math.nan
    square = beta**2
    total = volume + square * label
    return (1.0 + square) * inside / total if total > 0 else 1.0
