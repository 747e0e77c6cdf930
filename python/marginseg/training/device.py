"""Where a network is trained, and in what precision its convolutions compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "bfloat16", "float32")
COMPUTING_PRECISIONS = PRECISIONS[1:]
UNKNOWN = "unknown"


@dataclass(frozen=True)
class TrainedOn:
    """What computed a training.

    Attributes:
        device: ``"cpu"``, or what the GPU is called; ``UNKNOWN`` where nobody wrote it down.
        precision: The dtype of the convolutions, one of ``COMPUTING_PRECISIONS``, or ``UNKNOWN``.

    """

    device: str
    precision: str


def computing_device(device: str = "auto") -> torch.device:
    """Return where to train: for ``"auto"`` the GPU that torch calls current, if there is one.

    Raises:
        ValueError: ``device`` is unknown, or there is no GPU.

    Example:
        >>> computing_device("cpu")
        device(type='cpu')

    """
    if device not in DEVICES:
        raise ValueError(f"device: expected one of {', '.join(DEVICES)}, got {device!r}")
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise ValueError("device: torch finds no GPU for 'cuda'")
    return torch.device("cuda" if present and device != "cpu" else "cpu")


def computing_dtype(precision: str = "auto", device: torch.device | str = "cpu") -> torch.dtype:
    """Return the dtype of the network's convolutions.

    ``"auto"`` is bfloat16 where the device computes in it: GPUs of compute capability 8.0 or later,
    CPUs with AMX or AVX512-BF16. There it is faster than float32, also with the convolutions of
    :mod:`marginseg.training.convolution`.

    Raises:
        ValueError: ``precision`` is unknown.

    Example:
        >>> computing_dtype("float32")
        torch.float32

    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        if torch.device(device).type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            cpu: Any = torch.cpu
            probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
            native = any(getattr(cpu, probe, bool)() for probe in probes)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def training_on(precision: str = "auto", device: torch.device | str = "cpu") -> TrainedOn:
    """Return what computes a training on a device.

    Raises:
        ValueError: ``precision`` is unknown.

    Example:
        >>> training_on("float32")
        TrainedOn(device='cpu', precision='float32')

    """
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return TrainedOn(name, str(computing_dtype(precision, device)).removeprefix("torch."))
