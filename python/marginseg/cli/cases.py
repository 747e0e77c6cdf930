"""What the commands that prepare cases show: how far they are, and which cases were left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from marginseg.files.names import printable, shortened

if TYPE_CHECKING:
    from marginseg.data import CaseProgress

#: Cases named for each reason why they were left out.
NAMED = 3


def report_cases(
    structure: str, count: int, skipped: list[tuple[str, str]], wanted: int | None
) -> None:
    """Say how many cases there are, and how many are left out, by reason."""
    from marginseg.data import by_reason

    fewer = f" ({wanted} wanted)" if wanted is not None and count < wanted else ""
    left_out = f", {len(skipped)} left out" if skipped else ""
    cases_are = "case is" if count == 1 else "cases are"
    typer.echo(f"{printable(structure)}: {count} {cases_are} usable{fewer}{left_out}")
    for what, cases in by_reason(skipped).items():
        if len(cases) == 1:
            shown = ": ".join(cases[0])
        else:
            shown = ", ".join(name for name, _ in cases[:NAMED])
            shown += ", ..." if len(cases) > NAMED else ""
        typer.echo(printable(f"  {len(cases)} x {what} ({shown})"))


@contextmanager
def preparing(structure: str, doing: str = "preparing") -> Iterator[CaseProgress | None]:
    """Show how far the preparation is, in a terminal; elsewhere the result is enough.

    Args:
        structure: Whose cases are prepared.
        doing: What is done with them, if it is something else.

    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    name = shortened(printable(structure), 40)
    columns = (BarColumn(24), TimeElapsedColumn(), TextColumn("{task.fields[seen]}"))
    with Progress(
        TextColumn("{task.description}", markup=False), *columns, console=console, transient=True
    ) as bar:
        task = bar.add_task(f"{doing} {name}", total=None, seen="")

        def show(seen: int, usable: int, wanted: int) -> None:
            bar.update(
                task,
                completed=usable,
                total=wanted,
                description=f"{doing} {name} {usable}/{wanted}",
                seen=f"{seen} looked at",
            )

        yield show
