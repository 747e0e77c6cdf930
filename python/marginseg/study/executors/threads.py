"""Several runs at a time on one GPU: threads of this process, each with a stream of its own.

Processes would take turns on a GPU; the kernels of streams can run side by side, and a U-Net's step
of batch 1 leaves room for others. ``python -m bench.training`` measures how much.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from typing import Any, Self

import torch

from marginseg.study.run import perform
from marginseg.study.task import Outcome, Task

#: How many runs there are at the same time, where nothing is said. More threads wait for each other
#: in the interpreter, small networks' the most.
WORKERS = 4


class ThreadExecutor:
    """Executes runs in threads of this process, side by side on the current GPU.

    Without a GPU they share the CPU, which helps nobody but tests.

    Args:
        workers: Runs at the same time; None: 4.

    Raises:
        ValueError: ``workers`` is below 1.

    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers: expected at least 1, got {workers}")
        self.workers = WORKERS if workers is None else workers

    def __enter__(self) -> Self:
        """Nothing has to be got ready."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held between two calls."""

    def facts(self, runs: int) -> dict[str, Any]:
        """Return what ``environment.json`` says of it, for a study of so many runs."""
        workers = min(self.workers, max(1, runs))
        return {"executor": "threads", "workers": workers, "threads": torch.get_num_threads()}

    def __call__(
        self,
        tasks: Sequence[Task],
        report: Callable[[Outcome], None],
        *,
        runs: int | None = None,
    ) -> None:
        """Execute tasks; see :class:`marginseg.study.task.Executor`."""
        waiting = deque(tasks)
        outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        stop = threading.Event()

        def tell(outcome: Outcome) -> None:
            if stop.is_set():
                raise _StoppedError
            outcomes.put(outcome)

        def work() -> None:
            try:
                with _own_stream():
                    while not stop.is_set():
                        perform(waiting.popleft(), tell)
            except (IndexError, _StoppedError):
                pass  # nothing is left to do, or nobody wants it any more
            finally:
                outcomes.put(None)

        crew = [threading.Thread(target=work) for _ in range(min(self.workers, len(tasks)))]
        for thread in crew:
            thread.start()
        try:
            ended = 0
            while ended < len(crew):
                outcome = outcomes.get()
                if outcome is None:
                    ended += 1
                else:
                    report(outcome)
        finally:
            # Each thread stops when the epoch that it is in is done and in its checkpoint.
            stop.set()
            for thread in crew:
                thread.join()


class _StoppedError(Exception):
    """The study has been told to stop."""


def _own_stream() -> AbstractContextManager[Any]:
    if not torch.cuda.is_available():
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream())
