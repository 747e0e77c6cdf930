"""Many runs at a time, in processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

import torch

from marginseg.study.run import perform
from marginseg.study.task import Outcome, Task, failure, one_line

#: How often a run is begun at most. Its process may have been killed because memory was short, and
#: then it may succeed the next time.
ATTEMPTS = 2


class ProcessExecutor:
    """Executes runs in processes of this machine; for one worker, in this one.

    A run whose process dies is tried once more, from its checkpoint. Processes whose study was
    killed end at once, in the middle of a training too.

    Args:
        workers: Runs at the same time; None: one for each CPU.
        threads: That torch uses in each process; None: the CPUs, shared out. One worker has what
            torch is set to.

    Raises:
        ValueError: ``workers`` or ``threads`` is below 1.

    """

    def __init__(self, workers: int | None = None, threads: int | None = None) -> None:
        for name, value in (("workers", workers), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        self.workers, self.threads = workers, threads

    def __enter__(self) -> Self:
        """Nothing has to be got ready: processes start with the first tasks."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held between two calls."""

    def facts(self, runs: int) -> dict[str, Any]:
        """Return what ``environment.json`` says of it, for a study of so many runs."""
        workers, threads = self._chosen(runs)
        return {"executor": "processes", "workers": workers, "threads": threads}

    def __call__(
        self,
        tasks: Sequence[Task],
        report: Callable[[Outcome], None],
        *,
        runs: int | None = None,
    ) -> None:
        """Execute tasks; see :class:`marginseg.study.task.Executor`."""
        workers, threads = self._chosen(len(tasks) if runs is None else runs)
        if workers == 1:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                for task in tasks:
                    perform(task, report)
            finally:
                torch.set_num_threads(before)
            return
        waiting = deque(tasks)
        attempts: Counter[str] = Counter()
        crew: list[_Worker] = []
        try:
            while True:
                while waiting and len(crew) < workers:
                    crew.append(_Worker(threads))
                for worker in crew:
                    if worker.task is None and waiting:
                        task = waiting.popleft()
                        attempts[str(task.folder.path)] += 1
                        refusal = worker.give(task)
                        if refusal is not None:
                            report(refusal)
                busy = [worker for worker in crew if worker.task is not None]
                if not busy:
                    if waiting:
                        continue
                    return
                ready = multiprocessing.connection.wait([worker.connection for worker in busy])
                for worker in busy:
                    if worker.connection not in ready:
                        continue
                    under_way = worker.task
                    assert under_way is not None
                    outcome = worker.outcome()
                    if outcome is None:
                        crew.remove(worker)
                        again = attempts[str(under_way.folder.path)] < ATTEMPTS
                        outcome = _lost(under_way, worker.ending(), again=again)
                        if again:
                            waiting.appendleft(under_way)
                    report(outcome)
        finally:
            for worker in crew:
                worker.end()

    def _chosen(self, runs: int) -> tuple[int, int]:
        """Return how many processes, and how many threads each has.

        A run of batch 1 gains little from threads, so there is a process for each CPU.
        """
        cpus = len(os.sched_getaffinity(0))
        workers = max(1, min(self.workers or cpus, runs))
        shared = torch.get_num_threads() if workers == 1 else max(1, cpus // workers)
        return workers, self.threads or shared


def _lost(task: Task, ending: str, *, again: bool) -> Outcome:
    message = f"the process ended unexpectedly ({ending})"
    if again:
        return Outcome(task.run, "lost", error=message)
    return failure(task.run, task.folder, message, message)


class _Worker:
    """A process that executes the tasks it is given, one at a time."""

    def __init__(self, threads: int) -> None:
        # Forking a process that has used torch's threads can hang in the child.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Task | None = None

    def give(self, task: Task) -> Outcome | None:
        """Send a task; a failure comes back where it cannot be sent."""
        try:
            self.connection.send(task)
        except OSError:
            pass  # a dead process is found when its answer is read
        except Exception as error:  # pickle raises whatever the object's own methods raise
            message = f"it cannot be sent to another process: {one_line(error)}"
            return failure(task.run, task.folder, message, message)
        self.task = task
        return None

    def outcome(self) -> Outcome | None:
        """Return what the process says next, or None where it has ended."""
        try:
            outcome: Outcome = self.connection.recv()
        except (EOFError, OSError):
            return None
        if outcome.kind in ("finished", "failed"):
            self.task = None
        return outcome

    def ending(self) -> str:
        """Wait for the end of the process, and say how it ended."""
        self.process.join()
        self.connection.close()
        code = self.process.exitcode
        return signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _work(connection: Connection, threads: int) -> None:
    # Ctrl-C reaches the whole process group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        while True:
            perform(connection.recv(), connection.send)


def _end_with_parent() -> None:
    """End this process, in the middle of whatever it does, when its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
