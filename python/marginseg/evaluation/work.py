"""What is done with one case: each rule is tried, and what the others need of it is summed up."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from marginseg.calibration import CalibrationTable, calibration_table
from marginseg.classes import Classes
from marginseg.decided import Decided
from marginseg.evaluation.candidates import BY_NAME, CEILING, PRESENT, Candidate
from marginseg.evaluation.case import Case, Settings
from marginseg.evaluation.scores import Score, Stacked, Target
from marginseg.evaluation.thresholds import OverlapCurves, best_cut, overlap_curves
from marginseg.flat_map import FlatMap, voxel_count
from marginseg.rule import Rule


class Reading(NamedTuple):
    """What the first reading of a case leaves.

    Attributes:
        name: The case's.
        scores: Of the rules that need no other case.
        table: What calibration and thresholds need.
        curves: The overlap of every threshold.
        own: Whether there was an own segmentation.
        unlike: In how many voxels it is not what argmax or ½ gives.

    """

    name: str
    scores: list[Score]
    table: CalibrationTable
    curves: OverlapCurves
    own: bool
    unlike: int


class Work:
    """What is done with one case."""

    def __init__(self, classes: Classes, settings: Settings) -> None:
        self.classes = classes
        self.settings = settings

    def rule(self, candidate: Candidate, **fitted: Any) -> Rule:
        """Return a candidate's rule."""
        assert candidate.decision is not None
        return self.settings.rule(self.classes, candidate.decision, **fitted)

    def read(self, case: Case) -> Reading:
        """Try the rules that need no other case, and sum up what the others need of this one."""
        flat, target, own = self._open(case)
        half = Rule(self.classes, "half")
        present = half.decide(flat)
        scores: list[Score] = []
        unlike = 0
        if own is not None:
            for place in range(len(self.classes.names)):
                unlike = max(unlike, voxel_count(present.mask(place) != own.mask(place)))
        if own is None or unlike == 0:
            scores += _scores(target, PRESENT, half, flat, present)
        else:  # processed after: nothing promises anything of it
            scores += target.scores(PRESENT.name, own)
        optimal = BY_NAME["optimal"]
        if optimal.name in self.settings.candidates:
            scores += _scores(target, optimal, self.rule(optimal), flat)
        table = calibration_table(
            flat.values, target.masks, target.labelled, channels=self.classes.channels
        )
        curves = overlap_curves(table, beta=self.settings.beta, empty=self.settings.empty)
        scores += self._ceiling(case.name, flat, target, curves)
        return Reading(case.name, scores, table, curves, own is not None, unlike)

    def try_rules(self, case: Case, rules: dict[str, Rule]) -> list[Score]:
        """Return the scores of rules that were fitted on other cases."""
        flat, target, _ = self._open(case)
        scores: list[Score] = []
        for name, rule in rules.items():
            scores += _scores(target, BY_NAME[name], rule, flat)
        return scores

    def _ceiling(
        self, case: str, flat: FlatMap, target: Target, curves: OverlapCurves
    ) -> list[Score]:
        """Return what the best threshold of each class by itself reaches, which nobody can know.

        It has no regard to the other classes, and to the options.
        """
        scores = []
        for place, structure in enumerate(self.classes.names):
            values, label = flat.values[self.classes.channels[place]], target.masks[place]
            if target.labelled is not None:
                values, label = values[target.labelled], label[target.labelled]
            best = best_cut(values, label, curves, place, beta=self.settings.beta)
            label_voxels = round(float(curves.label_volume[place]))
            nothing = self.settings.empty == "nan" and best.volume == label_voxels == 0
            scores.append(
                Score(
                    case,
                    structure,
                    CEILING.name,
                    math.nan if nothing else best.overlap,
                    math.nan,
                    best.threshold,
                    best.volume,
                    label_voxels,
                )
            )
        return scores

    def _open(self, case: Case) -> tuple[FlatMap, Target, Stacked | None]:
        probabilities, label, own = case.probabilities(), case.label(), case.segmentation()
        spatial = probabilities.shape[1:]
        _check_shape(case, "masks of the label", label.masks, (len(self.classes.names), *spatial))
        _check_shape(case, "labelled voxels", label.labelled, spatial)
        _check_shape(case, "a segmentation", own, spatial)
        if case.spacing is not None and len(case.spacing) != len(spatial):
            raise ValueError(
                f"{case.name}: expected a spacing of {len(spatial)} numbers, got {case.spacing}"
            )
        try:
            flat = FlatMap.of(probabilities, self.classes.channel_count)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{case.name}: {error}") from error
        target = Target(
            case.name,
            self.classes.names,
            flat.beside(label.masks),
            None if label.labelled is None else flat.beside(label.labelled[None])[0],
            flat.spatial,
            flat.ordered(case.spacing or (1.0,) * len(spatial)) if self.settings.surface else None,
            self.settings.beta,
            self.settings.empty,
        )
        if own is None:
            return flat, target, None
        return flat, target, Stacked(flat.beside(self.classes.targets(own)))


def _check_shape(
    case: Case, what: str, array: NDArray[Any] | None, expected: tuple[int, ...]
) -> None:
    if array is not None and array.shape != expected:
        raise ValueError(
            f"{case.name}: expected {what} of shape {expected}, like its map, got {array.shape}"
        )


def _scores(
    target: Target, candidate: Candidate, rule: Rule, flat: FlatMap, decided: Decided | None = None
) -> list[Score]:
    """Return the scores of a rule, decided already or not."""
    decided = decided or rule.decide(flat)
    promised = decided.expected
    if target.labelled is not None:
        promised = rule.promised(flat, decided, target.labelled)
    return target.scores(candidate.name, decided, promised=promised, thresholds=decided.thresholds)
