"""Times of two calls that take turns, so that both meet the same machine."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import NamedTuple

from bench.case import Call

LEAST, MOST = 3, 200

#: A turn lasts at least so long, or this many calls: a single call of microseconds would pay for
#: the caches and the sleeping threads that the other left behind.
TURN_SECONDS, TURN_CALLS = 10e-3, 100


class Timing(NamedTuple):
    """Seconds of one call.

    Attributes:
        median: Over the turns, of the median call of each.
        lower_quartile: Likewise.
        upper_quartile: Likewise.
        repetitions: Turns, or rounds.
        first: The median of the first call of each turn, right after the other's.

    """

    median: float
    lower_quartile: float
    upper_quartile: float
    repetitions: int
    first: float | None = None


def duration(seconds: float) -> str:
    """Return a time with three digits and a unit.

    Example:
        >>> duration(0.00123)
        '1.23 ms'

    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1e3 else f"{seconds:.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


def seconds_of(call: Call) -> float:
    """Time one call; what it returns is freed outside the clock."""
    start = perf_counter()
    result = call()
    elapsed = perf_counter() - start
    del result
    return elapsed


def summary(times: list[float], first: float | None = None) -> Timing:
    # Python 3.11 and 3.12 know no quartiles of one number.
    known = times * 2 if len(times) == 1 else times
    lower, middle, upper = statistics.quantiles(known, n=4, method="inclusive")
    return Timing(middle, lower, upper, len(times), first)


def turn(call: Call) -> list[float]:
    times = [seconds_of(call)]
    while sum(times) < TURN_SECONDS and len(times) < TURN_CALLS:
        times.append(seconds_of(call))
    return times


def alternate(ours: Call, peer: Call, seconds: float, *, warm: bool) -> tuple[Timing, Timing]:
    """Let ours, the peer, ours, the peer … take turns for about ``seconds``, thrice at least.

    Args:
        ours: The one call.
        peer: The other.
        seconds: Time budget.
        warm: Call the peer once beforehand. Ours is always warmed up.

    """
    seconds_of(ours)
    if warm:
        seconds_of(peer)
    turns: tuple[list[list[float]], list[list[float]]] = ([], [])
    start = perf_counter()
    while len(turns[1]) < LEAST or (len(turns[1]) < MOST and perf_counter() - start < seconds):
        turns[0].append(turn(ours))
        turns[1].append(turn(peer))
    first, second = (
        summary([statistics.median(times) for times in side], statistics.median(t[0] for t in side))
        for side in turns
    )
    return first, second


def steady(call: Call, seconds: float) -> Timing:
    """Time one call on its own."""
    seconds_of(call)
    times: list[float] = []
    start = perf_counter()
    while len(times) < LEAST or (len(times) < MOST and perf_counter() - start < seconds):
        times.append(seconds_of(call))
    return summary(times)


def per_call(call: Call, calls: int = 200, rounds: int = 9) -> Timing:
    """Time a call of microseconds: the clock is read once in ``calls`` calls."""
    for _ in range(calls):
        call()
    times = []
    for _ in range(rounds):
        start = perf_counter()
        for _ in range(calls):
            call()
        times.append((perf_counter() - start) / calls)
    return summary(times)
