"""Instructions on integers."""

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
    value_step,
    words,
)
from bench.machine_code.warps import Mask, Step, Warps


@operation("MOV")
def _mov(instruction: Instruction) -> Step:
    return value_step(instruction.operands[0], words(instruction.operands[1]))


@operation("SEL")
def _sel(instruction: Instruction) -> Step:
    to, a, b, which = instruction.operands
    yes, no, choose = integer(a), integer(b), predicate(which)
    return value_step(to, lambda warps: np.where(choose(warps), yes(warps), no(warps)))


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
        return value_step(to, lambda warps: a(warps) + b(warps) + c(warps))
    return _sum(to, [_wide(term) for term in terms], carries, into)


@operation("VIADD")
def _viadd(instruction: Instruction) -> Step:
    to, first, second = instruction.operands
    a, b = integer(first), integer(second)
    return value_step(to, lambda warps: a(warps) + b(warps))


@operation("IABS")
def _iabs(instruction: Instruction) -> Step:
    to, source = instruction.operands
    read = signed(source)
    return value_step(to, lambda warps: np.abs(read(warps)).view(np.uint32))


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
    return value_step(instruction.operands[0], lambda warps: choose(a(warps), b(warps), warps))


@operation("VIADDMNMX", modifiers="U32")
def _viaddmnmx(instruction: Instruction) -> Step:
    choose = _extremum(instruction)
    a, b, c = (integer(operand) for operand in instruction.operands[1:4])
    to = instruction.operands[0]
    return value_step(to, lambda warps: choose(a(warps) + b(warps), c(warps), warps))


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
        return value_step(to, lambda warps: a(warps) * b(warps) + c(warps) + carry(warps))
    return value_step(to, lambda warps: a(warps) * b(warps) + c(warps))


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
