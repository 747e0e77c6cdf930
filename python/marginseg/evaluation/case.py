"""What is evaluated, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from marginseg.classes import Classes
from marginseg.evaluation.candidates import CANDIDATES
from marginseg.evaluation.scores import Empty
from marginseg.rule import Decision, Rule


class Label(NamedTuple):
    """What a case is compared with.

    Attributes:
        masks: Where each class is, (classes, *spatial), bool.
        labelled: Which voxels somebody labelled, (*spatial), bool; None stands for all.

    """

    masks: NDArray[np.bool_]
    labelled: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, label: NDArray[Any], classes: Classes) -> Label:
        """Take a label map (*spatial) apart."""
        return cls(classes.targets(label), classes.labelled(label))


@dataclass(frozen=True)
class Case:
    """A labelled case, read when it is needed.

    Attributes:
        name: Different from all others'.
        probabilities: Returns the map, (K, *spatial), floating.
        label: Returns the label.
        segmentation: Returns the network's own label map, or None where there is none.
        spacing: The voxels' size along each axis in mm; None where it is not known.

    """

    name: str
    probabilities: Callable[[], NDArray[Any]]
    label: Callable[[], Label]
    segmentation: Callable[[], NDArray[Any] | None] = lambda: None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Settings:
    """How rules are compared.

    Attributes:
        beta: By F_β; 1 is Dice.
        empty: What the overlap of a class is that a label lacks, see `Empty`.
        surface: Whether the 95 % surface distance is told too.
        candidates: The names of the rules that are tried.
        min_probability: Of every rule but the present one, as of `Rule`.
        smallest_component: The same.
        at_half: The same.

    Raises:
        ValueError: There is no such candidate, or nothing of that name for an empty label.

    """

    beta: float = 1.0
    empty: Empty = "one"
    surface: bool = False
    candidates: tuple[str, ...] = tuple(candidate.name for candidate in CANDIDATES)
    min_probability: float = 0.0
    smallest_component: int = 0
    at_half: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = [candidate.name for candidate in CANDIDATES]
        for name in self.candidates:
            if name not in known:
                raise ValueError(f"rules: expected some of {', '.join(known)}, got {name!r}")
        if self.empty not in get_args(Empty):
            known = list(get_args(Empty))
            raise ValueError(f"empty: expected one of {', '.join(known)}, got {self.empty!r}")

    def rule(self, classes: Classes, decision: Decision = "optimal", **fitted: Any) -> Rule:
        """Return a rule with these settings.

        Raises:
            ValueError: A setting is out of its range, or names a class that there is not.

        """
        return Rule(
            classes,
            decision,
            beta=self.beta,
            min_probability=self.min_probability,
            smallest_component=self.smallest_component,
            at_half=self.at_half,
            **fitted,
        )
