"""The estimates as people read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.gpu.cases import SINGLE_SECONDS
from bench.machine_code.counting import OpCost, name_of
from bench.machine_code.estimate import CARDS, Card, KernelCost
from bench.machine_code.listing import without_anonymous
from bench.machine_code.warps import WARP

_NAMES = " / ".join(card.name for card in CARDS)
OPS = f"| op | size | estimate, µs, {_NAMES} | over bytes, {_NAMES} | target |"
KERNELS = (
    "| op | size | kernel | blocks | instructions | registers | shared, KB | occupancy | bytes "
    f"| bytes, µs, {_NAMES} | issue, µs | busiest pipe, µs |"
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


def _of_cards(seconds: Callable[[Card], float], scale: float = 1e6) -> str:
    return " / ".join(f"{seconds(card) * scale:.1f}" for card in CARDS)


def kernel_line(op: OpCost, cost: KernelCost) -> str:
    """Return a line about a launch: counts a voxel, and times at full speed."""
    execution = cost.execution
    # The cards differ in their memory alone.
    card = CARDS[0]
    pipe, name = cost.pipe_seconds(card)
    cells = (
        name_of(op.case),
        op.size.name,
        f"`{short_name(execution.kernel.name)}`",
        f"{cost.blocks} × {execution.launch.threads}",
        f"{cost.instructions * WARP / op.voxels:.0f}",
        str(execution.kernel.registers),
        f"{execution.kernel.shared / 1024:.1f}",
        f"{cost.occupancy:.0%}",
        f"{cost.bytes / op.voxels:.1f}",
        _of_cards(lambda card: op.byte_seconds(cost, card)),
        f"{cost.issue_seconds(card) * 1e6:.1f}",
        f"{pipe * 1e6:.1f} ({name})",
    )
    return _row(cells)


def op_line(op: OpCost) -> str:
    """Return a line about a call."""
    yardstick = op.yardstick
    if op.single:
        target = f"{SINGLE_SECONDS * 1e6:.0f} µs"
    else:
        target = f"{yardstick.longer:g} × {yardstick.name}" if yardstick else ""
    over = _of_cards(lambda card: op.seconds(card) * card.bandwidth / op.moved_bytes, 1.0)
    return _row((name_of(op.case), op.size.name, _of_cards(op.seconds), over, target))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ruled(header: str) -> list[str]:
    return [header, "|---" * (header.count("|") - 1) + "|"]


def markdown(ops: Iterable[OpCost]) -> str:
    """Return a table of all calls, and one of the kernels at the first of the sizes."""
    ops = list(ops)
    lines = [*_ruled(OPS), *(op_line(op) for op in ops), "", *_ruled(KERNELS)]
    of_first = [op for op in ops if op.size == ops[0].size]
    lines += [kernel_line(op, launch) for op in of_first for launch in op.launches]
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
