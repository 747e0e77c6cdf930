"""``python -m bench``: time marginseg beside other packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import (
    assign_labels,
    chart,
    dice_threshold,
    folded_share,
    gaussian_field,
    gaussian_filter,
    memory,
    overhead,
    record,
    sample,
    scaling,
    table,
    warp,
)
from bench.case import Size
from bench.comparison import Comparison, Row
from bench.machine import description, use_threads
from marginseg.files.atomic import write_text

COMPARED = {
    "sample": sample.cases,
    "gaussian_field": gaussian_field.cases,
    "gaussian_filter": gaussian_filter.cases,
    "dice_threshold": dice_threshold.cases,
    "warp": warp.cases,
    "folded_share": folded_share.cases,
    "assign_labels": assign_labels.cases,
}
#: What is measured without peers, from the most threads and the time budget.
ALONE: dict[str, Callable[[int, float], Iterable[Any]]] = {
    "overhead": lambda threads, seconds: overhead.measure(),
    "memory": lambda threads, seconds: memory.measure(),
    "scaling": scaling.measure,
}
NAMES = (*COMPARED, *ALONE)


def main(
    sizes: Annotated[str, typer.Option(help="Edges of cubes; 32x64 is a batch of 32.")] = (
        "64,128,256,32x64"
    ),
    threads: Annotated[str, typer.Option(help="Thread counts.")] = "1,2",
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(NAMES)}.")] = "",
    seconds: Annotated[float, typer.Option(help="Time budget of a pair.")] = 0.3,
    limit: Annotated[float, typer.Option(help="Leave out peers whose call takes longer.")] = 10.0,
    only_scaling: Annotated[
        bool, typer.Option("--scaling", help="Only time against size.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option(help="Only make the tables and charts of the stored results again.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Folder of results.")] = record.FOLDER,
) -> None:
    """Time marginseg beside other packages, and write JSON, tables and charts."""
    # A log file has no width of its own.
    console = Console() if sys.stdout.isatty() else Console(width=132)
    if markdown:
        _present(record.read(output), output)
        console.print(f"results: {output}")
        return
    chosen = ["scaling"] if only_scaling else [n for n in only.split(",") if n] or list(NAMES)
    unknown = sorted(set(chosen) - set(NAMES))
    if unknown:
        raise typer.BadParameter(f"unknown {', '.join(unknown)}; there are {', '.join(NAMES)}")
    counts = [int(count) for count in threads.split(",")]
    cubes = [Size.parse(size) for size in sizes.split(",")]
    machine = description(counts)
    for name in chosen:
        rows: list[Any] = []
        with console.status(name) as status:
            if name in COMPARED:
                comparison = Comparison(COMPARED[name], seconds=seconds, limit=limit)
                for row in comparison.rows(cubes, counts):
                    rows.append(row)
                    status.update(_progress(row))
            else:
                use_threads(max(counts))
                rows += ALONE[name](max(counts), seconds)
        table.show(name, record.plain(rows), console)
        _present(record.write(output, machine, name, rows, NAMES), output)
    console.print(f"results: {output}")


def _progress(row: Row) -> str:
    return f"{row.op}, {row.setting}, {row.size}, {row.threads} threads: {row.peer}"


def _present(results: dict[str, Any], folder: Path) -> None:
    """Write what people read: the tables and the charts, made of the stored results alone."""
    write_text(folder / "cpu.md", table.markdown(results))
    chart.ratios(results, folder / "cpu.png")
    chart.scaling(results, folder / "scaling.png")


if __name__ == "__main__":
    typer.run(main)
