from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from marginseg.ops import boundary

REAL_DATA = Path(
    os.environ.get("MARGINSEG_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


def _real_data(name: str) -> Path:
    directory = REAL_DATA / name
    if not directory.is_dir():
        pytest.skip(f"real data {name} is not here; set MARGINSEG_TEST_DATA to its folder's parent")
    return directory


@pytest.fixture(scope="session")
def hippocampus_dir() -> Path:
    return _real_data("Task04_Hippocampus")


@pytest.fixture(scope="session")
def totalsegmentator_dir() -> Path:
    return _real_data("totalsegmentator_sample")


@pytest.fixture(scope="module", params=["cpu", "cuda", "emulated"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Each device that the machine has, and the CUDA kernels run on the CPU.

    Of a module's scope, so that tests of many drawn examples can ask for it.
    """
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    if request.param != "emulated":
        yield torch.device(request.param)
        return
    try:
        kernels = importlib.import_module("marginseg._cuda_emulated")
    except ImportError:
        pytest.skip("built without MARGINSEG_EMULATION")
    usual = boundary.cores["cpu"]
    boundary.cores["cpu"] = boundary.Core(
        kernels, lambda device: (0, 0, boundary.Workspace(device)), half=True
    )
    yield torch.device("cpu")
    boundary.cores["cpu"] = usual
