"""The boundary to the compiled module: what crosses it, as integers.

The C++ core includes no torch header. It takes addresses, sizes and small codes; everything that
can be wrong is checked on this side.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Final

import torch

from marginseg import _cpu

#: How an axis goes on beyond its ends; the values are those of ``Extension`` in the C++ core.
MODES: Final = {"constant": 0, "nearest": 1, "reflect": 2, "mirror": 3, "wrap": 4}

#: Element types of the C++ core; bool crosses as uint8.
DTYPE_CODES: Final = {
    torch.float32: 0,
    torch.float64: 1,
    torch.uint8: 2,
    torch.bool: 2,
    torch.int16: 3,
    torch.int32: 4,
    torch.int64: 5,
}

BYTE_DTYPES: Final = (torch.uint8, torch.bool)
LABEL_DTYPES: Final = (torch.uint8, torch.bool, torch.int16, torch.int32, torch.int64)
FLOATING_DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def share_thread_pool() -> bool:
    """Hand torch's parallel loop to the core, so that ``torch.set_num_threads`` is obeyed.

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
    return bool(address)


def checked_mode(mode: str) -> str:
    """Return ``mode`` if it names a boundary mode, else raise ``ValueError``."""
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    return mode


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that the CPU kernels compute a floating ``dtype`` in: float32 or float64."""
    return torch.float64 if dtype is torch.float64 else torch.float32
