"""Instructions that say where threads go on, and those that do nothing here."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.machine_code.listing import LENGTH, Instruction
from bench.machine_code.operations import operation, predicate, predicate_result, words
from bench.machine_code.warps import Mask, Step, UnsupportedError, Warps

#: After these, threads may stand elsewhere than at the next instruction.
CONTROL = frozenset(
    ("BRA", "BRX", "CALL", "RET", "EXIT", "BSSY", "BSYNC", "BREAK", "BAR", "WARPSYNC", "JMP")
)


def _target(instruction: Instruction) -> int:
    return instruction.operands[-1].number


@operation("BRA", "CALL", "JMP", modifiers="REL NOINC ABS DIV U ANY")
def _bra(instruction: Instruction) -> Step:
    target = _target(instruction)
    if "DIV" in instruction.modifiers:
        together = words(instruction.operands[0])

        def if_divergent(warps: Warps, mask: Mask) -> None:
            missing = (warps.ballot(mask) != together(warps)) & mask
            warps.jump(missing, target)

        return if_divergent
    conditions = [predicate(operand) for operand in instruction.operands[:-1]]

    def step(warps: Warps, mask: Mask) -> None:
        for condition in conditions:
            mask = mask & condition(warps)
        warps.jump(mask, target)

    return step


@operation("RET", modifiers="REL NODEC ABS")
def _ret(instruction: Instruction) -> Step:
    source, base = instruction.operands
    read = words(source)
    return lambda warps, mask: warps.jump(mask, read(warps).astype(np.int64) + base.number)


@operation("BRX")
def _brx(instruction: Instruction) -> Step:
    source, offset = instruction.operands
    read = words(source)
    after = instruction.address + LENGTH
    by = np.array([offset.number], np.uint32).view(np.int32).astype(np.int64)
    return lambda warps, mask: warps.jump(
        mask, read(warps).view(np.int32).astype(np.int64) + after + by
    )


@operation("EXIT", modifiers="PREEMPTED KEEPREFCOUNT")
def _exit(instruction: Instruction) -> Step:
    conditions = [predicate(operand) for operand in instruction.operands]

    def step(warps: Warps, mask: Mask) -> None:
        for condition in conditions:
            mask = mask & condition(warps)
        warps.end(mask)

    return step


@operation("BSSY", modifiers="RECONVERGENT")
def _bssy(instruction: Instruction) -> Step:
    number = next(o.number for o in instruction.operands if o.kind == "barrier")
    return lambda warps, mask: warps.open_barrier(number, mask)


@operation("BSYNC", modifiers="RECONVERGENT")
def _bsync(instruction: Instruction) -> Step:
    number = next(o.number for o in instruction.operands if o.kind == "barrier")
    return lambda warps, mask: warps.meet(number, mask)


@operation("BREAK", modifiers="RELIABLE")
def _break(instruction: Instruction) -> Step:
    number = instruction.operands[-1].number
    conditions = [predicate(operand) for operand in instruction.operands[:-1]]

    def step(warps: Warps, mask: Mask) -> None:
        for condition in conditions:
            mask = mask & condition(warps)
        warps.leave_barrier(number, mask)

    return step


@operation("WARPSYNC", modifiers="ALL EXCLUSIVE")
def _warpsync(instruction: Instruction) -> Step:
    return lambda warps, mask: warps.wait_for_warp(mask)


@operation("BAR", modifiers="SYNC DEFER_BLOCKING RED OR AND POPC")
def _bar(instruction: Instruction) -> Step:
    if instruction.operands and instruction.operands[0].number != 0:
        raise ValueError("another barrier than 0")
    if "RED" not in instruction.modifiers:
        return lambda warps, mask: warps.wait_for_block(mask)
    given = predicate(instruction.operands[-1])
    kind = next(name for name in instruction.modifiers if name in ("OR", "AND", "POPC"))

    def vote(votes: Any) -> Any:
        yes, present = votes
        if kind == "OR":
            return yes.any(axis=1)
        return yes.sum(axis=1) if kind == "POPC" else (yes | ~present).all(axis=1)

    return lambda warps, mask: warps.wait_for_block(mask, vote, given(warps))


@operation("B2R", modifiers="RESULT")
def _b2r(instruction: Instruction) -> Step:
    if len(instruction.operands) != 2:
        raise ValueError("another form")
    put = predicate_result(instruction.operands[1])
    return lambda warps, mask: put(warps, mask, warps.vote_result != 0)


@operation(
    "NOP",
    "YIELD",
    "MEMBAR",
    "ERRBAR",
    "CGAERRBAR",
    "CCTL",
    "DEPBAR",
    "NANOSLEEP",
    "ACQBULK",
    "PREEXIT",
    modifiers=None,
)
def _nothing(instruction: Instruction) -> Step:
    return lambda warps, mask: None


@operation("BPT", modifiers=None)
def _trap(instruction: Instruction) -> Step:
    def step(warps: Warps, mask: Mask) -> None:
        raise UnsupportedError("the kernel stops itself: BPT")

    return step
