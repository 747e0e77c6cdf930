"""The estimates as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bench.gpu.cases import SINGLE_SECONDS
from bench.machine_code.counting import OpCost
from bench.machine_code.estimate import CARDS, Card, KernelCost
from bench.machine_code.listing import without_anonymous

KERNELS = (
    "| op | size | kernel | blocks | instructions a voxel | registers | shared, KB | occupancy | "
    "bytes a voxel | issue, µs | busiest pipe, µs | bound by |"
)
OPS = (
    "| op | size | "
    + " | ".join(f"{card.name}, µs" for card in CARDS)
    + (" | over bytes, " + " / ".join(card.name for card in CARDS) + " | target |")
)


_TYPES = {
    "f": "float",
    "d": "double",
    "h": "uint8",
    "s": "int16",
    "i": "int",
    "l": "int64",
    "6__half": "half",
    "13__nv_bfloat16": "bfloat16",
}
_ARGUMENT = re.compile(rf"L[bijlm](\d+)E|({'|'.join(_TYPES)})")


def short_name(mangled: str) -> str:
    """Return a kernel's name without namespaces, and its plain template arguments."""
    rest, name = without_anonymous(mangled).removeprefix("_ZN"), mangled
    while found := re.match(r"\d+", rest):
        end = found.end() + int(found[0])
        name, rest = rest[found.end() : end], rest[end:]
    if not rest.startswith("I"):
        return name
    arguments, rest = [], rest[1:]
    while argument := _ARGUMENT.match(rest):
        arguments.append(argument[1] or _TYPES[argument[2]])
        rest = rest[argument.end() :]
    return f"{name}<{', '.join(arguments)}>"


def kernel_line(op: OpCost, cost: KernelCost, card: Card = CARDS[0]) -> str:
    """Return a line about a launch."""
    execution = cost.execution
    pipe, name = cost.pipe_seconds(card)
    return (
        f"| {op.case.op}, {op.case.setting} | {op.size.name} "
        f"| `{short_name(execution.kernel.name)}` | {cost.blocks} × {execution.launch.threads} "
        f"| {cost.instructions * 32 / op.voxels:.0f} | {execution.kernel.registers} "
        f"| {execution.kernel.shared / 1024:.1f} | {cost.occupancy:.0%} "
        f"| {cost.bytes / op.voxels:.1f} | {cost.issue_seconds(card) * 1e6:.1f} "
        f"| {pipe * 1e6:.1f} ({name}) | {' / '.join(op.bound(cost, card) for card in CARDS)} |"
    )


def op_line(op: OpCost) -> str:
    """Return a line about a call."""
    times = [op.seconds(card) for card in CARDS]
    floors = [op.moved_bytes / card.bandwidth for card in CARDS]
    ratios = [f"{time / floor:.1f}" for time, floor in zip(times, floors, strict=True)]
    yardstick = op.yardstick
    if op.single:
        target = f"{SINGLE_SECONDS * 1e6:.0f} µs"
    else:
        target = f"{yardstick.longer:g} × {yardstick.name}" if yardstick else ""
    return (
        f"| {op.case.op}, {op.case.setting} | {op.size.name} | "
        + " | ".join(f"{time * 1e6:.1f}" for time in times)
        + f" | {' / '.join(ratios)} | {target} |"
    )


def _ruled(header: str) -> list[str]:
    return [header, "|---" * (header.count("|") - 1) + "|"]


def markdown(ops: Iterable[OpCost]) -> str:
    """Return both tables."""
    ops = list(ops)
    lines = [*_ruled(OPS), *(op_line(op) for op in ops), "", *_ruled(KERNELS)]
    lines += [kernel_line(op, launch) for op in ops for launch in op.launches]
    return "\n".join(lines) + "\n"


#: Between these lines of a document stand the tables.
BEGIN, END = "<!-- python -m bench.machine_code --write: begin -->", "<!-- end -->"


def write(tables: str, path: Path) -> None:
    """Put the tables into a document in the place of those that stand there."""
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: no lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}")
