"""Numbers from text and from files, where anything may stand in their place."""

from __future__ import annotations

import math
import re


def parse_integer(text: str) -> int:
    """Return the integer that a text is: digits, and perhaps a sign.

    Python's own ``int`` takes ``8_16`` for 816, which whoever mistyped ``8-16`` did not mean.

    Raises:
        ValueError: It is none.

    Example:
        >>> parse_integer("-12")
        -12

    """
    if not re.fullmatch(r"[+-]?[0-9]+", text.strip()):
        raise ValueError(f"expected an integer, got {text!r}")
    return int(text)


def parse_number(text: str) -> float:
    """Return the number that a text is, finite or not; without underscores, as `parse_integer`.

    Raises:
        ValueError: It is none.

    Example:
        >>> parse_number("1e-3")
        0.001

    """
    if "_" in text:
        raise ValueError(f"expected a number, got {text!r}")
    return float(text)


def is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Return whether a value is a number within two bounds, and neither a truth value nor NaN.

    Args:
        value: As JSON or anything else gave it.
        low: The least that it may be.
        high: The most; infinity, which is the default, allows infinity.

    Example:
        >>> is_number(0.5, 0, 1), is_number("0.5", 0, 1), is_number(True), is_number(math.nan)
        (True, False, False, False)

    """
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
