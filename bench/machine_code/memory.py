"""Memory as the machine code sees it: the process's own, which is never written, and shared memory.

How many transactions an access takes is counted here too.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Addresses = NDArray[np.int64]
Bytes = NDArray[np.uint8]

PAGE = 4096
SECTOR = 32
LINE = 128
#: The upper half of the addresses by which generic accesses find shared memory; no process has it.
SHARED_WINDOW = 1 << 24


class MemoryFaultError(Exception):
    """An access to what is no memory, or that is not aligned."""


def _process_memory() -> Bytes:
    # All addresses that a process of 64 bits can have; only what is mapped is ever touched.
    everything = ctypes.c_uint8 * (1 << 47)
    return np.ctypeslib.as_array(everything.from_address(PAGE))


class GlobalMemory:
    """The process's memory, on which the pages that are written lie as copies."""

    def __init__(self) -> None:
        self._process = _process_memory()
        self._spans: tuple[Addresses, Addresses] | None = None
        self._slots: dict[int, int] = {}
        self._pages = np.zeros((0, PAGE), np.uint8)
        self._written = np.zeros((0, PAGE), np.bool_)

    def _mapped(self) -> tuple[Addresses, Addresses]:
        """Return where the process's readable memory begins and ends, span by span."""
        if self._spans is None:
            maps = Path("/proc/self/maps").read_text().splitlines()
            spans = [line.split()[0].split("-") for line in maps if line.split()[1][0] == "r"]
            starts, ends = (
                np.array([int(x, 16) for x in side], np.int64) for side in zip(*spans, strict=True)
            )
            self._spans = starts, ends
        return self._spans

    def _check(self, addresses: Addresses, width: int) -> None:
        if (addresses % width).any():
            raise MemoryFaultError(f"{width} bytes at an address that is no multiple of {width}")
        starts, ends = self._mapped()
        span = np.searchsorted(starts, addresses, "right") - 1
        bad = (span < 0) | (addresses + width > ends[span])
        if bad.any():
            raise MemoryFaultError(f"no memory at {addresses[bad][0]:#x}")

    def _slots_of(self, addresses: Addresses) -> NDArray[np.int64]:
        pages, inverse = np.unique(addresses // PAGE, return_inverse=True)
        return np.array([self._slots.get(int(page), -1) for page in pages])[inverse]

    def read(self, addresses: Addresses, width: int) -> Bytes:
        """Return `width` bytes at each address."""
        self._check(addresses, width)
        places = addresses[:, None] + np.arange(width)
        values = self._process[places - PAGE]
        if self._slots:
            slots = self._slots_of(addresses)
            copied = slots >= 0
            values[copied] = self._pages[slots[copied, None], places[copied] % PAGE]
        return values

    def write(self, addresses: Addresses, values: Bytes) -> None:
        """Write a row of bytes at each address, onto copies."""
        width = values.shape[1]
        self._check(addresses, width)
        for page in np.unique(addresses // PAGE):
            if int(page) not in self._slots:
                self._copy(int(page))
        slots = self._slots_of(addresses)[:, None]
        places = (addresses[:, None] + np.arange(width)) % PAGE
        self._pages[slots, places] = values
        self._written[slots, places] = True

    def _copy(self, page: int) -> None:
        slot = len(self._slots)
        if slot == len(self._pages):
            more = max(16, slot)
            self._pages = np.concatenate([self._pages, np.zeros((more, PAGE), np.uint8)])
            self._written = np.concatenate([self._written, np.zeros((more, PAGE), np.bool_)])
        self._pages[slot] = self._process[page * PAGE - PAGE : page * PAGE]
        self._slots[page] = slot

    def differences(self) -> tuple[int, int]:
        """Return how many bytes were written, and how many of them the process has otherwise."""
        total = different = 0
        for page, slot in self._slots.items():
            written = self._written[slot]
            theirs = self._process[page * PAGE - PAGE : page * PAGE]
            total += int(written.sum())
            different += int((written & (theirs != self._pages[slot])).sum())
        return total, different


class SharedMemory:
    """The shared memory of some blocks, each from 0."""

    def __init__(self, blocks: int, size: int) -> None:
        self._size = size
        # Whoever reads what nobody wrote shall notice.
        self._bytes = np.full(blocks * size, 0xA5, np.uint8)

    def _places(self, blocks: NDArray[Any], addresses: Addresses, width: int) -> NDArray[np.int64]:
        # Bits 24 and up number the blocks of a cluster; here every block is a cluster of its own.
        if (addresses % width).any():
            raise MemoryFaultError(f"{width} shared bytes at no multiple of {width}")
        beyond = (addresses < 0) | (addresses + width > self._size)
        if beyond.any():
            place = addresses[beyond][0]
            raise MemoryFaultError(f"{place:#x} in {self._size:#x} bytes of shared memory")
        return (blocks * self._size + addresses)[:, None] + np.arange(width)

    def read(self, blocks: NDArray[Any], addresses: Addresses, width: int) -> Bytes:
        return self._bytes[self._places(blocks, addresses, width)]

    def write(self, blocks: NDArray[Any], addresses: Addresses, values: Bytes) -> None:
        self._bytes[self._places(blocks, addresses, values.shape[1])] = values


def sectors(warps: NDArray[Any], addresses: Addresses) -> int:
    """Return how many sectors of 32 bytes the warps touch."""
    return np.unique((warps.astype(np.int64) << 48) | (addresses // SECTOR)).size


def lines(warps: NDArray[Any], lanes: NDArray[Any], addresses: Addresses, width: int) -> int:
    """Return how many lines of 128 bytes are looked up, 128 bytes of the lanes at a time."""
    phase = _phase(lanes, width)
    key = (warps.astype(np.int64) * 4 + phase << 44) | (addresses // LINE)
    return np.unique(key).size


def wavefronts(warps: NDArray[Any], lanes: NDArray[Any], addresses: Addresses, width: int) -> int:
    """Return how often shared memory, which gives 32 banks of 4 bytes a clock, is accessed.

    Lanes whose words lie in one bank take turns, unless they want the same word. Accesses of 8 or
    16 bytes go by halves or quarters of a warp, which get 128 bytes at a time.
    """
    words = max(1, width // 4)
    turn = warps.astype(np.int64) * 4 + _phase(lanes, width)
    word = (addresses // 4)[:, None] + np.arange(words)
    key = np.unique((turn[:, None] << 32 | word).ravel())
    turns = key >> 32
    first = turns.min()
    counts = np.bincount((turns - first) * 32 + (key & 31))
    return int(np.pad(counts, (0, -len(counts) % 32)).reshape(-1, 32).max(axis=1).sum())


def _phase(lanes: NDArray[Any], width: int) -> NDArray[np.int64]:
    return lanes.astype(np.int64) * max(1, width // 4) // 32
