from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for torch, which small networks and the last bits of a result ask for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["cpu", "cuda", "emulated"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that the machine has, and the CUDA kernels run on the CPU.

    What a test makes without naming a device is made there. Of a module's scope, so that tests of
    many drawn examples can ask for it.
    """
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    if request.param == "emulated" and find_spec("marginseg._cuda_emulated") is None:
        pytest.skip("built without MARGINSEG_EMULATION")
    return torch.device("cpu" if request.param == "emulated" else request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Put the device of a test in its place for as long as the test runs."""
    callspec = getattr(item, "callspec", None)
    chosen = callspec.params.get("device") if callspec else None
    if chosen == "emulated":
        with emulated():
            return (yield)
    if chosen == "cuda":
        with torch.device("cuda"):
            return (yield)
    return (yield)


@contextmanager
def emulated() -> Iterator[None]:
    """Run the CUDA kernels on the CPU, in the place of its own."""

    def where(device: torch.device) -> tuple[int, int, bool, boundary.Workspace]:
        return 0, 0, torch.are_deterministic_algorithms_enabled(), boundary.Workspace(device)

    core = boundary.cores["cpu"]
    kernels = importlib.import_module("marginseg._cuda_emulated")
    boundary.cores["cpu"] = boundary.Core(kernels, where, half=True)
    try:
        yield
    finally:
        boundary.cores["cpu"] = core
