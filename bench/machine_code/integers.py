"""Instructions on integers, bits and predicates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.machine_code.listing import Instruction, Operand
from bench.machine_code.operations import (
    Read,
    integer,
    operation,
    pair,
    pair_result,
    predicate,
    predicate_result,
    result,
    signed,
    split,
    words,
)
from bench.machine_code.warps import Mask, Step, Warps


def _value(write_to: Operand, compute: Read) -> Step:
    write = result(write_to)
    return lambda warps, mask: write(warps, mask, compute(warps))


@operation("MOV")
def _mov(instruction: Instruction) -> Step:
    return _value(instruction.operands[0], words(instruction.operands[1]))


@operation("SEL")
def _sel(instruction: Instruction) -> Step:
    to, a, b, which = instruction.operands
    yes, no, choose = integer(a), integer(b), predicate(which)
    return _value(to, lambda warps: np.where(choose(warps), yes(warps), no(warps)))


def _wide(operand: Operand) -> Read:
    """Read 32 bits as a term of a sum that has a carry: -x is ~x + 1, so that -0 carries."""
    read = words(operand)
    if operand.negative:
        return lambda warps: (1 << 32) - read(warps).astype(np.int64)
    if operand.inverted:
        return lambda warps: (~read(warps)).astype(np.int64)
    return lambda warps: read(warps).astype(np.int64)


def _sum(to: Operand, terms: list[Read], carries: list[Operand], into: list[Operand]) -> Step:
    """Add terms of 32 bits; the carry is a number of predicates."""
    write = result(to)
    given = [predicate(carry) for carry in into]
    taken = [predicate_result(carry) for carry in carries]

    def step(warps: Warps, mask: Mask) -> None:
        total = terms[0](warps)
        for term in terms[1:]:
            total = total + term(warps)
        for carry in given:
            total = total + carry(warps)
        if taken:
            over = total >> 32
            for count, put in enumerate(taken, 1):
                put(warps, mask, over >= count)
        write(warps, mask, (total & 0xFFFFFFFF).astype(np.uint32))

    return step


@operation("IADD3", modifiers="X")
def _iadd3(instruction: Instruction) -> Step:
    carries, terms, into = split(instruction.operands)
    to = instruction.operands[0]
    if not carries and not into:
        a, b, c = (integer(term) for term in terms)
        return _value(to, lambda warps: a(warps) + b(warps) + c(warps))
    return _sum(to, [_wide(term) for term in terms], carries, into)


@operation("VIADD")
def _viadd(instruction: Instruction) -> Step:
    to, first, second = instruction.operands
    a, b = integer(first), integer(second)
    return _value(to, lambda warps: a(warps) + b(warps))


@operation("IABS")
def _iabs(instruction: Instruction) -> Step:
    to, source = instruction.operands
    read = signed(source)
    return _value(to, lambda warps: np.abs(read(warps)).view(np.uint32))


def _extremum(instruction: Instruction) -> Callable[[Any, Any, Warps], Any]:
    unsigned = "U32" in instruction.modifiers
    smaller = predicate(instruction.operands[-1])

    def choose(a: Any, b: Any, warps: Warps) -> Any:
        if not unsigned:
            a, b = a.view(np.int32), b.view(np.int32)
        return np.where(smaller(warps), np.minimum(a, b), np.maximum(a, b)).view(np.uint32)

    return choose


@operation("VIMNMX", "IMNMX", modifiers="U32")
def _vimnmx(instruction: Instruction) -> Step:
    choose = _extremum(instruction)
    a, b = integer(instruction.operands[1]), integer(instruction.operands[2])
    return _value(instruction.operands[0], lambda warps: choose(a(warps), b(warps), warps))


@operation("VIADDMNMX", modifiers="U32")
def _viaddmnmx(instruction: Instruction) -> Step:
    choose = _extremum(instruction)
    a, b, c = (integer(operand) for operand in instruction.operands[1:4])
    to = instruction.operands[0]
    return _value(to, lambda warps: choose(a(warps) + b(warps), c(warps), warps))


@operation("IMAD", modifiers="MOV IADD SHL X WIDE HI U32")
def _imad(instruction: Instruction) -> Step:
    carries, terms, into = split(instruction.operands)
    to, modifiers = instruction.operands[0], instruction.modifiers
    if "WIDE" in modifiers or "HI" in modifiers:
        return _imad_wide(to, terms, carries, into, modifiers)
    a, b, c = (integer(term) for term in terms)
    if carries:
        raise ValueError("the carry of a product of 32 bits")
    if into:
        carry = predicate(into[0])
        return _value(to, lambda warps: a(warps) * b(warps) + c(warps) + carry(warps))
    return _value(to, lambda warps: a(warps) * b(warps) + c(warps))


def _imad_wide(
    to: Operand,
    terms: list[Operand],
    carries: list[Operand],
    into: list[Operand],
    modifiers: tuple[str, ...],
) -> Step:
    if "U32" in modifiers:
        a, b = integer(terms[0]), integer(terms[1])
        kind: Any = np.uint64
    else:
        a, b = signed(terms[0]), signed(terms[1])
        kind = np.int64
    c = pair(terms[2])
    given = [predicate(carry) for carry in into]
    taken = [predicate_result(carry) for carry in carries]
    high = "HI" in modifiers
    write = result(to) if high else pair_result(to)

    def step(warps: Warps, mask: Mask) -> None:
        product = (a(warps).astype(kind) * b(warps).astype(kind)).view(np.uint64)
        total = product + c(warps)
        carry = total < product
        for more in given:
            total = total + more(warps).astype(np.uint64)
        for put in taken:
            put(warps, mask, carry)
        write(warps, mask, (total >> np.uint64(32)).astype(np.uint32) if high else total)

    return step


@operation("LEA", modifiers="HI X SX32")
def _lea(instruction: Instruction) -> Step:
    carries, terms, into = split(instruction.operands)
    to, modifiers = instruction.operands[0], instruction.modifiers
    shift = np.int64(terms[-1].number)
    first, base = terms[0], _wide(terms[1])
    low = words(first)
    if "HI" not in modifiers:
        # It is the shifted number that is negated, and -0 carries.
        negative, inverted = first.negative, first.inverted

        def shifted(warps: Warps) -> Any:
            value = (low(warps).astype(np.int64) << shift) & 0xFFFFFFFF
            if negative:
                return (1 << 32) - value
            return value ^ 0xFFFFFFFF if inverted else value
    elif first.negative or first.inverted:
        raise ValueError("the upper word of a negated number")
    else:
        high = None if "SX32" in modifiers else integer(terms[2])

        def shifted(warps: Warps) -> Any:
            bits = low(warps)
            over = bits.view(np.int32).astype(np.int64) if high is None else high(warps)
            whole = over.astype(np.int64) << 32 if high is not None else over
            whole = whole | bits.astype(np.int64) if high is not None else whole
            return ((whole << shift) >> 32) & 0xFFFFFFFF

    return _sum(to, [shifted, base], carries, into)


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

    return _value(to, compute)


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
    puts = [
        (predicate_result(to), lut.number)
        for to, lut in ((first, one), (second, two))
    ]

    def step(warps: Warps, mask: Mask) -> None:
        values = a(warps).copy(), b(warps).copy(), c(warps).copy()
        for put, lut in puts:
            put(warps, mask, _combined(lut, *values, np.bool_(True)))

    return step


COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "EQ": np.equal,
    "NE": np.not_equal,
}
COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "AND": np.logical_and,
    "OR": np.logical_or,
    "XOR": np.logical_xor,
}


@operation("ISETP", modifiers="LT LE GT GE EQ NE AND OR XOR U32 EX")
def _isetp(instruction: Instruction) -> Step:
    modifiers = instruction.modifiers
    to, opposite, first, second, *predicates = instruction.operands
    read = integer if "U32" in modifiers else signed
    a, b, other = read(first), read(second), predicate(predicates[0])
    order = modifiers[0]
    compare = COMPARE[order]
    combine = next(COMBINE[name] for name in modifiers if name in COMBINE)
    # The upper words of a comparison of 64 bits; that of the lower words is given.
    lower = predicate(predicates[1]) if "EX" in modifiers else None
    put, put_opposite = predicate_result(to), predicate_result(opposite)

    def step(warps: Warps, mask: Mask) -> None:
        left, right = a(warps), b(warps)
        if lower is None:
            found = compare(left, right)
        elif order == "NE":
            found = (left != right) | lower(warps)
        else:
            strict = np.logical_and(compare(left, right), left != right)
            found = strict | ((left == right) & lower(warps))
        extra = other(warps)
        value, negation = combine(found, extra), combine(~found, extra)
        put(warps, mask, value)
        put_opposite(warps, mask, negation)

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

    return _value(to, compute)


def _bits_of(value: Any) -> Any:
    return np.unpackbits(np.ascontiguousarray(value).view(np.uint8).reshape(-1, 4), axis=1,
                         bitorder="little")


@operation("POPC")
def _popc(instruction: Instruction) -> Step:
    read = integer(instruction.operands[1])
    return _value(instruction.operands[0], lambda warps: _bits_of(read(warps)).sum(axis=1))


@operation("BREV")
def _brev(instruction: Instruction) -> Step:
    read = integer(instruction.operands[1])

    def compute(warps: Warps) -> Any:
        flipped = np.packbits(_bits_of(read(warps))[:, ::-1], axis=1, bitorder="little")
        return flipped.view(np.uint32)[:, 0]

    return _value(instruction.operands[0], compute)


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

    return _value(instruction.operands[0], compute)


@operation("BMSK", modifiers="C W")
def _bmsk(instruction: Instruction) -> Step:
    to, first, second = instruction.operands
    start, count = words(first), words(second)

    def compute(warps: Warps) -> Any:
        begin = np.minimum(start(warps), np.uint32(32)).astype(np.uint64)
        length = np.minimum(count(warps), np.uint32(32)).astype(np.uint64)
        one = np.uint64(1)
        return (((one << length) - one) << begin).astype(np.uint32)

    return _value(to, compute)


@operation("P2R")
def _p2r(instruction: Instruction) -> Step:
    to, _, base, which = instruction.operands
    rest, chosen = words(base), np.uint32(which.number)

    def compute(warps: Warps) -> Any:
        bits = np.zeros(warps.pc.size, np.uint32)
        for number in range(7):
            bits |= warps.predicates[number].astype(np.uint32) << np.uint32(number)
        return (bits & chosen) | (rest(warps) & ~chosen)

    return _value(to, compute)


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
