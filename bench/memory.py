"""How far the peak of memory rises in one call on a large volume, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.case import Call, Size, organ
from marginseg import GaussianFieldNoise, gaussian_filter

#: By op: bytes a voxel of what goes in, and how far the peak may rise, in units of that.
TARGETS = {"sample": (1, 1.5), "gaussian_filter": (4, 1.25)}


@dataclass(frozen=True)
class Memory:
    """Rise of the resident set's peak, the result included."""

    op: str
    size: str
    input_bytes: int
    rise_bytes: int
    ratio: float
    target: float
    met: bool


def measure() -> Iterator[Memory]:
    available = _kilobytes(Path("/proc/meminfo"), "MemAvailable") * 1024
    edge = 512 if available > 6e9 else 384
    for op, (voxel_bytes, target) in TARGETS.items():
        rise = json.loads(
            subprocess.run(
                [sys.executable, "-m", "bench.memory", op, str(edge)],
                cwd=Path(__file__).parent.parent,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        input_bytes = voxel_bytes * edge**3
        ratio = rise / input_bytes
        yield Memory(op, Size(edge).name, input_bytes, rise, ratio, target, ratio < target)


def _kilobytes(path: Path, key: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)


def call_of(op: str, edge: int) -> Call:
    if op == "sample":
        label = organ(Size(edge))
        noise = GaussianFieldNoise(std=0.03)
        return lambda: noise.sample(label)
    volume = torch.rand((edge,) * 3)
    return lambda: gaussian_filter(volume, 2.0)


def rise(op: str, edge: int) -> int:
    """Return the bytes by which one call lifts this process's peak above what it held before."""
    status = Path("/proc/self/status")
    call_of(op, 32)()
    call = call_of(op, edge)
    # "5" sets the peak to what is resident now; without it, making the input would count.
    Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes(status, "VmRSS")
    result = call()
    peak = _kilobytes(status, "VmHWM")
    del result
    return (peak - before) * 1024


if __name__ == "__main__":
    print(rise(sys.argv[1], int(sys.argv[2])))
