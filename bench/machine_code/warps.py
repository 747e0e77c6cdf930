"""The threads of some blocks: their registers, and which of them runs next.

All threads of all blocks stand side by side in arrays, and one instruction is carried out for
whichever of them have reached it. Of each warp, those threads go first whose instruction has the
lowest address, so that threads that took different ways meet again as the compiler laid it out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine_code.listing import TRUE, ZERO_REGISTER, ZERO_UNIFORM
from bench.machine_code.memory import GlobalMemory, SharedMemory

WARP = 32
Words = NDArray[np.uint32]
Mask = NDArray[np.bool_]
Step = Callable[["Warps", Mask], None]

#: Of a thread that waits or has ended; larger than every address.
STOPPED = 1 << 62
#: The parameters' place in constant bank 0.
PARAMETERS = 0x210
BARRIERS = 16


class UnsupportedError(Exception):
    """Machine code asks for what this interpreter does not do; the message names it."""


@dataclass
class Traffic:
    """Transactions with memory.

    Attributes:
        load_sectors: Of 32 bytes, read by warps; those that the caches hold are among them.
        store_sectors: Written or changed atomically.
        lines: Of 128 bytes, looked up for both.
        shared_wavefronts: Accesses to all banks of shared memory.
        constant_reads: Words of the constant banks that threads found by a register.
        touched: The sectors of each block, (block << 48) + sector, access by access.

    """

    load_sectors: int = 0
    store_sectors: int = 0
    lines: int = 0
    shared_wavefronts: int = 0
    constant_reads: int = 0
    touched: list[NDArray[np.int64]] = field(default_factory=list, repr=False)

    def add(self, other: Traffic, first: int) -> None:
        """Add what more blocks did, of which the first has that number."""
        self.load_sectors += other.load_sectors
        self.store_sectors += other.store_sectors
        self.lines += other.lines
        self.shared_wavefronts += other.shared_wavefronts
        self.constant_reads += other.constant_reads
        self.touched += [keys + (first << 48) for keys in other.touched]


class Warps:
    """Some blocks of a launch.

    Attributes:
        registers: By number and thread; those of the uniform datapath too, alike within a warp.
        pc: The address of each thread's next instruction.
        alive: Which threads have not ended.

    """

    def __init__(
        self,
        blocks: NDArray[np.int64],
        threads: int,
        grid: int,
        parameters: bytes,
        constants: dict[int, bytes],
        memory: GlobalMemory,
        shared_bytes: int,
    ) -> None:
        width = -(-threads // WARP) * WARP
        lanes = len(blocks) * width
        self.width = width
        self.block = np.repeat(np.arange(len(blocks)), width)
        self.block_number = np.repeat(blocks, width).astype(np.uint32)
        self.thread = np.tile(np.arange(width, dtype=np.uint32), len(blocks))
        self.registers = np.zeros((ZERO_REGISTER + 1, lanes), np.uint32)
        self.uniform = np.zeros((ZERO_UNIFORM + 1, lanes), np.uint32)
        self.predicates = np.zeros((TRUE + 1, lanes), np.bool_)
        self.uniform_predicates = np.zeros((TRUE + 1, lanes), np.bool_)
        self.predicates[TRUE] = self.uniform_predicates[TRUE] = True
        self.alive = self.thread < threads
        self.pc = np.where(self.alive, 0, STOPPED)
        self.lane = self.thread % WARP
        self.memory = memory
        self.traffic = Traffic()
        self.shared = SharedMemory(len(blocks), shared_bytes)
        sizes = struct.pack("<6I", threads, 1, 1, grid, 1, 1)
        bank = sizes.ljust(PARAMETERS, b"\0") + parameters
        self._banks = {number: _words(content) for number, content in constants.items()}
        self._banks[0] = _words(bank)
        # Convergence barriers: which BSSY a thread takes part in, and who waits at its BSYNC.
        self._opened = np.zeros((BARRIERS, lanes), np.int64)
        self._waits = np.zeros((BARRIERS, lanes), np.bool_)
        self._next_opening = 1
        self._resume = np.zeros(lanes, np.int64)
        self._at_block_barrier = np.zeros(lanes, np.bool_)
        self._at_warp_barrier = np.zeros(lanes, np.bool_)
        self._vote: Callable[[Any], Any] | None = None
        self._voted = np.zeros(lanes, np.bool_)
        self.vote_result = np.zeros(lanes, np.uint32)

    def bank(self, number: int) -> Words:
        """Return the words of a constant bank."""
        if number not in self._banks:
            raise UnsupportedError(f"constant bank {number} is not known")
        return self._banks[number]

    def any_of_warp(self, mask: Mask) -> Mask:
        """Return, for each thread, whether the mask holds anywhere in its warp."""
        return np.repeat(mask.reshape(-1, WARP).any(axis=1), WARP)

    def ballot(self, mask: Mask) -> Words:
        """Return, for each thread, the mask of its warp as bits."""
        bits = np.packbits(mask.reshape(-1, WARP), axis=1, bitorder="little").view(np.uint32)
        return np.repeat(bits[:, 0], WARP)

    def first_of_warp(self, values: Words, mask: Mask) -> Words:
        """Return, for each thread, the value of the first thread of its warp in the mask."""
        first = mask.reshape(-1, WARP).argmax(axis=1)
        rows = values.reshape(-1, WARP)
        return np.repeat(rows[np.arange(len(rows)), first], WARP)

    # Where threads go.

    def jump(self, mask: Mask, target: Any) -> None:
        """Let threads go on at an address."""
        self.pc[mask] = target[mask] if isinstance(target, np.ndarray) else target

    def open_barrier(self, number: int, mask: Mask) -> None:
        """Note who will meet at a BSYNC."""
        self._opened[number][mask] = self._next_opening
        self._next_opening += 1

    def leave_barrier(self, number: int, mask: Mask) -> None:
        """Let threads take no part in a meeting any more."""
        self._opened[number][mask] = 0
        self._release(number)

    def meet(self, number: int, mask: Mask) -> None:
        """Wait until all have come that take part."""
        self._stop(mask)
        self._waits[number] |= mask
        self._release(number)

    def _stop(self, mask: Mask) -> None:
        self._resume[mask] = self.pc[mask]
        self.pc[mask] = STOPPED

    def _go_on(self, mask: Mask) -> None:
        self.pc[mask] = self._resume[mask]

    def _release(self, number: int) -> None:
        waits, opened = self._waits[number], self._opened[number]
        openings = opened[waits]
        if openings.size == 0:
            return
        first = openings[0]
        for opening in [first] if (openings == first).all() else np.unique(openings):
            members = (opened == opening) & self.alive
            free = waits & members & ~self.any_of_warp(members & ~waits)
            self._go_on(free)
            waits[free] = False
            opened[free] = 0

    def end(self, mask: Mask) -> None:
        """Let threads end."""
        self.alive[mask] = False
        self.pc[mask] = STOPPED
        self._opened[:, mask] = 0
        for number in np.flatnonzero(self._waits.any(axis=1)):
            self._release(int(number))
        self._release_warps()

    def wait_for_warp(self, mask: Mask) -> None:
        """Wait until the warp's other threads have come too."""
        self._stop(mask)
        self._at_warp_barrier |= mask
        self._release_warps()

    def _release_warps(self) -> None:
        if not self._at_warp_barrier.any():
            return
        missing = self.alive & ~self._at_warp_barrier
        free = self._at_warp_barrier & ~self.any_of_warp(missing)
        self._go_on(free)
        self._at_warp_barrier[free] = False

    def wait_for_block(
        self, mask: Mask, vote: Callable[[Any], Any] | None = None, voted: Mask | None = None
    ) -> None:
        """Wait until the block's other threads have come too."""
        self._stop(mask)
        self._at_block_barrier |= mask
        self._vote = vote
        if voted is not None:
            self._voted[mask] = voted[mask]

    def release_blocks(self) -> bool:
        """Let blocks go on that wait at a barrier as a whole; return whether there was any."""
        missing = (self.alive & ~self._at_block_barrier).reshape(-1, self.width).any(axis=1)
        free = self._at_block_barrier & ~np.repeat(missing, self.width)
        if not free.any():
            if self.alive.any():
                raise UnsupportedError("threads wait for each other without end")
            return False
        if self._vote is not None:
            votes = (self._voted & free).reshape(-1, self.width)
            present = free.reshape(-1, self.width)
            self.vote_result[free] = np.repeat(self._vote((votes, present)), self.width)[free]
        self._go_on(free)
        self._at_block_barrier[free] = False
        return True


def _words(content: bytes) -> Words:
    return np.frombuffer(content + bytes(-len(content) % 4 + 8), np.uint32)
