"""Runs on the machines of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Self

import torch

from marginseg.study.run import perform
from marginseg.study.task import Outcome, Task, failure, one_line

#: How often Ray begins a run anew whose process or machine died; clusters lose machines.
RETRIES = 3

#: The part of a GPU that each run is given. It is an estimate, not a measurement: the paper's
#: network should need about a gigabyte in training, and a batch of one should leave room for
#: others.
GPU_SHARE = 0.25

#: Seconds from one look at the runs' logs to the next.
GLANCE = 1.0


class RayExecutor:
    """Executes each run as a task of Ray, with its share of a GPU or with CPUs of its own.

    The output folder and the cache of the cases have to be on storage that all machines share,
    under the same path, and every machine needs the same marginseg installed. A run whose process
    or machine dies is begun again by Ray, up to ``RETRIES`` times, and goes on from its checkpoint.
    On CPUs the results have the same bits as those of :class:`ProcessExecutor` with as many
    threads.

    Where Ray is connected already, that cluster is used and left connected.

    Args:
        address: The cluster's, such as ``"auto"`` or ``"ray://head:10001"``; None: what the
            environment variable RAY_ADDRESS says, or else a cluster of this machine alone, for as
            long as the study lasts.
        gpu_share: The part of a GPU that a run takes, 0 for none; None: ``GPU_SHARE`` where the
            cluster has GPUs.
        threads: CPUs that a run takes, and threads that torch uses there.
        workers: Runs at the same time, at most; None: as many as the cluster has room for.

    It connects where a ``with`` is entered, and disconnects where that is left.

    Raises:
        ValueError: Ray is not installed, or an argument is out of its range; on entering: there is
            no cluster; from :meth:`facts`: it has no room for a run.

    """

    def __init__(
        self,
        address: str | None = None,
        *,
        gpu_share: float | None = None,
        threads: int = 1,
        workers: int | None = None,
    ) -> None:
        if find_spec("ray") is None:
            raise ValueError("executor: Ray is not installed; pip install 'marginseg[ray]'")
        if gpu_share is not None and not 0 <= gpu_share < math.inf:
            raise ValueError(f"gpu_share: expected a finite number >= 0, got {gpu_share}")
        if gpu_share is not None and gpu_share > 1 and gpu_share != int(gpu_share):
            raise ValueError(f"gpu_share: expected at most 1, or whole GPUs, got {gpu_share}")
        for name, value in (("threads", threads), ("workers", workers)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        self.address, self.threads, self.workers = address, threads, workers
        self.gpu_share = gpu_share
        self._ours = False

    def __enter__(self) -> Self:
        """Connect to the cluster, unless Ray is connected already."""
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect from the cluster, or end it, if it was connected or begun here."""
        if self._ours:
            import ray

            ray.shutdown()
            self._ours = False

    def facts(self, runs: int) -> dict[str, Any]:
        """Return what ``environment.json`` says of it, for a study of so many runs."""
        share = self._share()
        room = self._room(share)
        return {
            "executor": "ray",
            "workers": max(1, min(room, self.workers or room, runs)),
            "threads": self.threads,
            "gpu_share": share,
        }

    def __call__(
        self,
        tasks: Sequence[Task],
        report: Callable[[Outcome], None],
        *,
        runs: int | None = None,
    ) -> None:
        """Execute tasks; see :class:`marginseg.study.task.Executor`."""
        if not tasks:
            return
        import ray

        share = self._share()
        remote = ray.remote(_execute).options(
            num_cpus=self.threads, num_gpus=share, max_retries=RETRIES, retry_exceptions=False
        )
        waiting = deque(tasks)
        watched: dict[Any, _Watch] = {}
        try:
            while waiting or watched:
                while waiting and len(watched) < (self.workers or len(tasks)):
                    task = waiting.popleft()
                    task.folder.path.parent.mkdir(parents=True, exist_ok=True)
                    watch = _Watch(task)
                    try:
                        watched[remote.remote(task, self.threads)] = watch
                    except Exception as error:  # pickle raises whatever the object's methods raise
                        message = f"it cannot be sent to Ray: {one_line(error)}"
                        report(failure(task.run, task.folder, message, message))
                done, _ = ray.wait(list(watched), num_returns=1, timeout=GLANCE)
                for watch in watched.values():
                    for outcome in watch.news():
                        report(outcome)
                for reference in done:
                    report(_ending(reference, watched.pop(reference).task))
        finally:
            for reference in watched:
                with contextlib.suppress(ray.exceptions.RayError):  # it may be the cluster's end
                    ray.cancel(reference, force=True)

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        settings: dict[str, Any] = {
            "address": self.address,
            "log_to_driver": False,
            "logging_level": logging.WARNING,
        }
        if self.address is None and not os.environ.get("RAY_ADDRESS"):
            # A cluster of this machine alone needs no page with its state, and no statistics of its
            # use are sent to Ray's makers.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            settings |= {"include_dashboard": False, "num_cpus": len(os.sched_getaffinity(0))}
        try:
            ray.init(**settings)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = self.address or os.environ.get("RAY_ADDRESS") or "this machine"
            raise ValueError(f"address: no Ray cluster at {where}: {one_line(error)}") from error
        self._ours = True

    def _share(self) -> float:
        """Return the part of a GPU that a run takes in the cluster."""
        import ray

        gpus = float(ray.cluster_resources().get("GPU", 0))
        share = self.gpu_share if self.gpu_share is not None else min(GPU_SHARE, gpus)
        if share > gpus:
            raise ValueError(f"gpu_share: the cluster has {gpus:g} GPUs, and a run takes {share:g}")
        return share

    def _room(self, share: float) -> int:
        """Return how many runs the machines have room for at the same time."""
        import ray

        room = 0
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            fits = node["Resources"].get("CPU", 0) // self.threads
            if share > 0:
                gpus = node["Resources"].get("GPU", 0)
                fits = min(fits, math.floor(gpus / share + 1e-6))
            room += int(fits)
        if room == 0:
            raise ValueError(
                f"threads: no machine of the cluster has {self.threads} CPUs for a run"
            )
        return room


