"""The command that runs a study: what noise does to a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marginseg.cli.options import (
    Data,
    DataOption,
    DirectoryOption,
    LargestCutOption,
    MaxCasesOption,
    PatchOption,
    Preset,
    SpacingOption,
    StructureOption,
    check,
    configured,
    integers,
    numbers,
)
from marginseg.cli.status import show_status
from marginseg.cli.tables import show
from marginseg.files.names import printable, shortened

if TYPE_CHECKING:
    from marginseg.study.configuration import StudyConfig
    from marginseg.study.grid import Progress
    from marginseg.study.task import Executor


#: Letters of a name beside the bar.
NAME_SHOWN = 60

#: Cases that are named one by one.
SKIPPED_SHOWN = 30


class Execution(StrEnum):
    """Who executes the runs."""

    local = "local"
    ray = "ray"


class Device(StrEnum):
    """Where networks are trained."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """What networks compute in."""

    auto = "auto"
    bfloat16 = "bfloat16"
    float32 = "float32"


def study(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="OUT", help="Folder to write; made if new.  [needed]"
        ),
    ] = None,
    preset: Annotated[
        Preset,
        typer.Option(
            help="Settings that the other options change. quick: 72 phantoms of 24x24x24, --std 0 "
            "0.06, 2 folds, a U-Net of 8-16-32 features, 8 epochs: 24 trainings, minutes on two "
            "cores. paper: 400 phantoms of 64x64x64, --std 0 0.01 0.02 0.03, 5 folds, "
            "16-32-64-128-256 features, 100 epochs: 120 trainings, days without a GPU."
        ),
    ] = Preset.quick,
    data: DataOption = Data.phantom,
    directory: DirectoryOption = None,
    structure: StructureOption = None,
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
    repeats: Annotated[
        int | None,
        typer.Option(
            metavar="R",
            help="Train each network R times, with other weights, order and noisy labels: from 2 "
            "on, intervals and verdicts know what training changes, also with 2 folds. Default: 1.",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="F-F-...", help="Of the U-Net, a number a level: 8-16-32-64."),
    ] = None,
    patch: PatchOption = None,
    spacing: SpacingOption = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the cases.")] = None,
    learning_rate: Annotated[float | None, typer.Option(metavar="R", help="Adam's, > 0.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of folds, label noise and initial weights.")
    ] = None,
    max_cases: MaxCasesOption = None,
    largest_cut: LargestCutOption = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Of prepared cases, as `marginseg prepare` makes; else OUT/cache."
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="Where to train; auto: a GPU where there is one.")
    ] = Device.auto,
    precision: Annotated[
        Precision,
        typer.Option(help="Of the networks; auto: bfloat16 where the device computes in it."),
    ] = Precision.auto,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Runs trained at the same time.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.csv",
            help="Print these numbers beside the study's, in the terminal and in the report: "
            "another study's table.csv, or any CSV file with the columns structure, std, method "
            "and mean. With --preset paper on the paper's structures: its Table 1.",
        ),
    ] = None,
    executor: Annotated[
        Execution,
        typer.Option(
            help="local: this machine. ray: a Ray cluster; OUT has to be on storage that "
            "all its machines share, with the same path, and marginseg installed on each."
        ),
    ] = Execution.local,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of the Ray cluster: auto, or ray://HEAD:10001; without it: RAY_ADDRESS, or "
            "this machine alone.",
        ),
    ] = None,
    gpu_share: Annotated[
        float | None,
        typer.Option(
            metavar="G",
            help="Part of a GPU for each run, with --executor ray; 0: a CPU. Default: 0.25 where "
            "there are GPUs.",
        ),
    ] = None,
    status: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Show how far the study in DIR is, and end. Needs no other option.",
        ),
    ] = None,
) -> None:
    """Train with cross-entropy and soft-Dice under rising label noise; report what it does to Dice.

    For every structure, noise level, fold and loss a U-Net is trained on noisy labels; its maps are
    cut at 1/2 and at t*. Prints the table, and writes OUT/report.html (opens from disk) with
    table.csv and the figures.

    A study that was stopped, or killed, goes on where it was when the same command is given again.
    `marginseg study --status study` shows how far it is.

    `marginseg study -o study` runs on phantoms; on real data:

    `marginseg study --data decathlon --dir Task04_Hippocampus --std 0 0.03 0.06 --folds 2
    --features 8-16-32-64 --patch 32x48x32 -o hippocampus`

    Exit status: 0; 1 if a run failed (the report is written all the same); 2 for bad input; 130
    after Ctrl-C.
    """
    if status is not None:
        _check_alone(context)
        show_status(status)
        return
    if output is None:
        raise ValueError("--output: needed, a folder to write")
    if executor is not Execution.ray:
        for name, value in (("--address", address), ("--gpu-share", gpu_share)):
            if value is not None:
                raise ValueError(f"{name}: needs --executor ray")
    settings = {
        "data": data.value,
        "directory": directory,
        "structures": structure,
        "std": std,
        "length_scale": length_scale,
        "folds": folds,
        "repeats": repeats,
        "features": integers("--features", features, "-"),
        "patch_shape": integers("--patch", patch, "x"),
        "spacing": numbers("--spacing", spacing, "x"),
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
        "max_cases": max_cases,
        "largest_cut": largest_cut,
        "device": device.value,
        "precision": precision.value,
        "workers": workers,
    }
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"--output: expected a folder, {output} is a file")
    check(data, directory, settings)
    if compare is not None:
        from marginseg.report.comparison import read_comparison

        read_comparison(compare)  # what is wrong with it shows before hours of training

    config = configured(preset, settings)
    asked = compare is not None
    if compare is None and preset is Preset.paper:
        from marginseg.report.comparison import published_table

        compare = published_table(config.data, config.structures, config.std)

    from marginseg.report import rich_table, write_report
    from marginseg.study.folder import StudyFolder
    from marginseg.study.grid import run_study

    with _progress() as progress:
        result = run_study(
            config,
            output,
            progress=progress,
            cache_dir=cache,
            executor=_executor(config, executor, address, gpu_share),
        )
    with _writing_the_report():
        page = write_report(output, compare=compare)
    show(rich_table(output))
    if compare is not None:
        _show_comparison(output, compare, asked=asked)
    for structure_name, name, reason in result.skipped[:SKIPPED_SHOWN]:
        typer.echo(printable(f"skipped: {structure_name}: {name}: {reason}"))
    if len(result.skipped) > SKIPPED_SHOWN:
        more = len(result.skipped) - SKIPPED_SHOWN
        typer.echo(f"skipped: {more} more, see {StudyFolder(output).skipped_file}")
    for failed in result.failed:
        log = f" ({failed.log})" if failed.log else ""
        typer.echo(printable(f"marginseg: run {failed.run} failed: {failed.error}{log}"), err=True)
    typer.echo(str(page))
    if result.failed:
        raise typer.Exit(1)


def _show_comparison(output: Path, compare: Path, *, asked: bool) -> None:
    """Print the means that both tables have; who asked for them is told where there are none."""
    from marginseg.report.terminal import comparison_table

    table = comparison_table(output, compare)
    if table.row_count:
        typer.echo()
        show(table)
    elif asked:
        typer.echo(
            f"marginseg: --compare: no row of {compare} has a structure, std and method of this "
            "study, with Dice against the noisy label",
            err=True,
        )


@contextmanager
def _writing_the_report() -> Iterator[None]:
    """Say what takes these seconds, on stderr."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        typer.echo("writing the report", err=True)
        yield
        return
    spinner = "dots" if console.encoding.startswith("utf") else "line"
    with console.status("writing the report", spinner=spinner):
        yield


