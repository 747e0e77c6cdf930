"""Instructions on memory, and those by which threads hear of each other and of their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.machine_code import memory
from bench.machine_code.listing import ZERO_REGISTER, Instruction, Operand
from bench.machine_code.operations import (
    operation,
    pair_result,
    predicate,
    predicate_result,
    result,
    split,
    upper,
    words,
)
from bench.machine_code.warps import WARP, Mask, Step, UnsupportedError, Warps

WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
_SIZES = " ".join(WIDTHS)


def _width(instruction: Instruction) -> int:
    return next((WIDTHS[name] for name in instruction.modifiers if name in WIDTHS), 4)


def _address(operand: Operand) -> Callable[[Warps, Mask], Any]:
    """Read the addresses of the threads in a mask."""
    terms = []
    for register in operand.registers:
        low = words(register)
        scale = int(register.part[1:]) if register.part.startswith("X") else 1
        high = words(upper(register)) if "64" in register.part.split(".") else None
        terms.append((low, high, scale))
    offset = operand.offset

    def addresses(warps: Warps, mask: Mask) -> Any:
        total = np.full(warps.pc.size, offset, np.int64)
        for low, high, scale in terms:
            total += low(warps).astype(np.int64) * scale
            if high is not None:
                total += high(warps).astype(np.int64) << 32
        total = total[mask]
        if all(high is None for _, high, _ in terms):
            return total & 0xFFFFFFFF
        return total

    return addresses


def _places(operands: list[Operand]) -> Operand:
    return next(operand for operand in operands if operand.kind == "address")


def _registers(operand: Operand, width: int) -> list[Operand]:
    if operand.number == ZERO_REGISTER:
        return [operand] * max(1, width // 4)
    return [Operand(operand.kind, operand.number + i) for i in range(max(1, width // 4))]


def _extended(values: Any, instruction: Instruction) -> Any:
    """Return rows of words of rows of bytes."""
    width = values.shape[1]
    if width >= 4:
        return np.ascontiguousarray(values).view(np.uint32)
    signs = "i" if {"S8", "S16"} & set(instruction.modifiers) else "u"
    numbers = np.ascontiguousarray(values).view(f"{signs}{width}")
    return numbers.astype(np.int64).astype(np.uint32)


_GLOBAL = "E CONSTANT STRONG WEAK GPU SYS CTA EF EL LU NA"


@operation("LDG", "LD", "LDS", modifiers=f"{_SIZES} {_GLOBAL}")
def _load(instruction: Instruction) -> Step:
    width = _width(instruction)
    puts = [result(part) for part in _registers(instruction.operands[0], width)]
    read = _address(_places(list(instruction.operands)))

    def step(warps: Warps, mask: Mask) -> None:
        places = read(warps, mask)
        values = np.zeros((places.size, width), np.uint8)
        for which, at, shared in _spaces(instruction, places):
            here = _part(mask, which)
            if shared:
                values[which] = warps.shared.read(warps.block[here], at, width)
            else:
                values[which] = warps.memory.read(at, width)
            _count(warps, here, at, width, "shared" if shared else "load")
        rows = _extended(values, instruction)
        for column, put in enumerate(puts):
            whole = np.zeros(warps.pc.size, np.uint32)
            whole[mask] = rows[:, column]
            put(warps, mask, whole)

    return step


def _spaces(instruction: Instruction, places: Any) -> Iterator[tuple[Mask, Any, bool]]:
    """Yield which addresses lie in global and in shared memory, and those within it."""
    if instruction.name not in ("LD", "ST"):
        yield np.ones(places.size, np.bool_), places, instruction.name in ("LDS", "STS")
        return
    shared = places >> 32 == memory.SHARED_WINDOW
    if not shared.all():
        yield ~shared, places[~shared], False
    if shared.any():
        yield shared, places[shared] & 0xFFFFFFFF, True


def _part(mask: Mask, which: Mask) -> Mask:
    part = np.zeros_like(mask)
    part[np.flatnonzero(mask)[which]] = True
    return part


@operation("STG", "ST", "STS", modifiers=f"{_SIZES} {_GLOBAL}")
def _store(instruction: Instruction) -> Step:
    width = _width(instruction)
    gives = [words(part) for part in _registers(instruction.operands[1], width)]
    read = _address(instruction.operands[0])

    def step(warps: Warps, mask: Mask) -> None:
        places = read(warps, mask)
        rows = np.stack([np.broadcast_to(give(warps), mask.shape)[mask] for give in gives], axis=1)
        values = np.ascontiguousarray(rows).view(np.uint8)[:, :width]
        for which, at, shared in _spaces(instruction, places):
            here = _part(mask, which)
            _count(warps, here, at, width, "shared" if shared else "store")
            if shared:
                warps.shared.write(warps.block[here], at, values[which])
            else:
                warps.memory.write(at, values[which])

    return step


def _count(warps: Warps, mask: Mask, places: Any, width: int, what: str) -> None:
    if not places.size:
        return
    warp = np.flatnonzero(mask) // WARP
    lanes = warps.lane[mask]
    traffic = warps.traffic
    if what == "shared":
        traffic.shared_wavefronts += memory.wavefronts(warp, lanes, places, width)
        return
    found = memory.sectors(warp, places)
    if what == "load":
        traffic.load_sectors += found
    else:
        traffic.store_sectors += found
    traffic.lines += memory.lines(warp, lanes, places, width)
    blocks = warps.block[mask].astype(np.int64)
    traffic.touched.append(np.unique(blocks << 48 | places // memory.SECTOR))


_INTEGERS: dict[str, Callable[[Any, Any], Any]] = {
    "ADD": lambda old, value: old + value,
    "MAX": max,
    "MIN": min,
    "OR": lambda old, value: old | value,
    "AND": lambda old, value: old & value,
    "XOR": lambda old, value: old ^ value,
    "EXCH": lambda old, value: value,
}


@operation(
    "ATOMG",
    "ATOM",
    "ATOMS",
    "REDG",
    "RED",
    modifiers=f"{_GLOBAL} {' '.join(_INTEGERS)} POPC INC CAST SPIN 32 64 S32 S64 F32 F64 FTZ RN",
)
def _atomic(instruction: Instruction) -> Step:
    """Change memory thread by thread, in their order."""
    modifiers = set(instruction.modifiers)
    width = 8 if modifiers & {"64", "S64", "F64"} else 4
    if "CAST" in modifiers:
        return _compare_and_set(instruction, width)
    code = "f" if modifiers & {"F32", "F64"} else "i" if modifiers & {"S32", "S64"} else "u"
    kind = np.dtype(f"{code}{width}")
    name = next((name for name in instruction.modifiers if name in _INTEGERS), None)
    counts = "POPC" in modifiers
    if name is None and not counts:
        raise ValueError("another atomic operation")
    combine = _INTEGERS["ADD" if counts or name is None else name]
    _, operands, _ = split((Operand("name"), *instruction.operands))
    place = next(i for i, operand in enumerate(operands) if operand.kind == "address")
    read = _address(operands[place])
    gives = [] if counts else [words(part) for part in _registers(operands[place + 1], width)]
    puts = [result(part) for part in _registers(operands[0], width)] if place else []
    shared = instruction.name == "ATOMS"

    def step(warps: Warps, mask: Mask) -> None:
        places = read(warps, mask)
        blocks = warps.block[mask]
        if counts:
            values = np.ones(len(places), kind)
        else:
            rows = np.stack(
                [np.broadcast_to(give(warps), mask.shape)[mask] for give in gives], axis=1
            )
            values = np.ascontiguousarray(rows).view(kind)[:, 0]
        olds = np.zeros(len(places), kind)
        for i in range(len(places)):
            at, block = places[i : i + 1], blocks[i : i + 1]
            bits = warps.shared.read(block, at, width) if shared else warps.memory.read(at, width)
            olds[i] = bits.view(kind)[0, 0]
            new = np.array([[combine(olds[i], values[i])]], kind).view(np.uint8)
            if shared:
                warps.shared.write(block, at, new)
            else:
                warps.memory.write(at, new)
        # Threads that add to one place take turns.
        key = blocks.astype(np.int64) << 48 | places if shared else places
        _, turns = np.unique(key, return_counts=True)
        if shared:
            warps.traffic.shared_wavefronts += int(turns.max()) if turns.size else 0
        else:
            _count(warps, mask, places, width, "store")
        for column, put in enumerate(puts):
            whole = np.zeros(warps.pc.size, np.uint32)
            whole[mask] = olds.view(np.uint32).reshape(len(olds), -1)[:, column]
            put(warps, mask, whole)

    return step


def _compare_and_set(instruction: Instruction, width: int) -> Step:
    """Change shared memory where it still holds what is expected, and say whether it did."""
    if instruction.name != "ATOMS":
        raise ValueError("a comparison in global memory")
    to, place, expected, new = instruction.operands
    puts = [result(part) for part in _registers(to, width)]
    read = _address(place)
    expects, sets = ([words(part) for part in _registers(o, width)] for o in (expected, new))

    def step(warps: Warps, mask: Mask) -> None:
        places, blocks = read(warps, mask), warps.block[mask]
        olds, news = (
            np.stack([np.broadcast_to(give(warps), mask.shape)[mask] for give in gives], axis=1)
            .view(np.uint8)
            .reshape(len(places), width)
            for gives in (expects, sets)
        )
        changed = np.zeros(mask.size, np.uint32)
        for i, lane in enumerate(np.flatnonzero(mask)):
            at, block = places[i : i + 1], blocks[i : i + 1]
            if (warps.shared.read(block, at, width) == olds[i]).all():
                warps.shared.write(block, at, news[i : i + 1])
                changed[lane] = 1
        _, turns = np.unique(blocks.astype(np.int64) << 48 | places, return_counts=True)
        warps.traffic.shared_wavefronts += int(turns.max()) if turns.size else 0
        for put, value in zip(puts, (changed, np.zeros_like(changed)), strict=False):
            put(warps, mask, value)

    return step


@operation("LDC", modifiers=f"{_SIZES}")
def _load_constant(instruction: Instruction) -> Step:
    to, source = instruction.operands
    width = _width(instruction)
    puts = [result(part) for part in _registers(to, width)]
    read = _address(source)
    number = source.number

    def step(warps: Warps, mask: Mask) -> None:
        bank = warps.bank(number).view(np.uint8)
        places = read(warps, np.ones_like(mask)) if source.registers else np.array([source.offset])
        places = np.where((places >= 0) & (places + width <= bank.size), places, 0)
        rows = _extended(bank[places[:, None] + np.arange(width)], instruction)
        if source.registers:
            used = places[mask]
            warp = np.flatnonzero(mask) // WARP
            # Different words of a warp are read one after another.
            warps.traffic.constant_reads += np.unique(warp << 32 | used // 4).size
        for column, put in enumerate(puts):
            put(warps, mask, rows[:, column])

    return step


_HIDDEN = {
    "SR_SWINHI": memory.SHARED_WINDOW,
    "SR_CgaCtaId": 0,
    "SRZ": 0,
    "SR_TID.Y": 0,
    "SR_TID.Z": 0,
    "SR_CTAID.Y": 0,
    "SR_CTAID.Z": 0,
}


def _special(name: str, warps: Warps) -> Any:
    if name == "SR_TID.X":
        return warps.thread
    if name == "SR_CTAID.X":
        return warps.block_number
    if name == "SR_LANEID":
        return warps.lane
    one = np.uint64(1)
    bit = one << warps.lane.astype(np.uint64)
    masks = {
        "SR_EQMASK": bit,
        "SR_LTMASK": bit - one,
        "SR_LEMASK": 2 * bit - one,
        "SR_GEMASK": ~(bit - one),
        "SR_GTMASK": ~(2 * bit - one),
    }
    if name in masks:
        return masks[name].astype(np.uint32)
    if name in _HIDDEN:
        return np.full(warps.pc.size, _HIDDEN[name], np.uint32)
    raise UnsupportedError(f"unknown special register {name}")


@operation("S2R", "S2UR")
def _s2r(instruction: Instruction) -> Step:
    to, source = instruction.operands
    put = result(to)
    return lambda warps, mask: put(warps, mask, _special(source.text, warps))


@operation("CS2R", modifiers="32")
def _cs2r(instruction: Instruction) -> Step:
    to, source = instruction.operands
    if "32" in instruction.modifiers:
        return _s2r(instruction)
    put = pair_result(to)
    return lambda warps, mask: put(warps, mask, _special(source.text, warps).astype(np.uint64))


@operation("R2UR", modifiers="BROADCAST")
def _r2ur(instruction: Instruction) -> Step:
    to, source = instruction.operands[-2:]
    put, read = result(to), words(source)
    return lambda warps, mask: put(warps, mask, warps.first_of_warp(read(warps), mask))


@operation("VOTE", modifiers="ANY ALL EQ")
def _vote(instruction: Instruction) -> Step:
    *to, source = instruction.operands
    holds = predicate(source)
    kind = instruction.modifiers[0]
    puts = [
        (predicate_result(operand), True) if operand.is_predicate else (result(operand), False)
        for operand in to
    ]

    def step(warps: Warps, mask: Mask) -> None:
        yes = warps.any_of_warp(holds(warps) & mask)
        no = warps.any_of_warp(~holds(warps) & mask)
        answer = {"ANY": yes, "ALL": ~no, "EQ": ~(yes & no)}[kind]
        ballot = warps.ballot(holds(warps) & mask)
        for put, flag in puts:
            put(warps, mask, answer if flag else ballot)

    return step


@operation("SHFL", modifiers="IDX UP DOWN BFLY")
def _shfl(instruction: Instruction) -> Step:
    flag, to, source, by, clamp = instruction.operands
    put, put_flag = result(to), predicate_result(flag)
    read, amount, limits = words(source), words(by), words(clamp)
    kind = instruction.modifiers[0]

    def step(warps: Warps, mask: Mask) -> None:
        lane = warps.lane.astype(np.int64)
        step_by = amount(warps).astype(np.int64) & 31
        limit = limits(warps).astype(np.int64)
        segment, end = limit >> 8 & 31, limit & 31
        least, most = lane & segment, (lane & segment) | (end & ~segment)
        if kind == "IDX":
            other = least | (step_by & ~segment)
            inside = other <= most
        elif kind == "UP":
            other = lane - step_by
            inside = other >= most
        elif kind == "DOWN":
            other = lane + step_by
            inside = other <= most
        else:
            other = lane ^ step_by
            inside = other <= most
        other = np.where(inside, other, lane)
        first = np.arange(lane.size) - lane
        if (mask & ~mask[first + other]).any():
            raise UnsupportedError("a shuffle from a thread that does not take part")
        value = np.broadcast_to(read(warps), lane.shape)[first + other]
        put(warps, mask, value)
        put_flag(warps, mask, inside)

    return step
