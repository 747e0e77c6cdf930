"""What tests of studies share: results without their times, and processes that live."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: The names of what two equal studies may differ in.
TIMES = {"seconds", "time"}


def without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in TIMES}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def living(group: int) -> list[str]:
    """Return the processes of a group that have not ended (Z: ended, but nobody asked)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(path.parent.name)
    return found


def everything(folder: Path) -> dict[str, Any]:
    """Return all that a study has found, by its file's name, without the times it took."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        # The figures and the page are made of the rest; a lock says who held it.
        if path.is_dir() or path.suffix in (".png", ".html") or path.name == ".lock":
            continue
        if path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            found[name] = [without_times(json.loads(line)) for line in path.open()]
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: value.tobytes() for key, value in arrays.items()}
        elif path.suffix == ".pt":
            # A checkpoint, which a study that is done has none of, holds more than a network.
            state = torch.load(path, weights_only=True).get("state", {})
            found[name] = {key: value.numpy().tobytes() for key, value in state.items()}
        else:
            found[name] = path.read_bytes()
    return found


def assert_same(folder: Path, expected: Path) -> None:
    one, other = everything(folder), everything(expected)
    assert sorted(one) == sorted(other)
    for name, content in other.items():
        assert one[name] == content, name
    assert one["failed.json"] == []