def _execute(task: Task, threads: int) -> Outcome:
    """Execute a task where Ray has put it, and return how it ended."""
    shared = task.folder.path.parent
    if not shared.is_dir():
        message = f"{shared}: not found; all machines have to share this folder"
        return Outcome(task.run, "failed", error=message, details=message)
    torch.set_num_threads(threads)
    outcomes: list[Outcome] = []

    def keep(outcome: Outcome) -> None:
        outcomes[:] = [outcome]

    perform(task, keep)
    return outcomes[0]


def _ending(reference: Any, task: Task) -> Outcome:
    """Return how a task ended; Ray has given it up where it raises."""
    import ray

    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        message = one_line(error.cause if isinstance(error.cause, Exception) else error)
        return failure(task.run, task.folder, message, str(error))
    except ray.exceptions.RayError as error:
        message = f"Ray lost it {RETRIES + 1} times: {one_line(error)}"
        return failure(task.run, task.folder, message, str(error))
    return outcome


class _Watch:
    """Looks at what a task writes in its folder, for news of it: no messages have to be sent."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._seen = task.folder.times()
        self._started = False
        self._epochs = 0

    def news(self) -> list[Outcome]:
        """Return that it has started, and the last epoch, where that is new."""
        times = self.task.folder.times()
        outcomes = []
        if not self._started and times != self._seen:
            self._started = True
            outcomes.append(Outcome(self.task.run, "started"))
        _, log = times
        if log != self._seen[1]:
            epochs = self.task.folder.read_epochs()
            if len(epochs) > self._epochs:
                self._epochs = len(epochs)
                outcomes.append(Outcome(self.task.run, "epoch", epochs[-1]))
        self._seen = self._seen[0], log
        return outcomes
