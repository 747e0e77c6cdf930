"""A process of its own: how long it takes, and how much memory it has at most."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter


@dataclass(frozen=True)
class Process:
    """What a process took."""

    seconds: float
    peak_bytes: int
    anonymous_bytes: int
    output: str


def run(code: str, *arguments: object) -> Process:
    """Run Python code in a process, and look at its memory every few milliseconds.

    Raises:
        RuntimeError: It failed.

    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    peaks = {"VmHWM": 0, "RssAnon": 0}
    began = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        status = Path(f"/proc/{process.pid}/status")
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.003):
                try:
                    lines = status.read_text().splitlines()
                except OSError:
                    return
                for name, _, value in (line.partition(":") for line in lines):
                    if name in peaks:
                        peaks[name] = max(peaks[name], int(value.split()[0]) * 1024)

        watcher = threading.Thread(target=watch)
        watcher.start()
        output, errors = process.communicate()
        seconds = perf_counter() - began
        ended.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(errors.decode().strip() or f"exit status {process.returncode}")
    return Process(seconds, peaks["VmHWM"], peaks["RssAnon"], output.decode())
