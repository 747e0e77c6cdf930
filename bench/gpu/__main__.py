"""``python -m bench.gpu``: time the CUDA kernels, and keep what was seen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer

from bench import record
from bench.case import Size
from bench.gpu import comparison, results
from bench.gpu.machine import copy_bandwidth, description


def main(
    sizes: Annotated[str, typer.Option(help="Batches of cubes.")] = "256x64,32x128",
    seconds: Annotated[float, typer.Option(help="Time budget of a call.")] = 0.5,
    rehearse: Annotated[
        bool, typer.Option(help="Run it all on the CPU, tiny; write nothing.")
    ] = False,
    markdown: Annotated[bool, typer.Option(help="Only print the stored results.")] = False,
    output: Annotated[Path, typer.Option(help="Folder of results.")] = record.FOLDER,
) -> None:
    """Time marginseg on a GPU beside other packages, and write JSON and a table."""
    if markdown:
        print(results.markdown(output))
        return
    if rehearse:
        torch.set_default_device("cpu")
        rows = list(comparison.rows([Size(16, 2)], Size(16), bandwidth=1e10, seconds=0.01))
        print(results.table(rows))
        return
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here: nothing can be measured")
    torch.set_default_device("cuda")
    bandwidth = copy_bandwidth()
    machine = description(bandwidth)
    cubes = [Size.parse(size) for size in sizes.split(",")]
    rows = []
    for row in comparison.rows(cubes, Size(64), bandwidth=bandwidth, seconds=seconds):
        rows.append(row)
        print(results.line(row), flush=True)
    path = results.write(output, machine, rows)
    print(results.markdown(output))
    if out := os.environ.get("OUT"):
        shutil.copy(path, out)


if __name__ == "__main__":
    typer.run(main)
