"""The boundary to the compiled modules: what crosses it, as integers.

The C++ core includes no torch header. It takes addresses, sizes and small codes; everything that
can be wrong is checked on this side. There is one core for each type of device, with the same
functions.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from marginseg import _cpu

#: How an axis goes on beyond its ends; the values are those of ``Extension`` in the C++ core.
Mode: TypeAlias = Literal["constant", "nearest", "reflect", "mirror", "wrap"]
MODES: Final[dict[str, int]] = {"constant": 0, "nearest": 1, "reflect": 2, "mirror": 3, "wrap": 4}

#: How a value between voxels is made of theirs.
Interpolation: TypeAlias = Literal["nearest", "linear"]

#: Element types of the C++ core; bool crosses as uint8.
DTYPE_CODES: Final = {
    torch.float32: 0,
    torch.float64: 1,
    torch.uint8: 2,
    torch.bool: 2,
    torch.int16: 3,
    torch.int32: 4,
    torch.int64: 5,
    torch.float16: 6,
    torch.bfloat16: 7,
}

BYTE_DTYPES: Final = (torch.uint8, torch.bool)
LABEL_DTYPES: Final = (torch.uint8, torch.bool, torch.int16, torch.int32, torch.int64)
FLOATING_DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def listed(dtypes: Iterable[torch.dtype]) -> str:
    """Name dtypes for a message.

    Example:
        >>> listed((torch.uint8, torch.bool))
        'uint8 or bool'

    """
    *others, last = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    return f"{', '.join(others)} or {last}" if others else last


class Core(NamedTuple):
    """The compiled kernels for one type of device.

    Attributes:
        kernels: The module.
        run: ``run(kernel, device, *arguments)`` calls one of its functions for tensors of a device,
            with what that device asks for besides.
        half: Whether it reads and writes half types; else they are copied to float32.

    """

    kernels: Any
    run: Callable[..., None]
    half: bool

    def stored(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype in which it reads and writes what has a floating ``dtype``."""
        return dtype if self.half else computing_dtype(dtype)


class Workspace:
    """Memory that kernels need for a call, from torch's allocator.

    It is given back when the call returns, to be used by later kernels of the same stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.memory: list[Tensor] = []

    def __call__(self, size: int) -> int:
        """Return the address of ``size`` bytes."""
        self.memory.append(torch.empty(size, dtype=torch.uint8, device=self.device))
        return self.memory[-1].data_ptr()


def here(kernel: Callable[..., None], device: torch.device, *arguments: Any) -> None:
    """Call a kernel of the CPU."""
    kernel(*arguments)


def on_stream(kernel: Callable[..., None], device: torch.device, *arguments: Any) -> None:
    """Call a kernel of CUDA, on the device's current stream.

    The device is the current one meanwhile. Afterwards torch goes back to the one before, but makes
    no context on a GPU for that alone: it would take hundreds of megabytes there.
    """
    stream = torch.cuda.current_stream(device)
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.cuda.device(stream.device_index):
        kernel(*arguments, stream.cuda_stream, deterministic, Workspace(device))


#: The cores in use, by type of device. That of CUDA is loaded when its first tensor arrives.
cores: dict[str, Core] = {"cpu": Core(_cpu, here, half=False)}


def core_of(input: Tensor, **others: Tensor) -> Core:
    """Return the core for these tensors' device.

    Raises:
        ValueError: One of ``others`` is on another device; the message names it.
        RuntimeError: There are no kernels for the device.

    """
    check_devices(input, **others)
    return cores.get(input.device.type) or _loaded(input.device.type)


def check_devices(input: Tensor, **others: Tensor) -> None:
    """Raise ``ValueError`` if one of ``others`` is on another device; the message names it."""
    for name, other in others.items():
        if other.device != input.device:
            raise ValueError(
                f"{name}: expected the first argument's device {input.device}, got {other.device}"
            )


def _loaded(kind: str) -> Core:
    if kind != "cuda":
        raise RuntimeError(f"marginseg has no kernels for the device {kind!r}")
    try:
        kernels = importlib.import_module("marginseg._cuda")
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "this marginseg was built without CUDA kernels: install CUDA's compiler nvcc, then, "
            "where its sources are, "
            "`pip install --force-reinstall --no-deps -C cmake.define.MARGINSEG_CUDA=ON .`"
        ) from error
    cores[kind] = Core(kernels, on_stream, half=True)
    return cores[kind]


def share_thread_pool() -> bool:
    """Hand torch's parallel loop to the core, so that ``torch.set_num_threads`` is obeyed.

    In a process that is forked from this one, the kernels run on the calling thread.

    Returns whether torch exports one (``torch_parallel_for``, torch 2.10 and later); without it
    the kernels run on the calling thread.
    """
    name = {"darwin": "libtorch_cpu.dylib", "win32": "torch_cpu.dll"}.get(
        sys.platform, "libtorch_cpu.so"
    )
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name))
        address = ctypes.cast(library.torch_parallel_for, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return False
    _cpu.set_parallel_for(address or 0)
    if hasattr(os, "register_at_fork"):
        # A forked process has its parent's pool but none of its threads, and would wait for them.
        os.register_at_fork(after_in_child=_run_alone)
    return bool(address)


def _run_alone() -> None:
    _cpu.set_parallel_for(0)


def checked_mode(mode: str) -> str:
    """Return ``mode`` if it names a boundary mode, else raise ``ValueError``."""
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    return mode


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that kernels compute a floating ``dtype`` in: float32 or float64."""
    return torch.float64 if dtype is torch.float64 else torch.float32
