"""Times of two calls that take turns, so that both meet the same machine."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import NamedTuple

from bench.case import Call

LEAST, MOST = 3, 200


class Timing(NamedTuple):
    """Seconds of one call."""

    median: float
    lower_quartile: float
    upper_quartile: float
    repetitions: int


def seconds_of(call: Call) -> float:
    """Time one call; what it returns is freed outside the clock."""
    start = perf_counter()
    result = call()
    elapsed = perf_counter() - start
    del result
    return elapsed


def summary(times: list[float]) -> Timing:
    lower, middle, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Timing(middle, lower, upper, len(times))


def alternate(ours: Call, peer: Call, seconds: float, *, warm: bool) -> tuple[Timing, Timing]:
    """Call ours, peer, ours, peer … for about ``seconds``, at least three times each.

    Args:
        ours: The one call.
        peer: The other.
        seconds: Time budget.
        warm: Call the peer once beforehand. Ours is always warmed up.

    """
    seconds_of(ours)
    if warm:
        seconds_of(peer)
    ours_times: list[float] = []
    peer_times: list[float] = []
    start = perf_counter()
    while len(peer_times) < LEAST or (len(peer_times) < MOST and perf_counter() - start < seconds):
        ours_times.append(seconds_of(ours))
        peer_times.append(seconds_of(peer))
    return summary(ours_times), summary(peer_times)


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
