"""Rows of numbers as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from marginseg.files.names import printable


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return CSV; numbers have six decimals but for std and counts, NaN is empty.

    Example:
        >>> rows = [{"std": 0.03, "mean": 0.5, "n": 7}]
        >>> print(csv_text(rows, ["std", "n", "mean"]), end="")
        std,n,mean
        0.03,7,0.500000

    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_written(name, row[name]) for name in columns])
    return text.getvalue()


def _written(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return printable(str(value))
    if math.isnan(value):
        return ""
    return f"{value:g}" if name == "std" else f"{value:.6f}"
