"""`marginseg study`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import refused, run


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("--std 0 0.03 -0.06", "-0.06"),
        ("--std nan", "nan"),
        ("--folds 1", "--folds"),
        ("--folds two", "--folds"),
        ("--folds 3 --max-cases 2", "folds"),
        ("--epochs 0", "--epochs"),
        ("--learning-rate 0", "--learning-rate"),
        ("--length-scale -1", "--length-scale"),
        ("--features 8-x", "--features"),
        ("--patch 32x48.5x32", "--patch"),
        ("--patch 30x32x32 --features 4-8-16", "30"),
        ("--structure heart", "heart"),
        ("--data decathlon", "--dir"),
        ("--data decathlon --dir nowhere", "nowhere"),
        ("--data totalsegmentator --dir .", "--structure"),
        ("--dir .", "--dir"),
        ("--data mars", "--data"),
        ("--preset slow", "--preset"),
        ("--features 8_16", "8_16"),
        ("--features 8-1e1", "8-1e1"),
        ("--patch 3_2x32x32", "3_2x32x32"),
        ("--patch 100000x100000x100000", "--patch: expected at most 1073741824 voxels"),
        ("--spacing 1_0x1x1", "1_0x1x1"),
        ("--folds 1_0", "--folds"),
        ("--folds=1_0", "--folds"),
        ("--std 0 0_1", "'0_1' is no number"),
        ("--folds 100000000000000000000000", "--folds: expected at most"),
        ("--seed 99999999999999999999", "--seed: expected at most"),
        ("--seed 18446744073709551615", "--seed: expected at most"),
    ],
)
def test_bad_studies(arguments: str, word: str, tmp_path: Path) -> None:
    output = tmp_path / "study"
    refused(run("study", *arguments.split(), "-o", output), word, output=output)


def test_a_study_needs_somewhere_to_write(tmp_path: Path) -> None:
    refused(run("study"), "--output")
    (tmp_path / "file").touch()
    refused(run("study", "-o", tmp_path / "file"), "file")


@pytest.mark.slow
def test_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from marginseg.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "study", "--max-cases", "8", "-o", str(tmp_path / "study")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "study").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 130
    assert errors == "marginseg: interrupted\n"
