"""What a setting of a study may be: its type, its bounds, and the sentence that refuses it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

#: The largest seed. torch's generators take 64 bits, and the folds have the seeds that follow it.
LARGEST_SEED = 2**63 - 1

#: More than any study has: with more its plan would take hours, or more memory than there is.
MOST_RUNS, MOST_CASES, MOST_EPOCHS, MOST_WORKERS = 100_000, 1_000_000, 10_000_000, 10_000
MOST_CHANNELS, MOST_LEVELS, MOST_VOXELS = 65_536, 16, 2**30

#: No fraction of an extent, rate or number of millimetres is larger, or below its inverse.
LARGEST_NUMBER = 1e9

#: With a hundred times the extent nothing of a structure is left.
LARGEST_STD = 100.0


def sequence(name: str, values: Any) -> tuple[Any, ...]:
    """Return a sequence as a tuple.

    Raises:
        TypeError: It is none, or a string.

    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f"{name}: expected a sequence, got {values!r}")
    return tuple(values)


def strings(name: str, values: Any) -> tuple[str, ...]:
    """Return a sequence of strings as a tuple.

    Raises:
        TypeError: It is none.

    """
    if not all(isinstance(value, str) for value in sequence(name, values)):
        raise TypeError(f"{name}: expected strings, got {values!r}")
    return tuple(values)


def number(name: str, value: Any, *, above: bool = False) -> float:
    """Return a finite number, not below 0 or, with ``above``, greater.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative, not finite, or out of all proportion.

    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not (value > 0 if above else value >= 0) or value == math.inf:
        wanted = "> 0" if above else ">= 0"
        raise ValueError(f"{name}: expected a finite number {wanted}, got {value}")
    if value and not 1 / LARGEST_NUMBER <= value <= LARGEST_NUMBER:
        bound = f"at most {LARGEST_NUMBER:g}" if value > 1 else f"at least {1 / LARGEST_NUMBER:g}"
        raise ValueError(f"{name}: expected {bound}, got {value}")
    return float(value)


def noise_level(value: Any) -> float:
    """Return a std of the label noise.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative, or leaves nothing of any structure.

    """
    level = number("std", value)
    if level > LARGEST_STD:
        raise ValueError(f"std: expected at most {LARGEST_STD:g}, got {value}")
    return level


def integer(name: str, value: Any, least: int, most: int) -> int:
    """Return an integer within bounds.

    Raises:
        TypeError: It is none.
        ValueError: It is out of bounds.

    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    if value > most:
        raise ValueError(f"{name}: expected at most {most}, got {value}")
    return value


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse what is not known.

    Raises:
        ValueError: The message lists what is.

    """
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def listed(values: Sequence[object]) -> str:
    """Return values as a message has them."""
    return ", ".join(str(value) for value in values) or "none"
