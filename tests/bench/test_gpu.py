"""The GPU's benchmark, rehearsed on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.gpu import results
from bench.gpu.comparison import DeviceRow
from bench.timing import Timing

ROOT = Path(__file__).resolve().parents[2]


def _run(*command, **environment):
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# What a machine with a GPU may lack, and can't download.
BARE = """
import runpy, sys
sys.modules |= dict.fromkeys(["typer", "rich", "nibabel", "matplotlib", "jinja2"])
sys.argv = ["bench.gpu", "--rehearse"]
runpy.run_module("bench.gpu", run_name="__main__")
"""


def test_every_case_and_rival_runs_with_torch_and_scipy_alone():
    result = _run(sys.executable, "-c", BARE)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()[2:]
    for op in ("gaussian_filter", "marginals", "warp", "sample", "gaussian_field"):
        assert any(line.startswith(f"| {op}") for line in lines)
    left_out = [line for line in lines if "left out" in line]
    assert all("is not installed" in line for line in left_out), left_out


def test_the_short_set_for_the_checkers_runs():
    result = _run(sys.executable, "-m", "bench.gpu.short")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "every kernel ran\n"


def test_results_are_written_and_read(tmp_path):
    rows = [
        DeviceRow("warp", "linear", "2×16³", "peer", "", Timing(1e-4, 9e-5, 2e-4, 5), None, 2.5),
        DeviceRow("warp", "linear", "2×16³", "another", left_out="it is not installed"),
    ]
    machine = {
        "gpu": "NVIDIA H200",
        "copy_gb_per_s": 4300,
        "commit": "abc",
        "date": "2030-01-01",
        "packages": {"torch": "2"},
    }
    assert results.markdown(tmp_path).startswith("Unmeasured")
    path = results.write(tmp_path, machine, rows)
    assert path.name == "gpu-nvidia-h200.json"
    text = results.markdown(tmp_path)
    assert "| warp | linear | 2×16³ | peer | 100 µs |  | 2.5 × |" in text
    assert "left out: it is not installed" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_one_line_says_so():
    result = _run("bash", "bench/gpu.sh", PYTHON=sys.executable)
    assert result.returncode == 1
    assert result.stderr == "no CUDA device is here: nothing can be measured\n"
    assert result.stdout == ""
