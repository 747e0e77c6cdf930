"""Commands that are killed at random moments: what they go on to is what they had given anyway."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies import everything
from volume_files import save

pytestmark = pytest.mark.slow

CLI = [sys.executable, "-c", "from marginseg.cli import main; main()"]


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        [*CLI, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def files(folder: Path) -> dict[str, Any]:
    """Return what is there under final names; the order of a record's entries is that of threads.

    What a killed process has left half-written has a name of its own.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "finished.json" and ".unfinished-" not in path.name
    }


def check_killed(
    command: tuple[object, ...],
    folder: Path,
    found: Callable[[Path], dict[str, Any]],
    *,
    moments: int,
    seed: int,
) -> None:
    """Kill a command again and again until it is done, from a new folder each time it is."""
    before = time.monotonic()
    whole = folder / "whole"
    finish(start(*command, "-o", whole))
    length = time.monotonic() - before
    expected = found(whole)
    assert expected
    draw, killed, number = random.Random(seed), 0, 0
    output = folder / "0"
    while killed < moments:
        process = start(*command, "-o", output)
        # Most of a short command is the import of torch, and writes nothing.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0.3, 1.05) * length)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL)
        # A study's files change until it is done; all others are there whole or not at all.
        if output.exists() and found is files:
            for name, content in files(output).items():
                assert content == expected[name], name
        if process.returncode == 0 or draw.random() < 0.2:
            finish(start(*command, "-o", output))
            assert found(output) == expected
            number += 1
            output = folder / str(number)
    finish(start(*command, "-o", output))
    assert found(output) == expected
    assert not list(output.glob(".unfinished-*")) or command[0] == "threshold"


def test_threshold(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    draw = np.random.default_rng(0)
    for number in range(60):
        values = (draw.random((64, 64, 32)) ** 3).astype(np.float32)
        save(inputs / f"{number:02d}.nii{'.gz' if number % 2 else ''}", values)
    check_killed(("threshold", inputs), tmp_path, files, moments=18, seed=0)


def test_prepare(tmp_path: Path) -> None:
    command = ("prepare", "--data", "phantom", "--patch", "32x32x32", "--max-cases", 60)
    check_killed(command, tmp_path, files, moments=18, seed=1)


def test_study(tmp_path: Path) -> None:
    command = (
        *("study", "--structure", "tube", "--std", 0.06, "--folds", 2, "--patch", "16x16x16"),
        *("--features", "2-4", "--epochs", 20, "--max-cases", 4, "--workers", 1),
    )
    check_killed(command, tmp_path, everything, moments=14, seed=2)
