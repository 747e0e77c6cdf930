"""SciPy's own tests of its filters and interpolation, run on marginseg."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Tests that hold for SciPy and not for marginseg, and why.
KNOWN = {
    "test_multiple_modes[numpy-_gaussian_filter]": "compares to the bit with a mode for each axis, "
    "which is SciPy's own, and rounds otherwise in the last place",
    "test_multiple_modes_sequentially[numpy]": "likewise",
    "test_gaussian_radius[numpy]": "compares to the bit with a radius for each axis, likewise",
}
SUITES = ("scipy.ndimage.tests.test_filters", "scipy.ndimage.tests.test_interpolation")


@pytest.mark.slow
def test_scipys_own_tests_pass_on_ours(tmp_path):
    pytest.importorskip("scipy._lib._array_api", reason="SciPy tests by another plugin of pytest")
    if any(importlib.util.find_spec(suite) is None for suite in SUITES):
        pytest.skip("this SciPy came without its tests")
    counts = tmp_path / "counts.json"
    paths = [str(Path(__file__).parent), *[path for path in sys.path if path]]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "SCIPY_SUITE_COUNTS": str(counts),
    }
    chosen = "gauss or map_coord or axes or Boundaries or tuple_length or modes"
    options = ["-q", "-p", "scipy_suite", "-p", "no:cacheprovider", "-W", "ignore", "-k", chosen]
    command = [sys.executable, "-m", "pytest", *options, "--pyargs", *SUITES]
    run = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert counts.is_file(), run.stdout[-2000:] + run.stderr[-2000:]
    result = json.loads(counts.read_text())
    assert result["passed"] >= 800, run.stdout[-4000:]
    assert set(result["failed"]) == set(KNOWN), run.stdout[-4000:]
    assert result["counts"]["gaussian_filter"] >= 40
    assert result["counts"]["gaussian_filter1d"] >= 4
    assert result["counts"]["tests"] >= 30
