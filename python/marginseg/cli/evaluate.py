"""The command that tells which rule is best for a trained network."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marginseg.cli.cuts import (
    AtHalfOption,
    BetaOption,
    Channels,
    DatasetOption,
    FoundChannelsOption,
    MinProbabilityOption,
    NamesOption,
    SmallestComponentOption,
)
from marginseg.cli.several import available_memory
from marginseg.cli.tables import show

if TYPE_CHECKING:
    from marginseg.classes import Classes
    from marginseg.evaluation.case import Case
    from marginseg.files.predictions import Predictions


class Tried(StrEnum):
    """A rule that can be tried."""

    threshold = "threshold"
    optimal = "optimal"
    temperature = "temperature"
    platt = "platt"
    isotonic = "isotonic"


class EmptyLabel(StrEnum):
    """What the Dice of a class is that a label lacks."""

    one = "one"
    nan = "nan"
    skip = "skip"


def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="Folder of probability maps. What nnU-Net v2 wrote: predictions with their "
            "probabilities, or a trained model whose folds were validated so (CASE.npz). Or "
            "NIfTI files: CASE.nii.gz, 3-D, or 4-D with a channel a class; CASE/CASE_*.nii.gz; or "
            "a file a class, CASE/CLASS.nii.gz.",
        ),
    ],
    labels: Annotated[
        Path,
        typer.Argument(metavar="LABELS", help="Folder of the label maps, with the cases' names."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for report and rule; made if new."
        ),
    ],
    rule: Annotated[
        list[Tried] | None,
        typer.Option(metavar="NAME...", help="Which are tried. Default: all."),
    ] = None,
    beta: BetaOption = 1.0,
    empty: Annotated[
        EmptyLabel,
        typer.Option(
            help="What the Dice of a class is that a case's label lacks. one: 1 if nothing is "
            "segmented either, else 0. nan: left out if nothing is segmented either, else 0, as "
            "nnU-Net does. skip: left out whatever is segmented, as MONAI does."
        ),
    ] = EmptyLabel.one,
    surface: Annotated[
        bool, typer.Option("--surface", help="Tell the 95 % surface distance too; slower.")
    ] = False,
    min_probability: MinProbabilityOption = 0.0,
    smallest_component: SmallestComponentOption = 0,
    at_half: AtHalfOption = None,
    channels: FoundChannelsOption = None,
    names: NamesOption = None,
    dataset: DatasetOption = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Cases at once. Default: the cores, and what memory holds."),
    ] = None,
) -> None:
    """Tell which threshold is best for a trained network, and whether it helps.

    Every rule is tried on every case: one threshold for all cases; each map cut at its own t*,
    where the Dice that it promises is largest; and t* after a calibration by temperature, Platt or
    isotonic regression. What has to be fitted is fitted on the other cases. Each is compared with
    what the network does now: its own segmentation, or argmax or 1/2.

    Writes `report.html` with figures, `cases.csv`, `rules.csv`, `evaluation.json`, and
    `rule.json`: what to do with new maps, for `marginseg threshold MAPS --rule rule.json -o OUT`.

    `marginseg evaluate nnUNetTrainer__nnUNetPlans__3d_fullres labelsTr -o evaluation`

    Exit status: 0; 2 for bad input; 130 after Ctrl-C.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"--workers: expected at least 1, got {workers}")
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"--output: expected a folder, {output} is a file")
    from marginseg.files.predictions import open_predictions

    opened = open_predictions(
        predictions,
        dataset=dataset,
        names=names,
        exclusive=None if channels is None else channels is Channels.softmax,
    )
    cases, classes = _cases(opened, labels)

    from marginseg.evaluation.case import Settings
    from marginseg.evaluation.evaluate import evaluate as evaluated
    from marginseg.report.evaluation_content import metric_name
    from marginseg.report.evaluations import write_evaluation
    from marginseg.report.terminal import evaluation_table

    chosen = {} if rule is None else {"candidates": tuple(name.value for name in rule)}
    settings = Settings(
        beta=beta,
        empty=empty.value,
        surface=surface,
        min_probability=min_probability,
        smallest_component=smallest_component,
        at_half=tuple(at_half or ()),
        **chosen,
    )
    settings.rule(classes)  # which refuses what is out of range
    output.mkdir(parents=True, exist_ok=True)
    with _progress() as progress:
        found = evaluated(
            cases, classes, settings, workers=_workers(opened, workers), progress=progress
        )
    typer.echo(f"{len(cases)} case{'s' * (len(cases) > 1)}, {opened.layout}")
    show(evaluation_table(found.comparisons, metric=metric_name(beta)))
    typer.echo(found.verdict.sentence)
    typer.echo(str(write_evaluation(output, found, described=opened.layout)))


def _cases(opened: Predictions, folder: Path) -> tuple[list[Case], Classes]:
    """Return the cases with their labels, and what the channels stand for."""
    from marginseg.evaluation.case import Case, Label
    from marginseg.files.predictions import open_labels

    labels = open_labels(folder, opened)
    classes = opened.classes
    single = all(len(values) == 1 for values in classes.values)
    if single and not classes.exclusive and any(label.masks for label in labels.values()):
        # Nobody has said that one class covers another: a rule writes masks, as the labels are.
        classes = replace(classes, painted=None)
    cases = [
        Case(
            case.name,
            case.probabilities,
            lambda label=labels[case.name]: Label(*label.read()),  # type: ignore[misc]
            case.segmentation,
            case.spacing,
        )
        for case in opened.cases
    ]
    return cases, classes


def _workers(opened: Predictions, given: int | None) -> int:
    """Return how many cases are worked on at once: as memory has room for them."""
    if given is not None:
        return given
    case = max(opened.cases, key=lambda case: math.prod(case.shape))
    # The map, what a calibration makes of it, labels and masks.
    need = math.prod(case.shape) * (8 * case.channels + 4 * len(opened.classes.names) + 16)
    return max(1, min(len(os.sched_getaffinity(0)), available_memory() // 2 // need))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show how far it is, in a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("reading cases", total=None)

        def show_progress(done: int, total: int) -> None:
            doing = "reading cases" if 2 * done <= total else "trying rules"
            bar.update(task, completed=done, total=total, description=doing)

        yield show_progress
