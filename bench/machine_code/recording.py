"""Launches of kernels, recorded from the build that runs them on the CPU (tests/cuda_emulation)."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.machine_code.alignment import aligned_results
from bench.machine_code.elf import Elf
from bench.machine_code.execution import Launch
from bench.machine_code.listing import MissingToolError
from marginseg.ops import boundary

#: Is shown a launch before its kernel has run, and says whether it is to run.
Before = Callable[[Launch], bool]
#: Is shown the same launch afterwards.
After = Callable[[Launch], None]


class _Launch(ctypes.Structure):
    """`emulation::Launch` of tests/cuda_emulation/emulator.h."""

    _fields_ = (
        ("kernel", ctypes.c_uint64),
        ("parameters", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("blocks", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("ran", ctypes.c_uint32),
    )


_Recorder = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Launch))


def module_path(name: str) -> Path:
    """Return the file of a compiled module of the package."""
    found = importlib.util.find_spec(f"marginseg.{name}")
    if found is None or found.origin is None:
        built = {"_cuda": "without CUDA", "_cuda_emulated": "without MARGINSEG_EMULATION"}
        raise MissingToolError(f"marginseg was built {built[name]}: there is no marginseg.{name}")
    return Path(found.origin)


class Recorder:
    """Runs calls of the ops on CPU tensors with the CUDA kernels, and shows their launches."""

    def __init__(self) -> None:
        path = module_path("_cuda_emulated")
        self._kernels = importlib.import_module("marginseg._cuda_emulated")
        self._record = ctypes.CDLL(str(path)).marginseg_emulation_record
        symbols = Elf(path).symbols()
        here = {name: value for value, name in symbols.items()}
        if "marginseg_emulation_record" not in here:
            raise MissingToolError(f"{path.name} was stripped: no kernel's name is to be found")
        address = ctypes.cast(self._record, ctypes.c_void_p).value or 0
        base = address - here["marginseg_emulation_record"]
        self._names = {base + value: name for value, name in symbols.items()}

    @contextmanager
    def recording(self, before: Before, after: After | None = None) -> Iterator[None]:
        """Let the ops run the emulated kernels, and show each launch."""
        errors: list[BaseException] = []

        def seen(pointer: ctypes._Pointer[_Launch]) -> int:
            launch = pointer.contents
            if errors:
                return 0
            # Nothing may be raised through the C++ that called.
            try:
                shown = Launch(
                    self._names[launch.kernel].partition(".")[0],
                    launch.blocks,
                    launch.threads,
                    ctypes.string_at(launch.parameters, launch.bytes),
                )
                if not launch.ran:
                    return int(before(shown))
                if after is not None:
                    after(shown)
            except BaseException as error:
                errors.append(error)
            return 0

        recorder = _Recorder(seen)
        core = boundary.cores["cpu"]
        boundary.cores["cpu"] = boundary.Core(self._kernels, _run, half=True)
        self._record(recorder)
        try:
            with aligned_results():
                yield
        finally:
            self._record(None)
            boundary.cores["cpu"] = core
        if errors:
            raise errors[0]


def _run(kernel: Callable[..., None], device: torch.device, *arguments: Any) -> None:
    deterministic = torch.are_deterministic_algorithms_enabled()
    kernel(*arguments, 0, deterministic, boundary.Workspace(device))
