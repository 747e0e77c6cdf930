"""The numbers of an evaluation as a page and a terminal show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from marginseg.evaluation.verdict import points


def gain(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return a difference in points, and its interval, as a page shows them."""
    if not math.isfinite(row["difference"]):
        return "–", ""
    interval = f"[{points(row['low'])}, {points(row['high'])}]" if math.isfinite(row["low"]) else ""
    return points(row["difference"]), interval


def p_text(p: float) -> str:
    """Return a p-value for the eye.

    Example:
        >>> p_text(0.0004), p_text(0.0312), p_text(math.nan)
        ('< 0.001', '0.031', '–')

    """
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent_text(share: float) -> str:
    """Return how much something is too large or too small.

    Example:
        >>> percent_text(-0.123), percent_text(0.001), percent_text(math.nan)
        ('−12 %', '0 %', '–')

    """
    if not math.isfinite(share):
        return "–"
    text = f"{100 * share:+.0f} %".replace("-", "−")
    return "0 %" if text in ("+0 %", "−0 %") else text


def three_digits(value: float) -> str:
    """Return an overlap for the eye.

    Example:
        >>> three_digits(0.5), three_digits(math.nan)
        ('0.500', '–')

    """
    return f"{value:.3f}" if math.isfinite(value) else "–"
