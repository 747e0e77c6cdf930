"""The page of a study's report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from marginseg.report.claims import CLAIMS, interval_text, sentences
from marginseg.report.comparison import Comparison
from marginseg.report.covered import OVER
from marginseg.report.devices import named
from marginseg.report.html import rendered
from marginseg.report.summary import CEILING, REFERENCES, TABLE_1
from marginseg.study.evaluation import METHOD_ORDER


def page(
    content: Mapping[str, Any], pictures: Mapping[str, str], other: Comparison | None = None
) -> str:
    """Return the HTML page of a report.

    Args:
        content: What ``report.json`` has.
        pictures: Where each figure is, by its name: a data URI, or a file beside the page.
        other: Numbers to print beside the study's.

    """
    rows = content["table"]
    return rendered(
        "report.html",
        **content,
        config=content["configuration"],
        other=other,
        first=_matrix(
            [r for r in rows if r["reference"] == "noisy" and r["method"] in TABLE_1], other
        ),
        tables={
            name: _matrix([r for r in _shown(rows) if r["reference"] == name], other)
            for name in dict.fromkeys(row["reference"] for row in rows)
        },
        bias=_matrix(_bias(rows), None, digits=1, signed=True),
        said=sentences(content["findings"]),
        claims=CLAIMS,
        judged=_judged(content["findings"]),
        interval_text=interval_text,
        over=OVER,
        named=named,
        skipped_by_reason=_by_reason(content["skipped"]),
        references=REFERENCES,
        pictures=pictures,
        duration=_duration,
        setting=_setting,
    )


def _matrix(
    rows: Sequence[Mapping[str, Any]],
    other: Comparison | None,
    *,
    digits: int = 3,
    signed: bool = False,
) -> dict[str, Any]:
    """Return a table as the page has it: a line a structure and std, a cell a method."""
    sign = "+" if signed else "z"  # an overlap near 0 is not -0.000
    methods = [m for m in (*METHOD_ORDER, CEILING) if any(row["method"] == m for row in rows)]
    lines = []
    for structure, std in dict.fromkeys((row["structure"], row["std"]) for row in rows):
        here = {r["method"]: r for r in rows if (r["structure"], r["std"]) == (structure, std)}
        dice = all(row["reference"] in REFERENCES for row in here.values())
        best = max((r["mean"] for name, r in here.items() if name != CEILING), default=math.nan)
        cells = []
        for method in methods:
            row = here.get(method)
            if row is None:
                cells.append({"mean": "–", "interval": "", "other": "", "best": False})
                continue
            theirs = None if other is None else other.mean(row)
            low, high = (f"{row[end]:{sign}.{digits}f}" for end in ("low", "high"))
            cells.append(
                {
                    "mean": _minus(f"{row['mean']:{sign}.{digits}f}"),
                    "interval": ""
                    if method == CEILING or math.isnan(row["low"])
                    else _minus(f"[{low}, {high}]"),
                    "other": ""
                    if theirs is None
                    else _minus(f"{theirs:.{digits}f} ({row['mean'] - theirs:+.{digits}f})"),
                    "best": dice and method != CEILING and row["mean"] >= best - 5e-4,
                }
            )
        lines.append({"structure": structure.replace("_", " "), "std": std, "cells": cells})
    return {"methods": methods, "lines": lines}


def _judged(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a line a structure and std, with the finding on each claim or None."""
    lines = []
    for structure, std in dict.fromkeys((row["structure"], row["std"]) for row in findings):
        here = {
            row["claim"]: row
            for row in findings
            if (row["structure"], row["std"]) == (structure, std)
        }
        lines.append(
            {
                "structure": structure.replace("_", " "),
                "std": std,
                "n": max(row["n"] for row in here.values()),
                "rows": [here.get(claim.text) for claim in CLAIMS],
            }
        )
    return lines


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows without the thresholds that are ½ by definition."""
    return [row for row in rows if row["reference"] != "threshold" or row["method"].endswith("(*)")]


def _bias(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the volume bias in percent from the volume ratios."""
    return [
        {**row, **{name: 100 * (row[name] - 1) for name in ("mean", "low", "high")}}
        for row in rows
        if row["reference"] == "volume_ratio"
    ]


def _by_reason(
    skipped: Sequence[Mapping[str, str]],
) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    """Group the cases left out by structure and the first words of the reason."""
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = defaultdict(list)
    for line in skipped:
        groups[line["structure"], line["reason"].partition(":")[0]].append(line)
    return groups


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _setting(value: Any) -> str:
    """Return the value of a setting for the eye; ``report.json`` has all its digits."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_setting, value)) or "–"
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else str(value)


def _minus(text: str) -> str:
    return text.replace("-", "−")
