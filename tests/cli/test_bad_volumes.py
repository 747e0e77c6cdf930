from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import refused, run, shell
from volume_files import save


@pytest.mark.parametrize("command", ["noise", "marginals"])
def test_bad_labels(command: str, label: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.nii.gz"
    options = ["--std", 0.02, "-o", output]
    empty = save(tmp_path / "empty.nii", np.zeros((4, 4, 4), np.uint8))
    soft = save(tmp_path / "soft.nii", np.full((4, 4, 4), 0.5, np.float32))
    series = save(tmp_path / "series.nii", np.ones((4, 4, 4, 4), np.uint8))
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(label.read_bytes()[:-20])
    refused(run(command, tmp_path / "none.nii", *options), "none.nii", output=output)
    refused(run(command, empty, *options), "empty.nii", "empty", output=output)
    refused(run(command, soft, *options), "integer labels", output=output)
    refused(run(command, series, *options), "(4, 4, 4, 4)", output=output)
    refused(run(command, broken, *options), "broken.nii.gz", output=output)
    refused(run(command, label, "--std", -0.02, "-o", output), "std", "-0.02", output=output)
    refused(run(command, label, "--std", "nan", "-o", output), "std", output=output)
    refused(run(command, label, "--std", 1, 2, "-o", output), "std", output=output)
    refused(run(command, label, *options, "--label", 9), "no voxel has label 9", output=output)
    refused(run(command, label, *options, "--units", "inch"), "--units", output=output)
    refused(run(command, label, "-o", output), "--std", output=output)


def test_bad_noise(label: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ["--std", 0.2, "-o", output]
    refused(run("noise", label, *options, "--units", "mm"), "--length-scale", output=output)
    refused(run("noise", label, *options, "--length-scale", 0), "--length-scale", output=output)
    refused(run("noise", label, *options, "--samples", 0), "--samples", output=output)
    refused(run("noise", label, *options, "--seed", 2**64), "--seed", output=output)
    refused(run("noise", label, "--std", 0.2, "-o", label), "a label.nii.gz")


@pytest.mark.parametrize(("name", "word"), [("out.txt", "out.txt"), ("none/out.nii", "none")])
def test_bad_outputs(name: str, word: str, label: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    refused(run("marginals", label, "--std", 0.02, "-o", tmp_path / name), word)
    refused(run("threshold", label, "-o", tmp_path / name), word)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk(label: Path, tmp_path: Path) -> None:
    # Files of more than 100 bytes cannot be written.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    code = f"{limit}{ignore} from marginseg.cli import main; main()"
    arguments = ["marginals", label, "--std", "0.02", "-o", tmp_path / "m.nii.gz"]
    result = subprocess.run(
        [sys.executable, "-B", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == f"marginseg: {tmp_path / 'm.nii.gz'}: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == [label.name]


def test_in_a_real_process(label: Path, tmp_path: Path) -> None:
    result = shell("noise", label, "--std", 0.02, "-o", tmp_path / "with spaces")
    assert (result.returncode, result.stderr) == (0, "")
    result = shell("threshold", tmp_path / "none.nii", "-o", tmp_path / "s.nii")
    assert result.returncode == 2
    assert result.stderr == f"marginseg: {tmp_path / 'none.nii'}: No such file or directory\n"
    assert result.stdout == ""
