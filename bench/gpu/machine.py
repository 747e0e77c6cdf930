"""Which GPU it is, and how fast it copies."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import Any

import torch

from bench.gpu.clock import by_events
from bench.machine import commit, package_version

#: Far larger than any cache of a GPU.
COPIED_BYTES = 1 << 31

PACKAGES = ("marginseg", "torch", "monai", "cupy-cuda13x", "cupy-cuda12x", "scipy")


def copy_bandwidth() -> float:
    """Return the bytes a second, read and written, of a device-to-device copy."""
    source = torch.randint(0, 256, (COPIED_BYTES,), dtype=torch.uint8)
    target = torch.empty_like(source)
    median = by_events([lambda: target.copy_(source)], 0.5).median
    return 2.0 * COPIED_BYTES / median


def description(bandwidth: float) -> dict[str, Any]:
    """Return what the results depend on."""
    properties = torch.cuda.get_device_properties(0)
    # Where the tree was copied without its history, the one who copied it knows the commit.
    return {
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "copy_gb_per_s": round(bandwidth / 1e9),
        "cuda": torch.version.cuda,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": os.environ.get("COMMIT") or commit(),
        "python": platform.python_version(),
        "packages": {
            name: package_version(name) for name in PACKAGES if package_version(name) != "missing"
        },
    }
