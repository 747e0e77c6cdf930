"""Instructions on floats, and conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.machine_code.exact import directed, double_multiply_add, single_multiply_add, sum_error
from bench.machine_code.integers import COMBINE, COMPARE
from bench.machine_code.listing import Instruction, Operand
from bench.machine_code.operations import (
    Read,
    double,
    float_result,
    integer,
    operation,
    pair,
    pair_result,
    predicate,
    predicate_result,
    result,
    single,
    value_step,
    words,
)
from bench.machine_code.warps import Mask, Step, Warps

ROUNDINGS = {"RP", "RM", "RZ"}


def _float(write_to: Operand, compute: Read) -> Step:
    write = float_result(write_to)
    return lambda warps, mask: write(warps, mask, compute(warps))


def _double(write_to: Operand, compute: Read) -> Step:
    write = pair_result(write_to)
    return lambda warps, mask: write(warps, mask, compute(warps))


def _rounding(instruction: Instruction) -> str:
    return next((name for name in instruction.modifiers if name in ROUNDINGS), "")


def _rounded(compute: Callable[..., Any], rounding: str) -> Callable[..., Any]:
    """Return a function of singles that rounds in a direction; its error is exact in doubles."""
    if not rounding:
        return compute

    def other(*values: Any) -> Any:
        nearest = compute(*values)
        exact = compute(*(value.astype(np.float64) for value in values))
        return directed(nearest, exact - nearest, rounding)

    return other


@operation("FADD", modifiers="FTZ RP RM RZ")
def _fadd(instruction: Instruction) -> Step:
    to, first, second = instruction.operands
    a, b, rounding = single(first), single(second), _rounding(instruction)

    def compute(warps: Warps) -> Any:
        x, y = a(warps), b(warps)
        total = x + y
        return directed(total, sum_error(x, y, total), rounding) if rounding else total

    return _float(to, compute)


@operation("FMUL", modifiers="FTZ RP RM RZ")
def _fmul(instruction: Instruction) -> Step:
    to, first, second = instruction.operands
    a, b = single(first), single(second)
    product = _rounded(np.multiply, _rounding(instruction))
    return _float(to, lambda warps: product(a(warps), b(warps)))


@operation("FFMA", modifiers="FTZ RP RM RZ")
def _ffma(instruction: Instruction) -> Step:
    to, *terms = instruction.operands
    a, b, c = (single(term) for term in terms)
    rounding = _rounding(instruction)
    if not rounding:
        return _float(to, lambda warps: single_multiply_add(a(warps), b(warps), c(warps)))

    def compute(warps: Warps) -> Any:
        x, y, z = (read(warps) for read in (a, b, c))
        nearest = single_multiply_add(x, y, z)
        error = double_multiply_add(*(v.astype(np.float64) for v in (x, y, z))) - nearest
        return directed(nearest, error, rounding)

    return _float(to, compute)


@operation("DADD")
def _dadd(instruction: Instruction) -> Step:
    to, first, second = instruction.operands
    a, b = double(first), double(second)
    return _double(to, lambda warps: a(warps) + b(warps))


@operation("DMUL", modifiers="RP RM RZ")
def _dmul(instruction: Instruction) -> Step:
    to, first, second = instruction.operands
    a, b, rounding = double(first), double(second), _rounding(instruction)
    if not rounding:
        return _double(to, lambda warps: a(warps) * b(warps))
    zero = np.zeros(1)
    return _double(to, lambda warps: double_multiply_add(a(warps), b(warps), zero, rounding))


@operation("DFMA", modifiers="RP RM RZ")
def _dfma(instruction: Instruction) -> Step:
    to, *terms = instruction.operands
    a, b, c = (double(term) for term in terms)
    rounding = _rounding(instruction)
    return _double(to, lambda warps: double_multiply_add(a(warps), b(warps), c(warps), rounding))


def _comparison(instruction: Instruction) -> Callable[[Any, Any], Any]:
    order = instruction.modifiers[0]
    if order == "NUM":
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    if order == "NAN":
        return lambda a, b: np.isnan(a) | np.isnan(b)
    plain = COMPARE[order[:2]]
    if order.endswith("U"):
        return lambda a, b: plain(a, b) | np.isnan(a) | np.isnan(b)
    # NumPy takes a NaN for unequal to everything; here such a comparison does not hold.
    return lambda a, b: plain(a, b) & ~(np.isnan(a) | np.isnan(b))


_ORDERS = " ".join(f"{order} {order}U" for order in COMPARE) + " NUM NAN AND OR XOR FTZ"


@operation("FSETP", "DSETP", modifiers=f"{_ORDERS} MAX MIN")
def _setp(instruction: Instruction) -> Step:
    to, opposite, first, second, extra = instruction.operands
    read = single if instruction.name == "FSETP" else double
    a, b, other = read(first), read(second), predicate(extra)
    put, put_opposite = predicate_result(to), predicate_result(opposite)
    if instruction.modifiers[0] in ("MAX", "MIN"):
        larger = instruction.modifiers[0] == "MAX"

        def choose(warps: Warps, mask: Mask) -> None:
            # Whether the first is the result, and whether the second is no number: where both are
            # none, the code that follows makes a quiet one of the second.
            x, y = a(warps), b(warps)
            put(warps, mask, (x > y if larger else x < y) | np.isnan(y))
            put_opposite(warps, mask, np.isnan(y))

        return choose
    compare = _comparison(instruction)
    combine = next(COMBINE[name] for name in instruction.modifiers if name in COMBINE)

    def step(warps: Warps, mask: Mask) -> None:
        found, given = compare(a(warps), b(warps)), other(warps)
        value, negation = combine(found, given), combine(~found, given)
        put(warps, mask, value)
        put_opposite(warps, mask, negation)

    return step


@operation("FSEL", modifiers="FTZ")
def _fsel(instruction: Instruction) -> Step:
    to, first, second, which = instruction.operands
    # Bits are chosen, so that what is no number passes unchanged.
    a, b, choose = single(first), single(second), predicate(which)
    return _float(
        to,
        lambda warps: np.where(choose(warps), a(warps).view(np.uint32), b(warps).view(np.uint32)),
    )


@operation("FMNMX", modifiers="NAN FTZ")
def _fmnmx(instruction: Instruction) -> Step:
    to, first, second, which = instruction.operands
    a, b, smaller = single(first), single(second), predicate(which)
    least, most = (np.minimum, np.maximum) if "NAN" in instruction.modifiers else (np.fmin, np.fmax)
    return _float(
        to,
        lambda warps: np.where(smaller(warps), least(a(warps), b(warps)), most(a(warps), b(warps))),
    )


#: The hardware's are approximate; the compiled code corrects what has to be exact.
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "RCP": lambda x: 1.0 / x,
    "RSQ": lambda x: 1.0 / np.sqrt(x),
    "SQRT": np.sqrt,
    "EX2": np.exp2,
    "LG2": np.log2,
    "SIN": np.sin,
    "COS": np.cos,
}


@operation("MUFU", modifiers="RCP RSQ SQRT EX2 LG2 SIN COS RCP64H RSQ64H FTZ")
def _mufu(instruction: Instruction) -> Step:
    to, source = instruction.operands
    name = instruction.modifiers[0]
    if name.endswith("64H"):
        function, upper = FUNCTIONS[name[:-3]], words(source)

        def compute(warps: Warps) -> Any:
            value = (upper(warps).astype(np.uint64) << np.uint64(32)).view(np.float64)
            return (function(value).view(np.uint64) >> np.uint64(32)).astype(np.uint32)

        return value_step(to, compute)
    function, read = FUNCTIONS[name], single(source)
    return _float(to, lambda warps: function(read(warps).astype(np.float64)).astype(np.float32))


def _whole_number(source: Operand, modifiers: tuple[str, ...]) -> Read:
    """Read an integer of the type that a modifier names, or else 32 bits with a sign."""
    name = next((name for name in modifiers if name in INTEGERS), "S32")
    size = int(name[1:])
    if size == 64:
        whole = pair(source)
        return lambda warps: whole(warps).view(INTEGERS[name])
    bits = words(source) if size < 32 else integer(source)
    place = 8 * int(source.part[1]) if source.part.startswith("B") else 0
    if source.part == "H1":
        place = 16
    elif source.part and not place and source.part not in ("H0", "B0"):
        raise ValueError(f"part {source.part}")
    unsigned = np.dtype(f"u{size // 8}")
    return lambda warps: (bits(warps) >> np.uint32(place)).astype(unsigned).view(INTEGERS[name])


INTEGERS: dict[str, Any] = {
    f"{sign}{8 * size}": np.dtype(f"{'u' if sign == 'U' else 'i'}{size}")
    for sign in "US"
    for size in (1, 2, 4, 8)
}


@operation("I2FP", "I2F", modifiers=f"F32 F64 {' '.join(INTEGERS)} RP RM RZ")
def _i2f(instruction: Instruction) -> Step:
    to, source = instruction.operands
    modifiers, rounding = instruction.modifiers, _rounding(instruction)
    read = _whole_number(source, modifiers)
    kind: Any = np.float64 if "F64" in modifiers else np.float32

    def compute(warps: Warps) -> Any:
        value = read(warps)
        nearest = value.astype(kind)
        if not rounding:
            return nearest
        # A long double has all bits of an integer of 64.
        error = value.astype(np.longdouble) - nearest.astype(np.longdouble)
        return directed(nearest, error, rounding)

    return _double(to, compute) if kind is np.float64 else _float(to, compute)


def _round(instruction: Instruction) -> Callable[[Any], Any]:
    for name, function in (("FLOOR", np.floor), ("CEIL", np.ceil), ("TRUNC", np.trunc)):
        if name in instruction.modifiers:
            return function
    return np.rint


@operation("F2I", modifiers="FTZ NTZ U32 S32 U64 S64 F32 F64 TRUNC FLOOR CEIL")
def _f2i(instruction: Instruction) -> Step:
    to, source = instruction.operands
    modifiers = instruction.modifiers
    read = double(source) if "F64" in modifiers else single(source)
    wide, unsigned = bool({"U64", "S64"} & set(modifiers)), bool({"U64", "U32"} & set(modifiers))
    kind: Any = np.dtype(f"{'u' if unsigned else 'i'}{8 if wide else 4}")
    limits, rounded = np.iinfo(kind), _round(instruction)
    no_number = 0 if "NTZ" in modifiers else 1 << (63 if wide else 31)
    unit: Any = np.uint64 if wide else np.uint32

    def compute(warps: Warps) -> Any:
        value = rounded(read(warps).astype(np.float64))
        inside = (value > limits.min) & (value < limits.max)
        number = np.where(inside, value, 0).astype(kind).view(unit)
        number = np.where(value <= limits.min, np.array(limits.min, kind).view(unit), number)
        number = np.where(value >= limits.max, np.array(limits.max, kind).view(unit), number)
        return np.where(np.isnan(value), unit(no_number), number)

    if wide:
        return _double(to, compute)
    return value_step(to, compute)


@operation("FRND", modifiers="FLOOR CEIL TRUNC F64 FTZ")
def _frnd(instruction: Instruction) -> Step:
    to, source = instruction.operands
    rounded = _round(instruction)
    if "F64" in instruction.modifiers:
        read = double(source)
        return _double(to, lambda warps: rounded(read(warps)))
    read = single(source)
    return _float(to, lambda warps: rounded(read(warps)))


@operation("F2F", modifiers="F32 F64 FTZ")
def _f2f(instruction: Instruction) -> Step:
    to, source = instruction.operands
    kinds = [name for name in instruction.modifiers if name in ("F32", "F64")]
    if kinds == ["F64", "F32"]:
        read = single(source)
        return _double(to, lambda warps: read(warps).astype(np.float64))
    if kinds == ["F32", "F64"]:
        read = double(source)
        return _float(to, lambda warps: read(warps).astype(np.float32))
    raise ValueError("another conversion")


@operation("F2FP", modifiers="F16 BF16 F32 PACK_AB")
def _f2fp(instruction: Instruction) -> Step:
    to, upper, lower = instruction.operands
    short = "BF16" in instruction.modifiers

    def bits(values: Any) -> Any:
        if not short:
            return values.astype(np.float16).view(np.uint16).astype(np.uint32)
        whole = values.view(np.uint32)
        rounded = whole + np.uint32(0x7FFF) + (whole >> np.uint32(16) & np.uint32(1))
        quiet = whole | np.uint32(0x00400000)
        return np.where(np.isnan(values), quiet, rounded) >> np.uint32(16)

    a, b, write = single(upper), single(lower), result(to)
    return lambda warps, mask: write(warps, mask, bits(a(warps)) << np.uint32(16) | bits(b(warps)))


def _halves(operand: Operand) -> Callable[[Warps], tuple[Any, Any]]:
    """Read the lower and the upper half of a register as floats of 16 bits, or one of them."""
    read = words(operand)
    sign = -1.0 if operand.negative else 1.0

    def halves(warps: Warps) -> tuple[Any, Any]:
        bits = read(warps)
        low = (bits & np.uint32(0xFFFF)).astype(np.uint16).view(np.float16)
        high = (bits >> np.uint32(16)).astype(np.uint16).view(np.float16)
        if operand.part == "H0_H0":
            high = low
        elif operand.part == "H1_H1":
            low = high
        values = [half.astype(np.float64) for half in (low, high)]
        if operand.absolute:
            values = [np.abs(value) for value in values]
        return sign * values[0], sign * values[1]

    return halves


def _packed(low: Any, high: Any) -> Any:
    bits = [half.astype(np.float16).view(np.uint16).astype(np.uint32) for half in (low, high)]
    return bits[0] | bits[1] << np.uint32(16)


@operation("HADD2", modifiers="F32 MMA")
def _hadd2(instruction: Instruction) -> Step:
    to, first, second = instruction.operands[:3]
    a, b = _halves(first), _halves(second)
    if "F32" in instruction.modifiers:
        return _float(to, lambda warps: (a(warps)[0] + b(warps)[0]).astype(np.float32))
    write = result(to)

    def step(warps: Warps, mask: Mask) -> None:
        (x, y), (z, w) = a(warps), b(warps)
        write(warps, mask, _packed(x + z, y + w))

    return step


@operation("HFMA2", modifiers="MMA")
def _hfma2(instruction: Instruction) -> Step:
    # Two numbers at the end are the halves of one operand; the encoding has them in one.
    to, *terms = instruction.operands[:4]
    a, b, c = (_halves(term) for term in terms)
    write = result(to)

    def step(warps: Warps, mask: Mask) -> None:
        one, two, three = a(warps), b(warps), c(warps)
        write(warps, mask, _packed(*(one[i] * two[i] + three[i] for i in range(2))))

    return step
