"""Commands on many files that are killed: what stands there is whole, and the rest made again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made_up_maps
from marginseg.rule import Rule
from volume_files import save

pytestmark = pytest.mark.slow

#: Kills itself before it names or removes a file for the n-th time.
SELF_KILLING = """
import os, pathlib, signal, sys

left = int(sys.argv.pop(1))

def counted(function):
    def counting(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*arguments, **options)
    return counting

pathlib.Path.replace = counted(pathlib.Path.replace)
pathlib.Path.unlink = counted(pathlib.Path.unlink)
from marginseg.cli import main
main()
"""

NEVER = 10**6


def start(kill_at: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SELF_KILLING, str(kill_at), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def outputs(folder: Path) -> dict[str, bytes]:
    """Return what a user sees there; records have paths and times in them."""
    found = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    return {path.name: path.read_bytes() for path in found if path.name[0] != "."}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in "abc":
        label = np.zeros((14, 12, 10), np.uint8)
        label[3:9, 2:8, 2:8] = generator.integers(1, 3)
        save(folder / f"{name}.nii.gz", label)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("threshold",),
        ("marginals", "--std", "0.05"),
        ("noise", "--std", "0.05", "--samples", "2"),
    ],
)
def test_killed_at_any_name_that_it_gives(
    command: tuple[str, ...], inputs: Path, tmp_path: Path
) -> None:
    if command[0] == "threshold":
        assert (
            start(NEVER, "marginals", inputs, "--std", 0.05, "-o", tmp_path / "m").returncode == 0
        )
        inputs = tmp_path / "m"
        (inputs / "finished.json").unlink()
    whole = tmp_path / "whole"
    assert start(NEVER, command[0], inputs, *command[1:], "-o", whole).returncode == 0
    expected = outputs(whole)
    for kill_at in range(30):
        folder = tmp_path / f"killed at {kill_at}"
        result = start(kill_at, command[0], inputs, *command[1:], "-o", folder)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        for name, content in outputs(folder).items() if folder.exists() else ():
            assert content == expected[name]
        again = start(NEVER, command[0], inputs, *command[1:], "-o", folder)
        assert again.returncode == 0, again.stderr
        assert outputs(folder) == expected
        assert len(json.loads((folder / "finished.json").read_text())) == 3
        if command[0] == "noise":
            for name in "abc":
                record = json.loads((folder / f"{name}_noisy.json").read_text())
                assert record["samples"] == [f"{name}_noisy00{n}.nii.gz" for n in (1, 2)]
    assert kill_at > 3


@pytest.fixture
def network(tmp_path: Path) -> tuple[Path, Path]:
    """Maps of six cases, and their labels."""
    maps, labels = tmp_path / "maps", tmp_path / "labels"
    for folder in (maps, labels):
        folder.mkdir()
    for seed in range(6):
        truth = made_up_maps.truth(seed, 12, 1)
        save(maps / f"case_{seed}.nii.gz", made_up_maps.shifted(-2.0)(truth)[0].astype(np.float32))
        save(labels / f"case_{seed}.nii.gz", made_up_maps.drawn(seed, truth)[0].astype(np.uint8))
    return maps, labels


def test_an_evaluation_that_is_killed_leaves_no_rule_of_another(
    network: tuple[Path, Path], tmp_path: Path
) -> None:
    """Whatever name it is about to give: files are whole, and the next call ends as any other."""
    whole = tmp_path / "whole"
    assert start(NEVER, "evaluate", *network, "-o", whole).returncode == 0
    expected = outputs(whole) | {"rule.json": (whole / "rule.json").read_bytes()}
    folder = tmp_path / "killed"
    killed = 0
    for kill_at in range(0, 40, 3):
        result = start(kill_at, "evaluate", *network, "-o", folder)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        killed += 1
        for path in folder.glob("*.csv"):
            assert path.read_bytes() == expected[path.name]
        for path in folder.glob("*.png"):  # in all its colours, or in fewer
            with Image.open(path) as picture:
                picture.load()
        for path in folder.glob("rule*.json"):
            Rule.load(path)
    assert killed > 3
    assert start(NEVER, "evaluate", *network, "-o", folder).returncode == 0
    assert outputs(folder) | {"rule.json": (folder / "rule.json").read_bytes()} == expected
