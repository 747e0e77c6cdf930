"""``python -m bench.gpu``: time the CUDA kernels, and keep what was seen.

Needs nothing but torch and NumPy: a machine with a GPU is often one where nothing can be installed.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import torch

from bench import record
from bench.case import Size
from bench.gpu import comparison, results
from bench.gpu.machine import copy_bandwidth, description


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m bench.gpu",
        description="Time marginseg on a GPU beside other packages, and write JSON and a table.",
    )
    parser.add_argument("--sizes", default="256x64,32x128", help="batches of cubes")
    parser.add_argument("--seconds", type=float, default=0.5, help="time budget of a call")
    parser.add_argument(
        "--rehearse", action="store_true", help="run it all on the CPU, tiny; write nothing"
    )
    parser.add_argument("--markdown", action="store_true", help="only make the tables again")
    parser.add_argument("--output", type=Path, default=record.FOLDER, help="folder of results")
    return parser


def main() -> None:
    options = _parser().parse_args()
    if options.markdown:
        results.present(options.output)
        return
    if options.rehearse:
        torch.set_default_device("cpu")
        rows = list(comparison.rows([Size(16, 2)], Size(16), bandwidth=1e10, seconds=0.01))
        print(results.table(rows))
        return
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here: nothing can be measured")
    torch.set_default_device("cuda")
    bandwidth = copy_bandwidth()
    machine = description(bandwidth)
    cubes = [Size.parse(size) for size in options.sizes.split(",")]
    rows = []
    for row in comparison.rows(cubes, Size(64), bandwidth=bandwidth, seconds=options.seconds):
        rows.append(row)
        print(results.line(row), flush=True)
        # Whoever stops it keeps what was measured.
        results.write(options.output, machine, rows)
    results.present(options.output)


if __name__ == "__main__":
    main()
