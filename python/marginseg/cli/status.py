"""What `marginseg study --status` shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marginseg.cli.tables import show, table
from marginseg.files.names import printable

if TYPE_CHECKING:
    from rich.table import Table

    from marginseg.study.status import RunStatus, StudyStatus

#: Runs that are shown one by one, of those that run or have failed.
SHOWN = 20


def show_status(folder: Path) -> None:
    """Print how far a study is: in all, by structure and noise level, and each run under way."""
    from marginseg.study.status import study_status

    status = study_status(folder)
    for line in _summary(status):
        typer.echo(line)
    if status.preparing:
        return
    typer.echo()
    show(_groups(status))
    running = [run for run in status.runs if run.state == "running"]
    if running:
        typer.echo()
        show(_running(running[:SHOWN], status.config.epochs))
        _more(len(running))
    failed = [run for run in status.runs if run.state == "failed"]
    if failed:
        typer.echo("\nfailed; the study's command tries them again")
        for run in failed[:SHOWN]:
            typer.echo(printable(f" {run.run.id}: {run.error}"))
            if run.log is not None:
                typer.echo(f"   {run.log}")
        _more(len(failed))


def _more(number: int) -> None:
    if number > SHOWN:
        typer.echo(f" and {number - SHOWN} more")


def _summary(status: StudyStatus) -> Iterator[str]:
    counts = [(status.count(state), state) for state in ("done", "running", "waiting", "failed")]
    yield f"{len(status.runs)} runs: " + ", ".join(f"{number} {state}" for number, state in counts)
    epochs = sum(run.epochs for run in status.runs)
    yield (
        f"epochs: {epochs} of {status.config.epochs * len(status.runs)}, "
        f"{duration(status.seconds)} of computation"
    )
    unfinished = status.count("running") + status.count("waiting")
    workers = f"{status.workers} worker{'s' if status.workers > 1 else ''}"
    if not unfinished:
        left = (
            "nothing is left to do" if not status.count("failed") else "only failed runs are left"
        )
    elif status.seconds_left is None:
        left = "time left: not known before the first epoch"
    else:
        left = f"time left: about {duration(status.seconds_left)} with {workers}"
    if status.working:
        now = "preparing the cases" if status.preparing else "a process is working there now"
    elif unfinished:
        now = "no process is working there now; the study's command goes on"
    else:
        now = "no process is working there now"
    yield left
    yield now


def _groups(status: StudyStatus) -> Table:
    columns = ("structure", "std", "done", "running", "waiting", "failed", "epochs")
    found = table(*columns, left=["structure"])
    groups: dict[tuple[str, float], list[RunStatus]] = {}
    for run in status.runs:
        groups.setdefault((run.run.structure, run.run.std), []).append(run)
    for (structure, std), runs in groups.items():
        states = [run.state for run in runs]
        done = f"{states.count('done')}/{len(runs)}"
        others = [str(states.count(s) or "–") for s in ("running", "waiting", "failed")]
        share = sum(run.epochs for run in runs) / (status.config.epochs * len(runs))
        # Only what is done is 100 %.
        found.add_row(printable(structure), f"{std:g}", done, *others, f"{int(100 * share)} %")
    return found


def _running(runs: list[RunStatus], epochs: int) -> Table:
    found = table("running", "epoch", "loss", "s/epoch", "left", left=["running"])
    for run in runs:
        cells = [f"{run.epochs}/{epochs}", "–", "–", "–"]
        if run.loss is not None and run.epoch_seconds is not None:
            left = duration((epochs - run.epochs) * run.epoch_seconds)
            cells[1:] = [f"{run.loss:.4f}", f"{run.epoch_seconds:.2g}", left]
        found.add_row(run.run.id, *cells)
    return found


def duration(seconds: float) -> str:
    """Say a time in two units: ``1 h 05 min``.

    Example:
        >>> duration(3.2), duration(3900), duration(200_000)
        ('3 s', '1 h 05 min', '2 d 07 h')

    """
    whole = round(seconds)
    for size, unit, smaller, name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller:02d} {name}"
    return f"{whole} s"
