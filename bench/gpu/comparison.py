"""Times each case and what it is held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from bench.case import Call, Size
from bench.gpu.cases import SETS, SINGLE_SECONDS, DeviceCase, Rival, batches, singles
from bench.gpu.clock import by_events, by_wall, in_graph
from bench.timing import Timing

#: The yardstick that is a number, not a call.
BYTES = "moving its bytes"

#: What a check begins with that says why there is no comparison.
LEFT_OUT = "left out: "


@dataclass
class DeviceRow:
    """A case and one rival; no times where ``left_out`` says why.

    ``ratio`` is the rival's time over ours. ``target`` says what is wanted of it.
    """

    op: str
    setting: str
    size: str
    rival: str
    check: str = ""
    ours: Timing | None = None
    theirs: Timing | None = None
    ratio: float | None = None
    over_bytes: float | None = None
    target: str = ""
    met: bool | None = None
    left_out: str = ""


def rows(
    sizes: list[Size], single: Size, *, bandwidth: float, seconds: float
) -> Iterator[DeviceRow]:
    """Yield all rows: the batches, then one cube in a graph.

    Nothing that a peer or one of our ops raises ends the run: its row says what it was.
    """
    small = Size(24, 2)
    checks = {
        (case.op, case.setting, rival.name): _check(case, rival)
        for case in batches(small)
        for rival in case.rivals
    }
    for size in sizes:
        for case in batches(size):
            yield from _of_case(case, checks, bandwidth, seconds)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    for name, call in singles(single).items():
        yield _of_single(name, call, single)


def _timed(calls: list[Call], seconds: float) -> Timing:
    on_gpu = torch.get_default_device().type == "cuda"
    return by_events(calls, seconds) if on_gpu else by_wall(calls, seconds)


def _check(case: DeviceCase, rival: Rival) -> str:
    """Compare the results, at a small size; say why the rival is left out if it fails."""
    try:
        return rival.check(case.ours(0)(), rival.prepare(0)())
    except Exception as error:  # what a peer may raise is not ours to know
        return LEFT_OUT + _reason(error)


def _reason(error: Exception) -> str:
    """Return the first line of what an exception says; its type where it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__


def _of_case(
    case: DeviceCase, checks: dict[Any, str], bandwidth: float, seconds: float
) -> Iterator[DeviceRow]:
    head = (case.op, case.setting, case.size)
    try:
        ours = _timed([case.ours(i) for i in range(SETS)], seconds)
    except Exception as error:
        yield DeviceRow(*head, "", left_out=_reason(error))
        return
    over_bytes = ours.median * bandwidth / case.moved_bytes
    if not case.rivals:
        yield DeviceRow(*head, "", ours=ours, over_bytes=over_bytes)
    for rival in case.rivals:
        row = DeviceRow(*head, rival.name, ours=ours, over_bytes=over_bytes)
        check = checks[case.op, case.setting, rival.name]
        if check.startswith(LEFT_OUT):
            row.left_out = check.removeprefix(LEFT_OUT)
            yield row
            continue
        row.check = check
        try:
            theirs = _rival_seconds(row, case, rival, bandwidth, seconds)
        except Exception as error:
            row.left_out = _reason(error)
            yield row
            continue
        row.ratio = theirs / ours.median
        if rival.faster is not None:
            row.target = f"at least {rival.faster:g} × as fast"
            row.met = row.ratio >= rival.faster
        if rival.longer is not None:
            row.target = f"at most {rival.longer:g} × as long"
            row.met = 1.0 / row.ratio <= rival.longer
        yield row


def _rival_seconds(
    row: DeviceRow, case: DeviceCase, rival: Rival, bandwidth: float, seconds: float
) -> float:
    if rival.name == BYTES:
        return case.moved_bytes / bandwidth
    row.theirs = _timed([rival.prepare(i) for i in range(SETS)], seconds)
    return row.theirs.median


def _of_single(name: str, call: Call, size: Size) -> DeviceRow:
    row = DeviceRow(name, "one volume, graph replay", size.name, "")
    row.target = f"at most {SINGLE_SECONDS * 1e6:g} µs"
    try:
        on_gpu = torch.get_default_device().type == "cuda"
        row.ours = in_graph(call) if on_gpu else by_wall([call], 0.01)
        row.met = row.ours.median <= SINGLE_SECONDS
    except Exception as error:
        row.left_out = _reason(error)
    return row
