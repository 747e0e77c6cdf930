"""From counts to time: what the issue of instructions, the pipes and the bytes allow."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.machine_code.execution import Execution
from bench.machine_code.listing import Instruction
from bench.machine_code.memory import SECTOR
from bench.machine_code.warps import WARP


@dataclass(frozen=True)
class Card:
    """A GPU of compute capability 9.0.

    Attributes:
        clock: In hertz, at full load.
        bandwidth: Bytes a second, read and written, of a device-to-device copy.

    """

    name: str
    bandwidth: float
    multiprocessors: int = 132
    clock: float = 1.755e9


CARDS = (Card("H100", 2.9e12), Card("H200", 4.2e12))

#: The part of its peak that a pipe, or the issue, is taken to reach.
REACHED = 0.75

#: Warp instructions that a multiprocessor can issue in a clock: one for each of its schedulers.
ISSUE = 4.0
#: Warp instructions, or accesses, that a pipe takes in a clock of a multiprocessor: lanes / 32 of
#: the table "Throughput of Native Arithmetic Instructions" of NVIDIA's CUDA C++ programming guide,
#: compute capability 9.0. Integer multiply-adds take half of the pipes that floats have. For
#: conversions between types of 32 bits it may be four times as many: the slower are assumed.
PIPES = {
    "float": 4.0,
    "multiply": 2.0,
    "integer": 2.0,
    "double": 2.0,
    "conversion": 0.5,
    "memory": 1.0,
}

_PIPE_OF = {
    "float": "FADD FMUL FFMA HADD2 HMUL2 HFMA2",
    "multiply": "IMAD IDP",
    "double": "DADD DMUL DFMA DSETP",
    "conversion": "F2I I2F F2F FRND MUFU POPC FLO BREV",
    "memory": "LDG STG LD ST LDS STS LDC ATOMG ATOM ATOMS REDG RED SHFL",
    "control": "BRA BRX CALL RET EXIT BSSY BSYNC BREAK BAR WARPSYNC NOP YIELD B2R MEMBAR ERRBAR "
    "CGAERRBAR CCTL DEPBAR NANOSLEEP BPT",
    "uniform": "R2UR S2UR S2R CS2R VOTEU",
}
_BY_NAME = {name: pipe for pipe, names in _PIPE_OF.items() for name in names.split()}


def pipe_of(instruction: Instruction) -> str:
    """Return the pipe of an instruction; what is not listed is integer, logic or comparison."""
    name = instruction.name
    if name in _BY_NAME:
        return _BY_NAME[name]
    uniform = name.startswith("U") and any(
        o.kind.startswith("uniform") for o in instruction.operands
    )
    return "uniform" if uniform else "integer"


@dataclass(frozen=True)
class KernelCost:
    """What a launch costs, from some of its blocks.

    Attributes:
        execution: The blocks that were executed.
        run: So many of them at a time are neighbours, whose common sectors count once.
        blocks: Of the launch.

    """

    execution: Execution
    run: int
    blocks: int

    @property
    def instructions(self) -> float:
        """Warp instructions of the launch."""
        return self.execution.instructions * self.blocks

    @cached_property
    def by_pipe(self) -> Counter[str]:
        """Warp instructions of the launch, by pipe; for memory, accesses."""
        counts: Counter[str] = Counter()
        execution = self.execution
        shuffles = 0
        for count, instruction in zip(execution.issued, execution.kernel.instructions, strict=True):
            counts[pipe_of(instruction)] += count
            shuffles += count if instruction.name == "SHFL" else 0
        traffic = execution.traffic
        accesses = traffic.lines + traffic.shared_wavefronts + traffic.constant_reads + shuffles
        counts["memory"] = max(counts["memory"], accesses)
        scale = self.blocks / execution.blocks
        return Counter({pipe: round(count * scale) for pipe, count in counts.items()})

    @cached_property
    def bytes(self) -> float:
        """Bytes that reach device memory if neighbouring blocks share what the caches hold."""
        touched = self.execution.traffic.touched
        if not touched:
            return 0.0
        keys = np.concatenate(touched)
        sector = keys & ((1 << 48) - 1)
        sectors = np.unique((keys >> 48) // self.run << 48 | sector).size
        return sectors * SECTOR * self.blocks / self.execution.blocks

    @property
    def resident_blocks(self) -> int:
        """Blocks that a multiprocessor holds at once: by registers, shared memory and warps."""
        kernel, warps = self.execution.kernel, -(-self.execution.launch.threads // WARP)
        registers = -(-kernel.registers // 8) * 8 * WARP * warps
        # 1 KB of it is the machine's own, also where the kernel has none.
        shared = max(kernel.shared, 1024)
        return min(65536 // registers, 233472 // shared, 64 // warps, 32)

    @property
    def occupancy(self) -> float:
        """The part of a multiprocessor's 64 warps that is in use."""
        return self.resident_blocks * -(-self.execution.launch.threads // WARP) / 64

    def _clocks(self, per_clock: float, count: float, card: Card) -> float:
        """Return the clocks of the multiprocessor that gets the most blocks."""
        share = math.ceil(self.blocks / card.multiprocessors) / self.blocks
        return count * share / per_clock

    def issue_seconds(self, card: Card) -> float:
        """Return the least time in which all instructions are issued."""
        return self._clocks(ISSUE, self.instructions, card) / card.clock

    def pipe_seconds(self, card: Card) -> tuple[float, str]:
        """Return the least time of the busiest pipe, and its name."""
        counts = self.by_pipe
        # Multiplies of integers go through the pipes of the floats.
        loads = {pipe: counts[pipe] for pipe in PIPES}
        loads["float"] += loads["multiply"]
        return max(
            (self._clocks(PIPES[pipe], load, card) / card.clock, pipe)
            for pipe, load in loads.items()
        )

    def byte_seconds(self, card: Card) -> float:
        """Return the time of its bytes."""
        return self.bytes / card.bandwidth

    def execution_seconds(self, card: Card) -> float:
        """Return the time of its instructions, at the part of the peak that is reached."""
        return max(self.issue_seconds(card), self.pipe_seconds(card)[0]) / REACHED
