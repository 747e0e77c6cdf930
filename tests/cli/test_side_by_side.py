"""Two processes of one command on one folder: both end, with what one alone gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from studies import assert_same
from volume_files import save

#: Waits for a line on stdin when all is imported, so that two of them begin together.
TOGETHER = """
import sys
import torch
import marginseg.report, marginseg.study, marginseg.cli.several
from marginseg.cli import main
torch.set_num_threads(1)
print(flush=True)
sys.stdin.readline()
main()
"""


def side_by_side(*arguments: object, folder: Path) -> list[tuple[int, str, str]]:
    """Run a command twice at once; return status, stdout and stderr of each."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, *map(str, arguments), "-o", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ended = []
    for process in processes:
        out, errors = process.communicate(timeout=300)
        ended.append((process.returncode, out, errors))
    return ended


def alone(*arguments: object, folder: Path) -> str:
    command = [sys.executable, "-c", TOGETHER, *map(str, arguments), "-o", str(folder)]
    result = subprocess.run(command, input="\n", capture_output=True, text=True, check=True)
    return result.stdout[1:]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name != "finished.json"
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", [("threshold",), ("noise", "--std", 0.05)])
def test_two_on_many_files(command: tuple[object, ...], tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    draw = np.random.default_rng(0)
    for number in range(40):
        values = draw.random((32, 32, 16)) ** 3
        data = values.astype(np.float32) if command[0] == "threshold" else values > 0.3
        save(
            inputs / f"{number:02d}.nii.gz",
            np.asarray(data, data.dtype if data.dtype.kind == "f" else np.uint8),
        )
    command = (command[0], inputs, *command[1:])
    said = alone(*command, folder=tmp_path / "alone").replace(str(tmp_path / "alone"), "")
    for turn in range(2):
        folder = tmp_path / f"shared {turn}"
        for status, out, errors in side_by_side(*command, folder=folder):
            assert (status, errors) == (0, "")
            assert out.replace(str(folder), "") == said
        assert files(folder) == files(tmp_path / "alone")
        # Each process remembers what it has done, and nothing of a file is lost.
        assert len(json.loads((folder / "finished.json").read_text())) == 40


@pytest.mark.slow
def test_two_preparations(tmp_path: Path) -> None:
    command = ("prepare", "--data", "phantom", "--patch", "16x16x16", "--max-cases", 40)
    alone(*command, folder=tmp_path / "alone")
    for turn in range(2):
        folder = tmp_path / f"shared {turn}"
        for status, _, errors in side_by_side(*command, folder=folder):
            assert (status, errors) == (0, "")
        assert files(folder) == files(tmp_path / "alone")


@pytest.mark.slow
def test_two_studies(tmp_path: Path) -> None:
    command = (
        *("study", "--structure", "tube", "--std", 0.06, "--folds", 2, "--patch", "8x8x8"),
        *("--features", "2-4", "--epochs", 3, "--max-cases", 4, "--workers", 1),
    )
    alone(*command, folder=tmp_path / "alone")
    for turn in range(1):
        folder = tmp_path / f"shared {turn}"
        ended = sorted(side_by_side(*command, folder=folder))
        assert ended[0][0] == 0
        status, _, errors = ended[1]
        # One works, and the other is refused, unless it came when the first had done.
        assert status == 0 or errors == f"marginseg: another process works in {folder}\n"
        assert_same(folder, tmp_path / "alone")
