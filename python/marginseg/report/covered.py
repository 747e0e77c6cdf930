"""What intervals know the chance of, in words, and at which places they know less."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from marginseg.report.repeats import COVERS

#: What makes the intervals that cover so much.
METHODS: Mapping[str, str] = {
    "cases": "expanded BCa bootstrap of the mean, the networks kept",
    "cases, trainings": "analysis of variance",
    "cases, trainings, folds": "analysis of variance",
}

#: What an interval that covers so much is over.
OVER: Mapping[str, str] = {
    "cases": "test cases alone",
    "cases, trainings": "test cases and trainings, the folds kept",
    "cases, trainings, folds": "test cases, trainings and folds",
}


def groups(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what the intervals of rows cover, from the most to the least, and where that is.

    Args:
        rows: As from :func:`marginseg.report.summary.summary_table` or
            :func:`marginseg.report.summary.differences_table`.

    Returns:
        For each of ``COVERS`` that is among them the structures and noise levels where it is; with
        their methods, where those of one place differ.

    Example:
        >>> row = {"structure": "tube", "std": 0.06, "method": "CE(0)", "covers": "cases"}
        >>> groups([row, {**row, "std": 0, "covers": "cases, trainings"}])
        {'cases, trainings': ['tube at a = 0'], 'cases': ['tube at a = 0.06']}

    """
    methods: dict[tuple[str, float], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["covers"]:
            name = row["method"] + (f" − {row['baseline']}" if "baseline" in row else "")
            found = methods[row["structure"], row["std"]][row["covers"]]
            if name not in found:
                found.append(name)
    return {
        covers: [
            place(structure, std) + (f" ({', '.join(here[covers])})" if len(here) > 1 else "")
            for (structure, std), here in methods.items()
            if covers in here
        ]
        for covers in reversed(COVERS)
        if any(covers in here for here in methods.values())
    }


def less_known(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the same without the most that any interval among them covers."""
    return dict(list(groups(rows).items())[1:])


def place(structure: str, std: float) -> str:
    """Return a structure and noise level in words.

    Example:
        >>> place("thin_tube", 0.06)
        'thin tube at a = 0.06'

    """
    return f"{structure.replace('_', ' ')} at a = {std:g}"
