"""The command that runs a study: what noise does to a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from marginseg.configuration import StudyConfig
    from marginseg.study import Progress


class Data(StrEnum):
    """Where the cases come from."""

    phantom = "phantom"
    decathlon = "decathlon"
    totalsegmentator = "totalsegmentator"


class Preset(StrEnum):
    """The settings to start from."""

    quick = "quick"
    paper = "paper"


def study(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Folder to write; made if new.")
    ],
    preset: Annotated[
        Preset,
        typer.Option(
            help="Settings that the other options change. quick: small networks, minutes on two "
            "cores; paper: the published settings, days without a GPU."
        ),
    ] = Preset.quick,
    data: Annotated[
        Data,
        typer.Option(
            help="phantom: made on the fly. decathlon: imagesTr, labelsTr and dataset.json in "
            "--dir. totalsegmentator: CASE/ct.nii.gz and CASE/segmentations/NAME.nii.gz in --dir."
        ),
    ] = Data.phantom,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="The data set's folder; phantoms need none."),
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            help="What to segment, one study a name. phantom: kidney, tube, thin_tube (default: "
            "these three). decathlon: a label's name, or all, for every label as one (the "
            "default). totalsegmentator: names of masks (needed).",
        ),
    ] = None,
    std: Annotated[
        list[float] | None,
        typer.Option(
            metavar="A...", help="Noise levels, fractions of the extent: --std 0 0.03 0.06."
        ),
    ] = None,
    length_scale: Annotated[
        float | None,
        typer.Option(metavar="B", help="Of the noise, a fraction of the extent, > 0."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Of the cross-validation; 2 to the case count.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="F-F-...", help="Of the U-Net, a number a level: 8-16-32-64."),
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(
            metavar="IxJxK",
            help="Voxels around the structure's centre of mass: 32x48x32; each a multiple of 2 "
            "to the power of the levels - 1.",
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(metavar="IxJxK", help="Resample to millimetres a voxel: 1.5x1.5x1.5."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the cases.")] = None,
    learning_rate: Annotated[float | None, typer.Option(metavar="R", help="Adam's, > 0.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of folds, label noise and initial weights.")
    ] = None,
    max_cases: Annotated[
        int | None, typer.Option(metavar="N", help="Use the first N cases only.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Runs trained at the same time.")
    ] = None,
) -> None:
    """Train with cross-entropy and soft-Dice under rising label noise; report what it does to Dice.

    For every structure, noise level, fold and loss a U-Net is trained on noisy labels; its maps are
    cut at 1/2 and at t*. Prints the table, and writes OUT/report.html (opens from disk) with
    table.csv and the figures.

    A study that was stopped goes on where it was when the same command is given again.

    `marginseg study -o study` runs on phantoms; on real data:

    `marginseg study --data decathlon --dir Task04_Hippocampus --std 0 0.03 0.06 --folds 2
    --features 8-16-32-64 --patch 32x48x32 -o hippocampus`

    Exit status: 0; 1 if a run failed (the report is written all the same); 2 for bad input; 130
    after Ctrl-C.
    """
    from rich.console import Console

    settings = {
        "data": data.value,
        "directory": directory,
        "structures": structure,
        "std": std,
        "length_scale": length_scale,
        "folds": folds,
        "features": _integers("--features", features, "-"),
        "patch_shape": _integers("--patch", patch, "x"),
        "spacing": _numbers("--spacing", spacing, "x"),
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
        "max_cases": max_cases,
        "workers": workers,
    }
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"--output: expected a folder, {output} is a file")
    _check(data, directory, settings)

    config = _configured(preset, settings)
    console = Console(highlight=False, soft_wrap=True)

    from marginseg.report import rich_table, write_report
    from marginseg.study import run_study

    with _progress() as show:
        result = run_study(config, output, progress=show)
    write_report(output)
    console.print(rich_table(output))
    for structure_name, name, reason in result.skipped:
        console.print(f"skipped: {structure_name}: {name}: {reason}", markup=False)
    for name, reason in result.failed:
        typer.echo(f"marginseg: run {name} failed: {reason}", err=True)
    typer.echo(str(output / "report.html"))
    if result.failed:
        raise typer.Exit(1)


def _configured(preset: Preset, settings: dict[str, Any]) -> StudyConfig:
    """Return the preset with the settings that were given."""
    from dataclasses import replace

    from marginseg.configuration import PRESETS

    given = {name: value for name, value in settings.items() if value is not None}
    return replace(PRESETS[preset.value], **given).resolved()


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """Show how far the study is, on stderr: a bar in a terminal, else a line a finished run."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:

        def report(event: Progress) -> None:
            if event.kind in ("finished", "failed") and event.run is not None:
                line = f"[{event.done}/{event.total}] {event.run.id} {event.kind}"
                typer.echo(f"{line} {event.error}".rstrip(), err=True)

        yield report
        return

    columns = (BarColumn(24), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(TextColumn("{task.description}", markup=False), *columns, console=console) as bar:
        task = bar.add_task("preparing", total=None)

        def show(event: Progress) -> None:
            what = event.structure if event.run is None else event.run.id
            bar.update(
                task,
                completed=event.work,
                total=event.total_work,
                description=f"{event.done}/{event.total} trainings, {event.kind} {what}".rstrip(),
            )

        yield show


def _check(data: Data, directory: Path | None, settings: dict[str, Any]) -> None:
    """Refuse what no data set can make right, before anything heavy is imported."""
    if data is Data.phantom and directory is not None:
        raise ValueError("--dir: phantoms are made on the fly; name the --data that it holds")
    if data is not Data.phantom and directory is None:
        raise ValueError(f"--dir: needed with --data {data.value}")
    if directory is not None and not directory.is_dir():
        raise NotADirectoryError(f"--dir: expected a folder, {directory} is none")
    if data is Data.totalsegmentator and not settings["structures"]:
        raise ValueError("--structure: needed with --data totalsegmentator, such as kidney_right")
    for name, least in (("folds", 2), ("epochs", 1), ("max_cases", 1), ("workers", 1), ("seed", 0)):
        if settings[name] is not None and settings[name] < least:
            option = name.replace("_", "-")
            raise ValueError(f"--{option}: expected at least {least}, got {settings[name]}")
    if settings["folds"] and settings["max_cases"] and settings["folds"] > settings["max_cases"]:
        raise ValueError(
            f"--folds: expected at most --max-cases {settings['max_cases']}, "
            f"got {settings['folds']}"
        )
    for level in settings["std"] or ():
        if not 0 <= level < float("inf"):
            raise ValueError(f"--std: expected finite numbers >= 0, got {level}")
    for name in ("length_scale", "learning_rate"):
        if settings[name] is not None and not 0 < settings[name] < float("inf"):
            option = name.replace("_", "-")
            raise ValueError(f"--{option}: expected a finite number > 0, got {settings[name]}")


def _numbers(option: str, text: str | None, separator: str) -> tuple[float, ...] | None:
    """Parse ``1.5x1.5x3``."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(separator))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"{option}: expected numbers > 0 joined by {separator}, got {text!r}")
    return numbers


def _integers(option: str, text: str | None, separator: str) -> tuple[int, ...] | None:
    """Parse ``8-16-32-64`` or ``32x48x32``."""
    numbers = _numbers(option, text, separator)
    if numbers is None:
        return None
    if any(number != int(number) for number in numbers):
        raise ValueError(f"{option}: expected integers joined by {separator}, got {text!r}")
    return tuple(int(number) for number in numbers)
