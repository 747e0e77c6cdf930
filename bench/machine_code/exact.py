"""Fused multiply-adds and rounding, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Splits a double into two halves of 26 bits (Veltkamp).
_SPLITTER = 134217729.0


def single_multiply_add(a: Any, b: Any, c: Any) -> Any:
    """Return a b + c for floats of 32 bits, rounded once.

    The product is exact as a double. The sum is rounded to a double and then to a float, which
    differs from rounding once only where the double lies half-way between two floats.
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    total = product + c
    half_way = (total.view(np.uint64) & np.uint64(0x1FFFFFFF)) == 0x10000000
    if half_way.any():
        total = _to_odd(total, sum_error(product, np.broadcast_to(c, total.shape), total))
    return total.astype(np.float32)


def double_multiply_add(a: Any, b: Any, c: Any, rounding: str = "") -> Any:
    """Return a b + c for floats of 64 bits, rounded once (Boldo and Melquiond, 2008).

    `rounding` is RP (up), RM (down), RZ or nothing: to the nearest.
    """
    high = a * b
    low = _product_error(a, b, high)
    first = c + low
    rest = sum_error(np.broadcast_to(c, first.shape), low, first)
    second = high + first
    more = sum_error(high, first, second)
    tail = more + rest
    tail = _to_odd(tail, sum_error(more, rest, tail))
    total = second + tail
    # Beyond the range, where the errors are no numbers, plain arithmetic says what comes out.
    total = np.where(np.isfinite(total), total, a * b + c)
    if not rounding:
        return total
    return directed(total, sum_error(second, tail, total), rounding)


def directed(nearest: Any, error: Any, rounding: str) -> Any:
    """Return what rounding in a direction gives, by the error that rounding to the nearest made."""
    infinity = np.array(np.inf, nearest.dtype)
    up, down = error > 0, error < 0
    if rounding == "RP":
        return np.where(up, np.nextafter(nearest, infinity), nearest)
    if rounding == "RM":
        return np.where(down, np.nextafter(nearest, -infinity), nearest)
    if rounding == "RZ":
        beyond = (nearest > 0) & down | (nearest < 0) & up
        return np.where(beyond, np.nextafter(nearest, nearest * 0), nearest)
    raise ValueError(f"rounding {rounding}")


def sum_error(a: Any, b: Any, total: Any) -> Any:
    """Return a + b - total, exactly (Knuth)."""
    part = total - a
    return (a - (total - part)) + (b - part)


def _product_error(a: Any, b: Any, product: Any) -> Any:
    """Return a b - product, exactly (Dekker)."""
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    return a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(value: Any) -> tuple[Any, Any]:
    scaled = _SPLITTER * value
    high = scaled - (scaled - value)
    return high, value - high


def _to_odd(value: Any, error: Any) -> Any:
    """Return value + error rounded to odd: towards the error, to a double whose last bit is set."""
    value = np.ascontiguousarray(value)
    even = (value.view(np.uint64) & np.uint64(1)) == 0
    towards = np.nextafter(value, np.where(error > 0, np.inf, -np.inf))
    return np.where(even & (error != 0), towards, value)
