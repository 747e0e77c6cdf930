"""The ops on the batches that a GPU would be timed on, and the counts of their launches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import torch

from bench.case import Size, organ
from bench.gpu.cases import DeviceCase, Rival, batches
from bench.machine_code.alignment import AlignedTensors, aligned
from bench.machine_code.estimate import Card, KernelCost
from bench.machine_code.execution import Launch, Program
from bench.machine_code.listing import Code, Kernel
from bench.machine_code.recording import Recorder
from bench.machine_code.warps import UnsupportedError
from marginseg import GaussianFieldNoise

#: Of each launch, so many runs of neighbouring blocks are executed, of so many blocks each.
RUNS, RUN = 6, 8
#: Where all blocks are needed, they are up to so many.
MOST = 2048

#: Of a batch, so many entries are made.
ENTRIES = 2

#: Ops whose kernels go by what the ones before have found: those are run before the next.
DEPENDENT = ("dice_threshold",)


@dataclass(frozen=True)
class OpCost:
    """The launches of one call.

    Attributes:
        case: Perhaps of fewer entries.
        size: The whole batch.

    """

    case: DeviceCase
    size: Size
    moved_bytes: float
    launches: tuple[KernelCost, ...]

    @property
    def voxels(self) -> int:
        return self.size.voxels

    @property
    def single(self) -> bool:
        """Whether it is one volume, whose target is a time."""
        return self.size.batch == 0

    def byte_seconds(self, launch: KernelCost, card: Card) -> float:
        """Return the time of a launch's bytes.

        Where it is the only one, they are those that no implementation can leave out: what blocks
        read of each other's surroundings lies in the second-level cache.
        """
        if len(self.launches) == 1:
            return self.moved_bytes / card.bandwidth
        return launch.byte_seconds(card)

    def seconds(self, card: Card) -> float:
        """Return the estimate: for each launch the longest of its times."""
        return sum(
            max(self.byte_seconds(launch, card), launch.execution_seconds(card))
            for launch in self.launches
        )

    @property
    def yardstick(self) -> Rival | None:
        """What the call is to take at most so many times as long as."""
        return next((rival for rival in self.case.rivals if rival.longer is not None), None)


def cases(size: Size) -> Iterator[DeviceCase]:
    """Those of bench/gpu that call kernels of this package alone, and marginals of a wide field."""
    found = batches(size)
    while True:
        with AlignedTensors():
            case = next(found, None)
        if case is None:
            break
        if "sort" not in case.setting and "gradients" not in case.op:
            yield case
    label = aligned(organ(size) > 0)
    noise = GaussianFieldNoise(std=0.06, spatial_dims=3)
    moved = 5.0 * size.voxels
    yield DeviceCase(
        "marginals", "bool, std 0.06", size.name, moved, lambda i: lambda: noise.marginals(label)
    )


def chosen_blocks(kernel: Kernel, blocks: int) -> tuple[list[int], int]:
    """Return blocks spread over a launch, and how many at a time are neighbours.

    They are all of them where a block may be told by an atomic operation that it is the last.
    """
    few = MOST if any(i.name in ("ATOM", "ATOMG") for i in kernel.instructions) else RUNS * RUN
    if blocks <= few:
        return list(range(blocks)), blocks
    draw = Random(0)
    runs = blocks // RUN
    parts = [round(part * runs / RUNS) for part in range(RUNS + 1)]
    starts = [RUN * draw.randrange(*part) for part in pairwise(parts)]
    return [start + i for start in starts for i in range(RUN)], RUN


class Counter:
    """Executes some blocks of every launch of a call."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._recorder = Recorder()
        self._programs: dict[str, Program] = {}

    def ops(self, size: Size, only: str = "") -> Iterator[OpCost]:
        """Count the launches of a call of each op whose name or setting contains `only`."""
        if not size.batch:
            for case in cases(size):
                if only in name_of(case):
                    yield OpCost(case, size, case.moved_bytes, self.launches(case))
            return
        one, two = (cases(size._replace(batch=batch)) for batch in (1, ENTRIES))
        for single, case in zip(one, two, strict=True):
            if only in name_of(case):
                launches = self.launches(case)
                blocks = self._whole(case, self._blocks(single), launches, size.batch)
                whole = (replace(cost, blocks=n) for cost, n in zip(launches, blocks, strict=True))
                moved = case.moved_bytes * size.batch / ENTRIES
                yield OpCost(case, size, moved, tuple(whole))

    def launches(self, case: DeviceCase) -> tuple[KernelCost, ...]:
        """Count the launches of a call."""
        found: list[KernelCost] = []

        def before(launch: Launch) -> bool:
            program = self._program(launch.kernel)
            blocks, run = chosen_blocks(program.kernel, launch.blocks)
            found.append(KernelCost(program.run(launch, blocks), run, launch.blocks))
            return case.op in DEPENDENT

        torch.manual_seed(0)
        call = case.ours(0)
        with self._recorder.recording(before):
            call()
        return tuple(found)

    def _blocks(self, case: DeviceCase) -> list[int]:
        """Return the blocks of a call's launches, of which none runs."""
        found: list[int] = []

        def before(launch: Launch) -> bool:
            found.append(launch.blocks)
            return False

        call = case.ours(0)
        with self._recorder.recording(before):
            call()
        return found

    @staticmethod
    def _whole(
        case: DeviceCase, of_one: list[int], launches: tuple[KernelCost, ...], batch: int
    ) -> list[int]:
        """Return the blocks of a whole batch's launches: so many more for each further entry."""
        if len(of_one) != len(launches):
            raise UnsupportedError(f"{name_of(case)}: an entry alone has other launches")
        return [
            few + (launch.blocks - few) * (batch - 1) // (ENTRIES - 1)
            for few, launch in zip(of_one, launches, strict=True)
        ]

    def _program(self, name: str) -> Program:
        if name not in self._programs:
            self._programs[name] = Program(self._code.kernel(name))
        return self._programs[name]


def name_of(case: DeviceCase) -> str:
    return f"{case.op}, {case.setting}"
