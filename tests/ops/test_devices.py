"""Devices without kernels: what is said of them."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest
import torch

from marginseg.ops import boundary

ROOT = Path(__file__).resolve().parents[2]


def test_a_package_without_cuda_says_how_to_build_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(boundary, "cores", {})
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(RuntimeError, match="^this marginseg was built without CUDA") as error:
        boundary._loaded("cuda")
    (command,) = re.findall(r"`([^`]+)`", str(error.value))
    # It builds what lies in the current folder, for no index may have the package.
    assert command.startswith("pip install ")
    assert command.endswith(" .")
    option = re.search(r"-C cmake\.define\.(\w+)=ON", command)
    assert option is not None
    assert f"set({option[1]} AUTO CACHE STRING" in (ROOT / "CMakeLists.txt").read_text()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert build["build-backend"] == "scikit_build_core.build"


def test_other_devices_are_named():
    with pytest.raises(RuntimeError, match="^marginseg has no kernels for the device 'meta'$"):
        boundary.core_of(torch.ones(3, device="meta"))
