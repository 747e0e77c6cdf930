"""Times of work on a device: by its events, or by the wall clock where there is no GPU."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from time import perf_counter

import torch

from bench.case import Call
from bench.timing import Timing, summary

LEAST, MOST = 5, 100

#: Clock cycles for which the device is kept busy before a timed call, so that the host, which must
#: launch the call's kernels one by one, is ahead of it.
HEAD_START = 1_000_000

#: Calls in one graph, and replays of it.
CAPTURED, REPLAYS = 20, 20


def by_events(calls: Sequence[Call], seconds: float) -> Timing:
    """Time calls that take turns; each finds the inputs that it reads gone from the caches."""
    for call in (*calls, *calls):
        call()
    torch.cuda.synchronize()
    times: list[float] = []
    start = perf_counter()
    while len(times) < LEAST or (len(times) < MOST and perf_counter() - start < seconds):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        torch.cuda._sleep(HEAD_START)
        events[0].record()
        result = calls[len(times) % len(calls)]()
        events[1].record()
        torch.cuda.synchronize()
        times.append(events[0].elapsed_time(events[1]) * 1e-3)
        del result
    return summary(times)


def by_wall(calls: Sequence[Call], seconds: float) -> Timing:
    """Time calls on the CPU, for a rehearsal."""
    times: list[float] = []
    start = perf_counter()
    while len(times) < LEAST or (len(times) < MOST and perf_counter() - start < seconds):
        before = perf_counter()
        calls[len(times) % len(calls)]()
        times.append(perf_counter() - before)
    return summary(times)


def in_graph(call: Call) -> Timing:
    """Time one call within a captured graph, where no launch waits for the host."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    gc.collect()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CAPTURED):
            call()
    graph.replay()
    times = []
    for _ in range(REPLAYS):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        graph.replay()
        events[1].record()
        torch.cuda.synchronize()
        times.append(events[0].elapsed_time(events[1]) * 1e-3 / CAPTURED)
    return summary(times)
