"""``python -m bench``: time marginseg beside other packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import (
    chart,
    dice_threshold,
    gaussian_filter,
    marginals,
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

COMPARED = {
    "sample": sample.cases,
    "marginals": marginals.cases,
    "gaussian_filter": gaussian_filter.cases,
    "dice_threshold": dice_threshold.cases,
    "warp": warp.cases,
}
NAMES = (*COMPARED, "overhead", "memory", "scaling")


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
    markdown: Annotated[bool, typer.Option(help="Only print the stored results.")] = False,
    output: Annotated[Path, typer.Option(help="Folder of results.")] = record.FOLDER,
) -> None:
    """Time marginseg beside other packages, and write tables, JSON and charts."""
    if markdown:
        print(table.markdown(record.read(output)))
        return
    chosen = ["scaling"] if only_scaling else [n for n in only.split(",") if n] or list(NAMES)
    unknown = sorted(set(chosen) - set(NAMES))
    if unknown:
        raise typer.BadParameter(f"unknown {', '.join(unknown)}; there are {', '.join(NAMES)}")
    counts = [int(count) for count in threads.split(",")]
    cubes = [Size.parse(size) for size in sizes.split(",")]
    # A log file has no width of its own.
    console = Console() if sys.stdout.isatty() else Console(width=132)
    machine = description(counts)
    for name in chosen:
        with console.status(name) as status:
            if name in COMPARED:
                comparison = Comparison(COMPARED[name], seconds=seconds, limit=limit)
                rows: list[Any] = []
                for row in comparison.rows(cubes, counts):
                    rows.append(row)
                    status.update(_progress(row))
            else:
                use_threads(max(counts))
                rows = list(
                    overhead.measure()
                    if name == "overhead"
                    else memory.measure()
                    if name == "memory"
                    else scaling.measure(max(counts), seconds)
                )
        table.show(name, record.plain(rows), console)
        everything = record.write(output, machine, name, rows)
        chart.ratios(everything, output / "cpu.png")
        chart.scaling(everything, output / "scaling.png")
    console.print(f"results: {output}")


def _progress(row: Row) -> str:
    return f"{row.op}, {row.setting}, {row.size}, {row.threads} threads: {row.peer}"


if __name__ == "__main__":
    typer.run(main)
