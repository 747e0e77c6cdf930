"""What the machine is, and what it can do at most."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch

from bench.case import MissingPeerError, Work, optional
from bench.timing import seconds_of

PACKAGES = (
    "marginseg",
    "torch",
    "numpy",
    "scipy",
    "monai",
    "torchio",
    "SimpleITK",
    "rankseg",
    "gstools",
)


UNDISTURBED = 0.15
"""Work of other processes that does not count, in cores."""


def use_threads(threads: int) -> None:
    """Give torch, and what is built on it or on ITK, so many threads. All others use one."""
    torch.set_num_threads(threads)
    with suppress(MissingPeerError):
        optional("SimpleITK").ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


_copies: dict[tuple[int, int], float] = {}


def copy_seconds(moved_bytes: int, threads: int) -> float:
    """Return the time in which ``torch.Tensor.copy_`` moves so many bytes, half of them read.

    Repeated on the same two arrays: a size that fits a cache is measured at the cache's speed. The
    least of all times of this process counts, so that one busy moment does not raise a floor.
    """
    source = torch.ones(max(1, moved_bytes // 2), dtype=torch.uint8)
    target = torch.zeros_like(source)
    repetitions = max(3, min(30, int(1e9 / max(1, moved_bytes))))
    least = math.inf
    for count in range(1, threads + 1):
        torch.set_num_threads(count)
        times = [seconds_of(lambda: target.copy_(source)) for _ in range(repetitions)]
        least = min(least, *times, _copies.get((moved_bytes, count), math.inf))
        _copies[moved_bytes, count] = least
    return least


_products: dict[int, float] = {}


def multiply_adds_per_second(threads: int) -> float:
    """Return the most float32 multiply-adds that a matrix product has reached in this process."""
    torch.set_num_threads(threads)
    n = 1024
    a, b, out = (torch.ones(n, n) for _ in range(3))
    best = n**3 / min(seconds_of(lambda: torch.mm(a, b, out=out)) for _ in range(5))
    _products[threads] = max(best, _products.get(threads, 0.0))
    return _products[threads]


def floor_seconds(work: Work, threads: int) -> float:
    """Return the time below which no implementation gets: the larger of moving and computing."""
    moving = copy_seconds(int(work.moved_bytes), threads)
    return max(moving, work.multiply_adds / multiply_adds_per_second(threads))


class BusyElsewhere:
    """How many cores other processes keep busy within a ``with`` block."""

    def __enter__(self) -> Self:
        self._start = self._now()
        self.cores = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        (wall, everyone, mine), (wall_0, everyone_0, mine_0) = self._now(), self._start
        elsewhere = (everyone - everyone_0) - (mine - mine_0)
        self.cores = max(0.0, elsewhere / max(wall - wall_0, 1e-9))

    def disturbs(self, threads: int) -> bool:
        """Return whether that is more than so many threads leave free."""
        return self.cores > (os.cpu_count() or 1) - threads + UNDISTURBED

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return seconds by the clock, of work on all cores, and of ours.

        Ours is that of this process, and of those that it has started and that have ended.
        """
        used = os.times()
        mine = used.user + used.system + used.children_user + used.children_system
        try:
            jiffies = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        except OSError:
            return perf_counter(), mine, mine
        idle_and_waiting = (3, 4)
        busy = sum(int(n) for place, n in enumerate(jiffies) if place not in idle_and_waiting)
        return perf_counter(), busy / os.sysconf("SC_CLK_TCK"), mine


def description(threads: list[int]) -> dict[str, Any]:
    """Return what the results depend on."""
    sizes = {"2 MiB": 1 << 21, "32 MiB": 1 << 25, "512 MiB": 1 << 29}
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "bandwidth_gb_per_s": {
            str(count): {
                name: round(moved / copy_seconds(moved, count) / 1e9, 1)
                for name, moved in sizes.items()
            }
            for count in threads
        },
        "multiply_adds_per_s": {
            str(count): round(multiply_adds_per_second(count)) for count in threads
        },
    }


def commit() -> str:
    """Return the project's commit; "+" says that something but the results has changed since."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!bench/results")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    name, flags = values.get("model name", "unknown").strip(), values.get("flags", "").split()
    newest = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in flags]
    return f"{name} ({', '.join(newest)})"
