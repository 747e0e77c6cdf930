"""Tensors on the CPU that lie as those on a GPU would: at multiples of 512 bytes.

How many lines of 128 bytes an access touches depends on where a tensor begins. torch's allocator
gives multiples of 512 bytes on a GPU, and of 64 on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

ALIGNMENT = 512

_empty = torch.empty


def aligned(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor's like at a multiple of 512 bytes; itself if it lies there."""
    if tensor.data_ptr() % ALIGNMENT == 0:
        return tensor
    size = tensor.nbytes
    memory = _empty(size + ALIGNMENT, dtype=torch.uint8, device="cpu")
    start = -memory.data_ptr() % ALIGNMENT
    return memory[start : start + size].view(tensor.dtype).view(tensor.shape).copy_(tensor)


class AlignedTensors(TorchFunctionMode):
    """Within it, every function of torch that makes a tensor makes an aligned one."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function, and move what it has made."""
        result = func(*args, **(kwargs or {}))
        return aligned(result) if _is_new(result, args) else result


def _is_new(result: Any, arguments: tuple[Any, ...]) -> bool:
    """Return whether it is a tensor of its own, no view and no argument."""
    if not isinstance(result, Tensor) or not result.is_cpu or result.requires_grad:
        return False
    storage = result.untyped_storage()
    if not result.is_contiguous() or storage.nbytes() != result.nbytes:
        return False
    given = [argument for argument in arguments if isinstance(argument, Tensor)]
    return all(storage.data_ptr() != other.untyped_storage().data_ptr() for other in given)


@contextmanager
def aligned_results() -> Iterator[None]:
    """Let the ops of this package have aligned outputs and workspaces."""

    def empty(*args: Any, **kwargs: Any) -> Tensor:
        return aligned(_empty(*args, **kwargs))

    torch.empty = empty
    try:
        yield
    finally:
        torch.empty = _empty
