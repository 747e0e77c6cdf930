from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from hypothesis import settings

from marginseg.ops import boundary

# Property tests draw few examples on each change, and many with `--hypothesis-profile thorough`.
# A test that is slow once, on a busy machine, has not failed.
settings.register_profile("quick", deadline=None, max_examples=30)
settings.register_profile("thorough", deadline=None, max_examples=300)
settings.load_profile("quick")

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


@pytest.fixture(scope="session")
def nnunet_dir() -> Path:
    return _real_data("nnunet_sample")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for torch, which small networks and the last bits of a result ask for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_figure1() -> Iterator[None]:
    """Figure 1 of a study's report is the same whatever the study: here of few samples."""
    from marginseg.report.figures.figure1 import figure1

    small = partial(figure1, std=(0.03,), size=32, samples=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("marginseg.report.writing.figure1", small)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but drawn as one pixel: for tests of what stands beside them."""
    from matplotlib.figure import Figure
    from PIL import Image

    def save(_: Figure, file: BinaryIO, **options: Any) -> None:
        Image.new("RGB", (1, 1)).save(file, format=options["format"])

    monkeypatch.setattr(Figure, "savefig", save)


class Kernels(Enum):
    """Which kernels a test runs, and where: what the fixture ``device`` goes through."""

    cpu = "cpu"
    cuda = "cuda"
    emulated = "emulated"


@pytest.fixture(scope="module", params=Kernels, ids=lambda kernels: kernels.value)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that the machine has, and the CUDA kernels run on the CPU.

    What a test makes without naming a device is made there. Of a module's scope, so that tests of
    many drawn examples can ask for it. `MARGINSEG_TEST_KERNELS` names the only ones to run.
    """
    only = os.environ.get("MARGINSEG_TEST_KERNELS", "").split()
    if only and request.param.value not in only:
        pytest.skip(f"MARGINSEG_TEST_KERNELS names {' and '.join(only)} only")
    if request.param is Kernels.cuda and not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    if request.param is Kernels.emulated and find_spec("marginseg._cuda_emulated") is None:
        pytest.skip("built without MARGINSEG_EMULATION")
    return torch.device("cuda" if request.param is Kernels.cuda else "cpu")


@pytest.fixture
def in_emulation(request: pytest.FixtureRequest) -> bool:
    """Whether a test runs the emulated kernels: one thread at a time."""
    return request.node.callspec.params["device"] is Kernels.emulated


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Put the kernels of a test in their place for as long as the test runs.

    A test may have a parameter of its own named ``device``, which says nothing of the default one.
    """
    callspec = getattr(item, "callspec", None)
    with in_place_of_the_default(callspec.params.get("device") if callspec else None):
        return (yield)


def in_place_of_the_default(chosen: object) -> AbstractContextManager[Any]:
    """Return what makes the kernels the ones in use; only the fixture's parameter chooses any."""
    if chosen is Kernels.emulated:
        return emulated()
    if chosen is Kernels.cuda:
        return torch.device("cuda")
    return nullcontext()


@contextmanager
def emulated() -> Iterator[None]:
    """Run the CUDA kernels on the CPU, in the place of its own."""

    def run(kernel: Callable[..., None], device: torch.device, *arguments: Any) -> None:
        deterministic = torch.are_deterministic_algorithms_enabled()
        kernel(*arguments, 0, deterministic, boundary.Workspace(device))

    core = boundary.cores["cpu"]
    kernels = importlib.import_module("marginseg._cuda_emulated")
    boundary.cores["cpu"] = boundary.Core(kernels, run, half=True)
    try:
        yield
    finally:
        boundary.cores["cpu"] = core
