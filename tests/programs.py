"""Small programs of machine code, written by hand, for the tests of what executes it."""

from __future__ import annotations

from bench.machine_code.execution import Launch, Program
from bench.machine_code.listing import Kernel, instruction


def assemble(*lines, shared=1024):
    code = tuple(instruction(16 * i, line, 0) for i, line in enumerate(lines))
    return Kernel("by_hand", code, registers=16, shared=shared)


def run(kernel, threads=32, parameters=b"", blocks=(0,)):
    return Program(kernel).run(Launch(kernel.name, 1, threads, parameters), blocks)