def _executor(
    config: StudyConfig, executor: Execution, address: str | None, gpu_share: float | None
) -> Executor:
    from marginseg.study.executors import RayExecutor, local_executor

    if executor is Execution.ray:
        return RayExecutor(address, gpu_share=gpu_share, workers=config.workers)
    return local_executor(config)


def _check_alone(context: typer.Context) -> None:
    """Refuse options beside --status."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name != "status" and source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"--status: goes with no other option, got {parameter.opts[0]}")


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
                typer.echo(printable(f"{line} {event.error}".rstrip()), err=True)

        yield report
        return

    def shown(name: str) -> str:
        return shortened(printable(name), NAME_SHOWN)

    columns = (BarColumn(24), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(TextColumn("{task.description}", markup=False), *columns, console=console) as bar:
        task = bar.add_task("preparing", total=None)

        def update(event: Progress) -> None:
            if event.kind == "preparing":
                bar.update(
                    task,
                    completed=event.cases,
                    total=event.wanted or None,
                    description=f"preparing {shown(event.structure)} "
                    f"{event.cases}/{event.wanted or '?'}",
                )
                return
            what = shown(event.structure if event.run is None else event.run.id)
            bar.update(
                task,
                completed=event.work,
                total=event.total_work,
                description=f"{event.done}/{event.total} trainings, {event.kind} {what}".rstrip(),
            )

        yield update
