"""Pairs ours with each peer, size by size, and says what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

from bench.case import Call, Case, DifferenceError, MissingPeerError, Peer, Size
from bench.machine import BusyElsewhere, floor_seconds, use_threads
from bench.timing import Timing, alternate, seconds_of

CHECKED_EDGE = 32
"""Peers are checked against ours at this size, where the slowest is quick."""

SLOW = 1.0
"""A peer slower than this was warmed up enough by its check."""


PARTIAL = 0.2
"""Below the highest thread count, what is slow is left out so much sooner."""


TRIES = 2
"""How often a pair is timed when other processes disturb it."""


@dataclass
class Row:
    """One pair at one size and thread count; no times where ``left_out`` says why.

    ``disturbed`` is whether other processes kept more cores busy than the threads left free.
    """

    op: str
    setting: str
    size: str
    threads: int
    peer: str
    peer_setting: str
    note: str = ""
    check: str = ""
    yardstick: bool = False
    ours: Timing | None = None
    theirs: Timing | None = None
    ratio: float | None = None
    floor_seconds: float | None = None
    ours_over_floor: float | None = None
    target: float | None = None
    met: bool | None = None
    left_out: str = ""
    busy_elsewhere: float | None = None
    disturbed: bool = False


class Comparison:
    """Runs the cases of one op; remembers how long peers take, to leave out what is too slow."""

    def __init__(
        self, cases: Callable[[Size], Iterator[Case]], *, seconds: float, limit: float
    ) -> None:
        self.cases = cases
        self.seconds = seconds
        self.limit = limit
        self._checks: dict[tuple[str, str, bool], str] = {}
        self._known: dict[tuple[str, str, int], tuple[Size, float]] = {}

    def rows(self, sizes: list[Size], threads: list[int]) -> Iterator[Row]:
        for size in sizes:
            self._check_peers(size, threads)
            for case in self.cases(size):
                floors = {count: floor_seconds(case.work, count) for count in threads}
                for peer in case.peers:
                    yield from self._pair(case, peer, size, floors)

    def _check_peers(self, size: Size, threads: list[int]) -> None:
        """Compare the results of each peer with ours, at a small size of the same kind."""
        small = Size(CHECKED_EDGE, 2 if size.batch else 0)
        use_threads(max(threads))
        for case in self.cases(small):
            ours = None
            for peer in case.peers:
                key = (case.setting, peer.name, bool(size.batch))
                if key in self._checks:
                    continue
                try:
                    call = peer.prepare()
                    ours = case.ours() if ours is None else ours
                    self._checks[key] = peer.check(ours, call())
                    for count in threads:
                        use_threads(count)
                        self._remember(case, peer, count, small, seconds_of(call))
                except (MissingPeerError, DifferenceError) as error:
                    self._checks[key] = f"left out: {error}"

    def _pair(self, case: Case, peer: Peer, size: Size, floors: dict[int, float]) -> Iterator[Row]:
        check = self._checks[case.setting, peer.name, bool(size.batch)]
        call: Call | None = None
        for count, floor in floors.items():
            row = Row(case.op, case.setting, size.name, count, peer.name, peer.setting, peer.note)
            row.yardstick = peer.yardstick
            if check.startswith("left out: "):
                row.left_out = check.removeprefix("left out: ")
                yield row
                continue
            row.check = check
            forecast = self._forecast(case, peer, count, size)
            limit = self.limit if count == max(floors) else self.limit * PARTIAL
            if forecast > limit:
                row.left_out = f"a call would take about {forecast:.0f} s"
                yield row
                continue
            row.floor_seconds = floor
            use_threads(count)
            call = call or peer.prepare()
            self._time(row, case.ours, call, warm=forecast < SLOW)
            if row.theirs:
                self._remember(case, peer, count, size, row.theirs.median)
            if not size.batch and count == max(floors):
                row.target = peer.targets.get(size.edge)
                row.met = None if row.target is None else (row.ratio or 0.0) >= row.target
            yield row

    def _time(self, row: Row, ours: Call, peer: Call, *, warm: bool) -> None:
        """Fill in the times; while other processes are in the way, try again."""
        for attempt in range(TRIES):
            start = perf_counter()
            with BusyElsewhere() as busy:
                timings = alternate(ours, peer, self.seconds, warm=warm and attempt == 0)
            if row.busy_elsewhere is None or busy.cores < row.busy_elsewhere:
                row.busy_elsewhere = busy.cores
                row.ours, row.theirs = timings
                row.ratio = row.theirs.median / row.ours.median
                row.ours_over_floor = row.ours.median / (row.floor_seconds or math.nan)
                row.disturbed = busy.disturbs(row.threads)
            if not row.disturbed or perf_counter() - start > 3.0 * self.seconds:
                return

    def _remember(self, case: Case, peer: Peer, threads: int, size: Size, seconds: float) -> None:
        key = (case.setting, peer.name, threads)
        known = self._known.get(key)
        if known is None or known[0].edge <= size.edge:
            self._known[key] = size, seconds

    def _forecast(self, case: Case, peer: Peer, threads: int, size: Size) -> float:
        known, seconds = self._known[case.setting, peer.name, threads]
        growth = (size.edge / known.edge) ** peer.power
        return seconds * growth * size.cubes / known.cubes
