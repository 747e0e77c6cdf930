"""Instructions on bits and on predicates as bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.machine_code.listing import Instruction
from bench.machine_code.operations import (
    integer,
    operation,
    predicate,
    predicate_result,
    result,
    value_step,
    words,
)
from bench.machine_code.warps import Mask, Step, Warps


@operation("SHF", modifiers="L R W HI U32 S32 U64 S64")
def _shf(instruction: Instruction) -> Step:
    to, a, b, c = instruction.operands
    low, amount, high = words(a), words(b), words(c)
    modifiers = instruction.modifiers
    bits = 64 if {"U64", "S64"} & set(modifiers) else 32
    kind: Any = np.int64 if {"S32", "S64"} & set(modifiers) else np.uint64
    right, upper, wraps = ("R" in modifiers), ("HI" in modifiers), ("W" in modifiers)

    def compute(warps: Warps) -> Any:
        by = amount(warps)
        by = by & np.uint32(bits - 1) if wraps else np.minimum(by, np.uint32(bits))
        value = low(warps).astype(np.uint64) | high(warps).astype(np.uint64) << np.uint64(32)
        count = np.minimum(by, np.uint32(63)).astype(kind)
        if right:
            if bits == 32 and upper:
                # The upper word alone, with zeros or its sign before it.
                word = high(warps)
                word = word.view(np.int32) if kind is np.int64 else word
                return (word.astype(kind) >> count).astype(np.uint32)
            value = value.view(kind) >> count
            if kind is np.uint64:
                value = np.where(by > 63, np.uint64(0), value)
        else:
            value = np.where(by > 63, np.uint64(0), value << count.astype(np.uint64))
        value = value.view(np.uint64)
        return (value >> np.uint64(32 if upper else 0)).astype(np.uint32)

    return value_step(to, compute)


def _combined(lut: int, a: Any, b: Any, c: Any, ones: Any) -> Any:
    """Return the function of three bits that a table of eight entries gives."""
    if lut == 0xC0:
        return a & b
    if lut == 0xFC:
        return a | b
    if lut == 0x3C:
        return a ^ b
    total = ones ^ ones
    for entry in range(8):
        if lut >> entry & 1:
            term = a if entry & 4 else a ^ ones
            term = term & (b if entry & 2 else b ^ ones)
            total = total | (term & (c if entry & 1 else c ^ ones))
    return total


@operation("LOP3", modifiers="LUT")
def _lop3(instruction: Instruction) -> Step:
    operands = list(instruction.operands)
    flag = operands.pop(0) if operands[0].is_predicate else None
    to, first, second, third, table, either = operands
    a, b, c, lut = words(first), words(second), words(third), table.number
    write, extra = result(to), predicate(either)
    put = predicate_result(flag) if flag else None
    ones = np.uint32(0xFFFFFFFF)

    def step(warps: Warps, mask: Mask) -> None:
        value = _combined(lut, a(warps), b(warps), c(warps), ones)
        if put is not None:
            put(warps, mask, (value != 0) | extra(warps))
        write(warps, mask, value)

    return step


@operation("PLOP3", modifiers="LUT")
def _plop3(instruction: Instruction) -> Step:
    first, second, *sources, one, two = instruction.operands
    a, b, c = (predicate(source) for source in sources)
    puts = [(predicate_result(to), lut.number) for to, lut in ((first, one), (second, two))]

    def step(warps: Warps, mask: Mask) -> None:
        values = a(warps).copy(), b(warps).copy(), c(warps).copy()
        for put, lut in puts:
            put(warps, mask, _combined(lut, *values, np.bool_(True)))

    return step


@operation("PRMT")
def _prmt(instruction: Instruction) -> Step:
    to, first, select, second = instruction.operands
    a, which, b = words(first), words(select), words(second)

    def compute(warps: Warps) -> Any:
        bits = a(warps).astype(np.uint64) | b(warps).astype(np.uint64) << np.uint64(32)
        chosen = which(warps).astype(np.uint64)
        total = np.uint64(0)
        for place in range(4):
            nibble = chosen >> np.uint64(4 * place) & np.uint64(15)
            byte = bits >> (nibble & np.uint64(7)) * np.uint64(8) & np.uint64(0xFF)
            # The fourth bit asks for the byte's sign, eight times.
            sign = (byte >> np.uint64(7)) * np.uint64(0xFF)
            byte = np.where(nibble & np.uint64(8), sign, byte)
            total = total | byte << np.uint64(8 * place)
        return np.asarray(total).astype(np.uint32)

    return value_step(to, compute)


def _bits_of(value: Any) -> Any:
    return np.unpackbits(
        np.ascontiguousarray(value).view(np.uint8).reshape(-1, 4), axis=1, bitorder="little"
    )


@operation("POPC")
def _popc(instruction: Instruction) -> Step:
    read = integer(instruction.operands[1])
    return value_step(instruction.operands[0], lambda warps: _bits_of(read(warps)).sum(axis=1))


@operation("BREV")
def _brev(instruction: Instruction) -> Step:
    read = integer(instruction.operands[1])

    def compute(warps: Warps) -> Any:
        flipped = np.packbits(_bits_of(read(warps))[:, ::-1], axis=1, bitorder="little")
        return flipped.view(np.uint32)[:, 0]

    return value_step(instruction.operands[0], compute)


@operation("FLO", modifiers="U32 SH")
def _flo(instruction: Instruction) -> Step:
    if "U32" not in instruction.modifiers:
        raise ValueError("signed")
    read, shift = integer(instruction.operands[1]), "SH" in instruction.modifiers

    def compute(warps: Warps) -> Any:
        value = np.atleast_1d(read(warps))
        place = np.frexp(value.astype(np.float64))[1] - 1
        place = 31 - place if shift else place
        return np.where(value == 0, 0xFFFFFFFF, place).astype(np.uint32)

    return value_step(instruction.operands[0], compute)


@operation("BMSK", modifiers="C W")
def _bmsk(instruction: Instruction) -> Step:
    to, first, second = instruction.operands
    start, count = words(first), words(second)

    def compute(warps: Warps) -> Any:
        begin = np.minimum(start(warps), np.uint32(32)).astype(np.uint64)
        length = np.minimum(count(warps), np.uint32(32)).astype(np.uint64)
        one = np.uint64(1)
        return (((one << length) - one) << begin).astype(np.uint32)

    return value_step(to, compute)


@operation("P2R")
def _p2r(instruction: Instruction) -> Step:
    to, _, base, which = instruction.operands
    rest, chosen = words(base), np.uint32(which.number)

    def compute(warps: Warps) -> Any:
        bits = np.zeros(warps.pc.size, np.uint32)
        for number in range(7):
            bits |= warps.predicates[number].astype(np.uint32) << np.uint32(number)
        return (bits & chosen) | (rest(warps) & ~chosen)

    return value_step(to, compute)


@operation("R2P")
def _r2p(instruction: Instruction) -> Step:
    _, source, which = instruction.operands
    read, chosen = words(source), which.number
    shift = 8 * int(source.part[1]) if source.part.startswith("B") else 0

    def step(warps: Warps, mask: Mask) -> None:
        bits = read(warps) >> np.uint32(shift)
        for number in range(7):
            if chosen >> number & 1:
                value = (bits >> np.uint32(number) & np.uint32(1)) != 0
                np.copyto(warps.predicates[number], value, where=mask)

    return step
