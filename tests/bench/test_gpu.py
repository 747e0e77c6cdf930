"""The GPU's benchmark, rehearsed on the CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bench.gpu.__main__ as gpu
from bench.case import DifferenceError, Size, largest_difference
from bench.gpu import comparison, results, short
from bench.gpu.cases import DeviceCase, Rival, not_compared
from bench.gpu.comparison import DeviceRow
from bench.timing import Timing
from marginseg import gaussian_filter

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


class OnADevice:
    """Stands in for an array of CuPy, which NumPy must not convert by itself."""

    __cuda_array_interface__ = ()

    def __init__(self, values):
        self._values = values

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def get(self):
        return self._values


def test_arrays_of_cupy_are_compared():
    check = largest_difference(1e-4)
    ours = torch.rand(3, 4, 5)
    assert check(ours, OnADevice(ours.numpy())) == "max |difference| 0.0e+00"
    with pytest.raises(DifferenceError):
        check(ours, OnADevice(ours.numpy() + 1))


@pytest.mark.parametrize("where", ["prepare", "check", "call"])
def test_whatever_a_peer_raises_its_row_says_so(monkeypatch, where):
    """A benchmark that ends with the first exception has measured nothing."""

    def fail(*_):
        raise KeyError("of a peer")

    def prepare(i):
        return fail if where == "call" else lambda: torch.ones(1)

    rival = Rival(
        "peer", fail if where == "prepare" else prepare, fail if where == "check" else not_compared
    )
    beside = Rival("copy", lambda i: lambda: torch.ones(1), longer=1e9)
    case = DeviceCase("op", "input", "1³", 8.0, lambda i: lambda: torch.ones(1), (rival, beside))
    broken = DeviceCase("broken", "input", "1³", 8.0, lambda i: fail, (beside,))
    monkeypatch.setattr(comparison, "batches", lambda size: iter([case, broken]))
    monkeypatch.setattr(comparison, "singles", lambda size: {"single": fail})
    with torch.device("cpu"):
        rows = list(comparison.rows([Size(8, 1)], Size(8), bandwidth=1e9, seconds=0.001))
    assert [row.left_out for row in rows] == ["'of a peer'", "", "'of a peer'", "'of a peer'"]
    assert rows[1].met


def test_each_row_is_written_when_it_is_there(monkeypatch, tmp_path):
    """What was measured is kept where the time runs out, or a kernel ends the process."""

    def rows(*_, **__):
        yield DeviceRow("warp", "linear", "2×16³", "peer")
        yield DeviceRow("sample", "nearest", "2×16³", "peer")
        raise KeyboardInterrupt

    machine = {"gpu": "NVIDIA H200"}
    monkeypatch.setattr(sys, "argv", ["bench.gpu", "--output", str(tmp_path)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "set_default_device", lambda _: None)
    monkeypatch.setattr(gpu, "copy_bandwidth", lambda: 1e12)
    monkeypatch.setattr(gpu, "description", lambda _: machine)
    monkeypatch.setattr(comparison, "rows", rows)
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    stored = json.loads((tmp_path / "gpu-nvidia-h200.json").read_text())
    assert [row["op"] for row in stored["rows"]] == ["warp", "sample"]


def test_the_short_set_for_the_checkers_runs(monkeypatch, capsys):
    """With a filter along each axis alone, since each axis has a kernel of its own."""
    seen = set()

    def watched(image, sigma, **options):
        seen.add(tuple(value > 0 for value in sigma))
        return gaussian_filter(image, sigma, **options)

    monkeypatch.setattr(short, "gaussian_filter", watched)
    monkeypatch.setattr(torch, "set_default_device", lambda _: None)
    short.main()
    assert capsys.readouterr().out == "every kernel ran\n"
    assert seen >= {(True, False, False), (False, True, False), (False, False, True)}


def test_all_stages_together_take_less_than_nine_minutes():
    script = (ROOT / "bench" / "gpu.sh").read_text()
    limits = dict(re.findall(r"^ +(?:LINES_SHOWN=\d+ )?stage (\w+) (\d+)", script, re.M))
    limits |= dict(re.findall(r"checked (\w+) (\d+)", script))
    assert set(limits) == {"build", "tests", "benchmark", "training", "memcheck", "racecheck"}
    assert sum(map(int, limits.values())) < 9 * 60
    # Make builds one file at a time, and memcheck sees nothing behind torch's cache, unless told.
    assert "export CMAKE_BUILD_PARALLEL_LEVEL" in script
    assert "PYTORCH_NO_CUDA_MEMORY_CACHING=1 checked memcheck" in script


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


def test_a_stage_that_is_none_is_refused():
    result = _run("bash", "bench/gpu.sh", "--rehearse", "benchmrak")
    assert result.returncode == 2
    assert result.stderr.startswith("benchmrak: expected --rehearse or one of build tests")


def test_a_stage_needs_the_build(tmp_path):
    folders = dict.fromkeys(["BUILD", "OUT"], str(tmp_path / "a b"))
    result = _run("bash", "bench/gpu.sh", "--rehearse", "benchmark", **folders)
    assert result.returncode == 1
    assert "begin with bench/gpu.sh --rehearse build" in result.stderr
