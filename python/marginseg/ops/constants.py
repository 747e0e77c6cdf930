"""What an op keeps on a device between calls, so that it is made and copied there once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from marginseg.ops.library import followed


@dataclass
class _Entry:
    tensors: tuple[Tensor, ...]
    #: The streams whose kernels have read them.
    readers: set[Any] = field(default_factory=set)
    #: Whether a captured graph reads them in each replay, so that they must never be freed.
    kept: bool = False

    @property
    def bytes(self) -> int:
        """The memory that they take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def expect(self, reader: Any) -> None:
        """Have torch wait for a stream's kernels before it gives the memory to anybody else."""
        if reader not in self.readers:
            self.readers.add(reader)
            for tensor in self.tensors:
                tensor.record_stream(reader)


class Constants:
    """Tensors that follow from a call's arguments, and that nobody writes to.

    The last ones asked for are remembered, and those that a CUDA graph reads for good. What is
    dropped goes back to torch's allocator; it is told which streams have read it, so that no other
    tensor gets the memory before they are done.

    Args:
        make: ``make(device, *arguments)`` makes them on the device; the arguments can be hashed.
        most: How many are remembered, besides those of graphs.
        most_bytes: How many bytes they may have; the last one is remembered whatever it has.

    """

    def __init__(
        self,
        make: Callable[..., tuple[Tensor, ...]],
        most: int = 64,
        most_bytes: int = 1 << 28,
    ) -> None:
        self._make = make
        self._most = most
        self._most_bytes = most_bytes
        self._entries: OrderedDict[tuple[Hashable, ...], _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, device: torch.device, *arguments: Hashable) -> tuple[Tensor, ...]:
        """Return what ``make`` returns, from memory where it is there."""
        if followed():
            # Real tensors are of no use among fakes, nor fakes anywhere else.
            return self._make(device, *arguments)
        key = (numbered(device), *arguments)
        on_gpu = device.type == "cuda"
        captured = on_gpu and torch.cuda.is_current_stream_capturing()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                entry.kept = entry.kept or captured
        if entry is None:
            # A tensor that is made in inference mode could not be used outside of it.
            with torch.inference_mode(False):
                made = self._make(*key)
            entry = self._remembered(key, _Entry(made))
        if on_gpu and not captured:
            entry.expect(torch.cuda.current_stream(device))
        return entry.tensors

    def _remembered(self, key: tuple[Hashable, ...], entry: _Entry) -> _Entry:
        with self._lock:
            entry = self._entries.setdefault(key, entry)
            forgettable = [old for old, known in self._entries.items() if not known.kept]
            left = self._most_bytes
            for place, old in enumerate(reversed(forgettable)):
                left -= self._entries[old].bytes
                if place >= self._most or (place > 0 and left < 0):
                    del self._entries[old]
        return entry


def numbered(device: torch.device) -> torch.device:
    """Return the device with its number: ``cuda`` alone means another one in another place."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
