"""``python -m bench.machine_code``: count what the kernels' machine code does, without a GPU."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import torch

from bench.case import Size
from bench.machine_code.counting import Counter
from bench.machine_code.listing import Code, MissingToolError
from bench.machine_code.recording import module_path
from bench.machine_code.table import kernel_line, markdown, op_line, write
from bench.machine_code.warps import UnsupportedError

README = Path(__file__).parents[1] / "README.md"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m bench.machine_code",
        description="Execute the sm_90 machine code of some blocks of each kernel on the CPU, "
        "count its instructions and bytes, and estimate times on an H100 and an H200.",
    )
    parser.add_argument("--sizes", default="32x128,256x64,64", help="batches of cubes")
    parser.add_argument("--only", default="", help="ops or settings whose names contain this")
    parser.add_argument(
        "--cubin", type=Path, action="append", help="take machine code from here instead"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into bench/README.md")
    return parser


def main() -> None:
    options = _parser().parse_args()
    torch.set_default_device("cpu")
    try:
        counter = Counter(Code(options.cubin or [module_path("_cuda")]))
        ops = []
        for size in (Size.parse(text) for text in options.sizes.split(",")):
            for op in counter.ops(size, options.only):
                print(*(kernel_line(op, launch) for launch in op.launches), sep="\n")
                print(op_line(op), flush=True)
                ops.append(op)
    except (MissingToolError, UnsupportedError) as error:
        raise SystemExit(str(error)) from error
    tables = markdown(ops)
    if options.write:
        write(tables, README)
    else:
        print(f"\n{tables}")


if __name__ == "__main__":
    main()
