"""Some blocks of a kernel, executed: what they write, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# The modules register what they know.
from bench.machine_code import accesses, bits, control, floats, integers  # noqa: F401
from bench.machine_code.control import CONTROL
from bench.machine_code.listing import LENGTH, Instruction, Kernel
from bench.machine_code.memory import GlobalMemory, MemoryFaultError
from bench.machine_code.operations import predicate, step_of
from bench.machine_code.warps import STOPPED, WARP, Mask, Step, Traffic, UnsupportedError, Warps

#: So many blocks stand side by side.
GROUP = 48


@dataclass(frozen=True)
class Launch:
    """A kernel's launch, as the emulated build records it."""

    kernel: str
    blocks: int
    threads: int
    parameters: bytes


@dataclass
class Execution:
    """What some blocks have done.

    Attributes:
        blocks: How many.
        issued: How often the warps issued each instruction, by its index.
        traffic: Their transactions.

    """

    kernel: Kernel
    launch: Launch
    blocks: int
    issued: list[int]
    memory: GlobalMemory
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def instructions(self) -> float:
        """Warp instructions of a block."""
        return sum(self.issued) / self.blocks


class Program:
    """A kernel, made ready to run."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._steps: list[Step | None] = [None] * len(kernel.instructions)
        self._guards = [
            predicate(instruction.guard) if instruction.guard else None
            for instruction in kernel.instructions
        ]
        self._is_control = [i.name in CONTROL for i in kernel.instructions]

    def _step(self, index: int) -> Step:
        step = self._steps[index]
        if step is None:
            # Only what is reached has to be known.
            step = self._steps[index] = step_of(self.kernel.instructions[index])
        return step

    def run(self, launch: Launch, blocks: Sequence[int], limit: int = 10_000_000) -> Execution:
        """Execute some blocks of a launch, one group after the other on the same memory.

        Raises:
            UnsupportedError: Something is not understood, or a group took more than `limit` steps.

        """
        memory, traffic = GlobalMemory(), Traffic()
        issued = [0] * len(self.kernel.instructions)
        for first in range(0, len(blocks), GROUP):
            group = np.array(blocks[first : first + GROUP], np.int64)
            warps = Warps(
                group,
                launch.threads,
                launch.blocks,
                launch.parameters,
                self.kernel.constants,
                memory,
                self.kernel.shared,
            )
            self._run_group(warps, issued, limit)
            traffic.add(warps.traffic, first)
        return Execution(self.kernel, launch, len(blocks), issued, memory, traffic)

    def _run_group(self, warps: Warps, issued: list[int], limit: int) -> None:
        steps = 0
        with np.errstate(all="ignore"):
            while True:
                at = int(warps.pc.min())
                if at == STOPPED:
                    if not warps.release_blocks():
                        return
                    continue
                steps += self._run_together(warps, at, issued)
                if steps > limit:
                    raise UnsupportedError(f"{self.kernel.name}: more than {limit} steps")

    def _run_together(self, warps: Warps, at: int, issued: list[int]) -> int:
        """Let those threads run that stand at an address, until others join or they part."""
        mask: Mask = warps.pc == at
        count = int(mask.reshape(-1, WARP).any(axis=1).sum())
        others = int(np.where(mask, STOPPED, warps.pc).min())
        index = first = at // LENGTH
        while True:
            guard = self._guards[index]
            active = mask if guard is None else mask & guard(warps)
            issued[index] += count
            if self._is_control[index]:
                warps.pc[mask] = (index + 1) * LENGTH
                if guard is None or active.any():
                    self._carry_out(index, warps, active)
                return index - first + 1
            if guard is None or active.any():
                self._carry_out(index, warps, active)
            index += 1
            if index * LENGTH == others:
                warps.pc[mask] = others
                return index - first

    def _carry_out(self, index: int, warps: Warps, mask: Mask) -> None:
        try:
            self._step(index)(warps, mask)
        except (UnsupportedError, MemoryFaultError, ValueError, IndexError) as error:
            where = _where(self.kernel, self.kernel.instructions[index])
            raise UnsupportedError(f"{where}: {error}") from error


def _where(kernel: Kernel, instruction: Instruction) -> str:
    return f"{kernel.name} at {instruction.address:#x}, {instruction.text}"
