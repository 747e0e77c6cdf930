"""How an instruction becomes a function of the warps: the registry, and reading of operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine_code.listing import TRUE, ZERO_REGISTER, ZERO_UNIFORM, Instruction, Operand
from bench.machine_code.warps import Mask, Step, UnsupportedError, Warps

Make = Callable[[Instruction], Step]
#: Reads an operand for all threads; one element stands for all.
Read = Callable[[Warps], Any]

_makers: dict[str, tuple[Make, frozenset[str] | None]] = {}


def operation(*names: str, modifiers: str | None = "") -> Callable[[Make], Make]:
    """Register what makes the steps of the named instructions.

    Args:
        names: Without the U of the uniform datapath.
        modifiers: Those that it understands, or that do not change what is computed; None: any.

    """

    def register(make: Make) -> Make:
        known = None if modifiers is None else frozenset(modifiers.split())
        for name in names:
            _makers[name] = make, known
        return make

    return register


def step_of(instruction: Instruction) -> Step:
    """Return what carries out an instruction.

    Raises:
        UnsupportedError: There is nothing for it.

    """
    name = instruction.name
    if name not in _makers and name.startswith("U"):
        name = name[1:]
    if name == "VOTEU":
        name = "VOTE"
    if name not in _makers:
        raise UnsupportedError(f"unknown instruction {instruction.text}")
    make, known = _makers[name]
    if known is not None and (strange := set(instruction.modifiers) - known):
        raise UnsupportedError(f"unknown {', '.join(sorted(strange))} of {instruction.text}")
    try:
        return make(instruction)
    except (ValueError, IndexError, KeyError) as error:
        raise UnsupportedError(f"{instruction.text}: {error}") from error


def words(operand: Operand) -> Read:
    """Read 32 bits, without signs."""
    number = operand.number
    if operand.kind == "register":
        return lambda warps: warps.registers[number]
    if operand.kind == "uniform":
        return lambda warps: warps.uniform[number]
    if operand.kind == "number":
        value = np.array([number], np.uint32)
        return lambda warps: value
    if operand.kind == "constant" and not operand.registers:
        place = operand.offset // 4
        return lambda warps: warps.bank(number)[place : place + 1]
    raise ValueError(f"a {operand.kind} where 32 bits are read")


def upper(operand: Operand) -> Operand:
    """Return what holds the upper half of a pair."""
    if operand.kind == "constant":
        return Operand("constant", operand.number, offset=operand.offset + 4)
    if operand.kind == "number":
        return Operand("number", 0)
    if operand.number == (ZERO_UNIFORM if operand.kind == "uniform" else ZERO_REGISTER):
        return operand
    return Operand(operand.kind, operand.number + 1)


def integer(operand: Operand) -> Read:
    """Read 32 bits, negated or inverted."""
    read = words(operand)
    if operand.absolute:
        raise ValueError("the absolute of an integer")
    if operand.negative:
        return lambda warps: np.uint32(0) - read(warps)
    if operand.inverted:
        return lambda warps: ~read(warps)
    return read


def signed(operand: Operand) -> Read:
    """Read a signed number of 32 bits."""
    read = integer(operand)
    return lambda warps: read(warps).view(np.int32)


def pair(operand: Operand) -> Read:
    """Read 64 bits."""
    low, high = words(operand), words(upper(operand))

    def read(warps: Warps) -> Any:
        return low(warps).astype(np.uint64) | high(warps).astype(np.uint64) << np.uint64(32)

    if operand.negative:
        return lambda warps: np.uint64(0) - read(warps)
    if operand.inverted:
        return lambda warps: ~read(warps)
    return read


def _with_signs(read: Read, operand: Operand) -> Read:
    if operand.absolute and operand.negative:
        return lambda warps: -np.abs(read(warps))
    if operand.absolute:
        return lambda warps: np.abs(read(warps))
    if operand.negative:
        return lambda warps: -read(warps)
    return read


def single(operand: Operand) -> Read:
    """Read a float of 32 bits."""
    bits = words(operand)
    return _with_signs(lambda warps: bits(warps).view(np.float32), operand)


def double(operand: Operand) -> Read:
    """Read a float of 64 bits, of which a number in an instruction gives the upper half."""
    if operand.kind == "number":
        value = np.array([operand.number << 32], np.uint64).view(np.float64)
        return lambda warps: value
    bits = pair(Operand(operand.kind, operand.number, offset=operand.offset))
    return _with_signs(lambda warps: bits(warps).view(np.float64), operand)


def predicate(operand: Operand) -> Callable[[Warps], Mask]:
    """Read a predicate."""
    number = operand.number
    if operand.kind == "predicate":
        if operand.inverted:
            return lambda warps: ~warps.predicates[number]
        return lambda warps: warps.predicates[number]
    if operand.kind == "uniform predicate":
        if operand.inverted:
            return lambda warps: ~warps.uniform_predicates[number]
        return lambda warps: warps.uniform_predicates[number]
    raise ValueError(f"a {operand.kind} where a predicate is read")


Write = Callable[[Warps, Mask, Any], None]


def result(operand: Operand) -> Write:
    """Write 32 bits."""
    number, uniform = operand.number, operand.kind == "uniform"
    if not uniform and operand.kind != "register":
        raise ValueError(f"a {operand.kind} where 32 bits are written")
    if number == (ZERO_UNIFORM if uniform else ZERO_REGISTER):
        return lambda warps, mask, values: None

    def write(warps: Warps, mask: Mask, values: Any) -> None:
        if uniform:
            np.copyto(warps.uniform[number], values, where=warps.any_of_warp(mask))
        else:
            np.copyto(warps.registers[number], values, where=mask)

    return write


def value_step(write_to: Operand, compute: Read) -> Step:
    """Return the step that writes what is computed, 32 bits."""
    write = result(write_to)
    return lambda warps, mask: write(warps, mask, compute(warps))


def float_result(operand: Operand) -> Write:
    """Write a float of 32 bits."""
    write = result(operand)
    return lambda warps, mask, values: write(warps, mask, values.view(np.uint32))


def pair_result(operand: Operand) -> Write:
    """Write 64 bits: integers, or a float."""
    low, high = result(operand), result(upper(operand))

    def write(warps: Warps, mask: Mask, values: NDArray[Any]) -> None:
        bits = values.view(np.uint64)
        low(warps, mask, bits.astype(np.uint32))
        high(warps, mask, (bits >> np.uint64(32)).astype(np.uint32))

    return write


def predicate_result(operand: Operand) -> Write:
    """Write a predicate."""
    number, uniform = operand.number, operand.kind == "uniform predicate"
    if number == TRUE:
        return lambda warps, mask, values: None

    def write(warps: Warps, mask: Mask, values: Any) -> None:
        if uniform:
            np.copyto(warps.uniform_predicates[number], values, where=warps.any_of_warp(mask))
        else:
            np.copyto(warps.predicates[number], values, where=mask)

    return write


def split(operands: tuple[Operand, ...]) -> tuple[list[Operand], list[Operand], list[Operand]]:
    """Return the predicates after the first operand, the operands after them, and the predicates
    at the end: what carries come out, what is added, and what carries go in.
    """
    rest = list(operands[1:])
    out: list[Operand] = []
    while rest and rest[0].is_predicate:
        out.append(rest.pop(0))
    into: list[Operand] = []
    while rest and rest[-1].is_predicate:
        into.insert(0, rest.pop())
    return out, rest, into
