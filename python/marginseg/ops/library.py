"""The torch library ``marginseg`` that every op registers with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from marginseg.ops.boundary import share_thread_pool

share_thread_pool()

library = torch.library.Library("marginseg", "DEF")


def implement(name: str, kernel: Callable[..., Any]) -> None:
    """Register the kernel of an op, which asks the tensors' device for its core, on CPU and GPU."""
    for device in ("CPU", "CUDA"):
        library.impl(name, kernel, device)


#: Gives the keys that torch's dispatcher includes for this thread. They are others than the usual
#: ones where a transform (vmap, grad), a mode (fake tensors, tracing) or inference mode is on. A
#: torch that does not have this private function gets every call through its dispatcher.
_included = getattr(torch._C, "_dispatch_tls_local_include_set", None)
_function_mode = getattr(torch._C, "_is_torch_function_mode_enabled", None)
_USUAL = _included() if _included is not None else None
with torch.inference_mode():
    _INFERRING = _included() if _included is not None else None


def undispatched(*tensors: Tensor) -> bool:
    """Whether an op's CPU kernel may be called past torch's dispatcher.

    So it is for plain CPU tensors that no derivative, compiler, transform or mode watches: nothing
    would happen on the way, and on small volumes the way takes longer than the kernels.
    """
    if torch.compiler.is_compiling() or _included is None or _function_mode is None:
        return False
    if _included() != _USUAL or _function_mode() or forward_ad._current_level >= 0:
        return False
    recording = torch.is_grad_enabled()
    for tensor in tensors:
        if type(tensor) is not Tensor or not tensor.is_cpu or (recording and tensor.requires_grad):
            return False
        # Some memory does not hold the values: torch negates it on the way (a view's), or fills it.
        if (tensor._base is not None and tensor.is_neg()) or not tensor.data_ptr():
            return False
    return True


def followed() -> bool:
    """Whether a compiler, a transform or a mode (fake tensors, tracing) follows what is done.

    What is made meanwhile belongs to it. A default device and inference mode are no such thing.
    """
    if torch.compiler.is_compiling() or _included is None:
        return True
    return _included() not in (_USUAL, _INFERRING)
