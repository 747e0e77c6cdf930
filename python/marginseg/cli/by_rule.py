"""Maps that are segmented by a rule, whole: what every class gets depends on the others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marginseg.cli.rows import Rows
from marginseg.cli.several import Command, Row, Task, run

if TYPE_CHECKING:
    from marginseg.files.predicted_case import PredictedCase
    from marginseg.rule import Rule


def segment_by_rule(
    given: list[Path], output: Path, rule: Rule, said: str, *, iou: bool = False
) -> None:
    """Segment every map that is given, and print a row for each class.

    Args:
        given: A folder of maps, or NIfTI files.
        output: The segmentation's file; of several maps the folder, made if new.
        rule: What is done.
        said: What the files' headers say of it.
        iou: Whether the IoU is told, in the place of Dice.

    """
    from marginseg.files.predictions import open_predictions_of

    cases = open_predictions_of(given, rule.classes)
    several = len(cases) > 1 or given[0].is_dir()
    targets = _targets(cases, output, several)
    by_source = {case.source: case for case in cases}

    def work(task: Task) -> Iterator[Row]:
        return _segment(by_source[task.source], task.outputs[0], rule, said, iou)

    value = "IoU" if iou else "Dice" if rule.beta == 1.0 else f"F{rule.beta:g}"
    columns = ("threshold", f"expected {value}", "voxels", "ml")
    width = max(len(name) for name in rule.classes.names)
    run(
        Command(work, lambda source: _need(by_source[source]), {"rule": rule.state(), "iou": iou}),
        [Task(case.source, [to], case.inputs) for case, to in zip(cases, targets, strict=True)],
        Rows(("class".rjust(width), *columns), _named(cases) if several else None),
        output if several else None,
    )
    typer.echo(str(output))


def _targets(cases: list[PredictedCase], output: Path, several: bool) -> list[Path]:
    """Return where the segmentation of each case goes."""
    from marginseg.files.nifti import SUFFIXES, check_output

    if not several and not output.is_dir():
        targets = [check_output(output)]
    elif not output.is_dir() and output.name.endswith(SUFFIXES):
        raise ValueError(f"--output: expected a folder for several maps, got {output}")
    else:
        output.mkdir(parents=True, exist_ok=True)
        targets = [output / f"{case.name}.nii.gz" for case in cases]
    taken: set[Path] = set()
    for case, target in zip(cases, targets, strict=True):
        if target in taken:
            raise ValueError(f"expected cases of different names, got {case.name} twice")
        taken.add(target)
        for source in (case.source, case.geometry.path):
            if target.exists() and source.exists() and target.samefile(source):
                raise ValueError(f"--output: {target} is an input; it would be replaced")
    return targets


def _named(cases: list[PredictedCase]) -> tuple[str, list[str]]:
    return "case", [case.source.name for case in cases]


def _need(case: PredictedCase) -> int:
    """Return the bytes that a case takes, about: the map, what is made of it, the labels."""
    return math.prod(case.shape) * (8 * case.channels + 16)


def _segment(case: PredictedCase, target: Path, rule: Rule, said: str, iou: bool) -> Iterator[Row]:
    """Segment one map, and yield a row for each class when all are written."""
    import numpy as np

    from marginseg.files.nifti import writing
    from marginseg.flat_map import FlatMap, voxel_count

    probabilities = case.probabilities()
    try:
        flat = FlatMap.of(probabilities, rule.classes.channel_count)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{case.source}: {error}") from error
    decided = rule.decide(flat)
    if rule.classes.painted is not None:
        labels = flat.restored(rule.paint(decided)[None])[0]
        if labels.dtype != np.uint8:
            labels = labels.astype(np.int32)  # readers of NIfTI know few unsigned types
        shape: tuple[int, ...] = case.shape
    else:
        masks = flat.restored(decided.masks())
        labels = np.moveaxis(masks, 0, -1).view(np.uint8)
        shape = (*case.shape, len(masks))
    with writing(target, case.geometry, shape, labels.dtype.type, description=said) as output:
        output.write(labels.reshape(-1, order="F"))
    spacing = case.geometry.spacing
    millilitres = math.prod(spacing) / 1000.0 if len(spacing) >= 3 else math.nan
    for place, name in enumerate(rule.classes.names):
        voxels = voxel_count(decided.mask(place))
        ml = "–" if math.isnan(millilitres) else f"{voxels * millilitres:.3f}"
        threshold, expected = decided.thresholds[place], decided.expected[place]
        if iou:
            expected /= 2.0 - expected
        yield [name, f"{threshold:.4f}", f"{expected:.4f}", str(voxels), ml]
