"""The commands that need no data: figure1 and info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marginseg.files.atomic import refuse_circle
from marginseg.files.pictures import format_of


def figure1(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Picture to write: .png, .pdf or .svg."
        ),
    ],
) -> None:
    """Draw the paper's Figure 1: shapes under rising noise.

    Samples, the marginal, and the segmentations that are optimal for accuracy (cut at 1/2) and for
    Dice (cut at t*).
    """
    format_of(output)
    refuse_circle(output)
    if output.is_dir():
        raise IsADirectoryError(f"{output}: expected a file to write, got a folder")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: expected an existing folder for {output.name}")

    from marginseg.report.figures.figure1 import figure1 as draw

    draw(output)
    typer.echo(str(output))


def info() -> None:
    """Show the version, the instruction set in use, CUDA, torch, its threads, and the devices."""
    import importlib.util
    import platform
    from importlib.metadata import version

    import torch

    from marginseg import _cpu

    devices = [f"cpu ({platform.machine()})"]
    devices += [
        f"cuda:{index} ({torch.cuda.get_device_name(index)})"
        for index in range(torch.cuda.device_count())
    ]
    cuda_built = importlib.util.find_spec("marginseg._cuda") is not None
    rows = {
        "marginseg": version("marginseg"),
        "instruction set": _cpu.instruction_set(),
        "CUDA kernels": "built" if cuda_built else "not built",
        "torch": torch.__version__,
        "torch CUDA": torch.version.cuda or "no",
        "threads": str(torch.get_num_threads()),
        "Python": platform.python_version(),
        "devices": ", ".join(devices),
    }
    for name, value in rows.items():
        typer.echo(f"{name:<16} {value}")
