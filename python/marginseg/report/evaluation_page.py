"""The page that tells the owner of a trained network which rule is best for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from marginseg.evaluation.candidates import ALL, BY_NAME, CEILING, PRESENT
from marginseg.evaluation.verdict import MEAN, points
from marginseg.report.evaluation_folder import EvaluationFile
from marginseg.report.evaluation_text import gain, p_text, percent_text, three_digits
from marginseg.report.html import rendered

#: From so many classes on, the table of each is folded away.
FOLDED = 4

#: What a promise may be off by, in overlap, and still be called kept.
KEPT = 0.01


def evaluation_page(
    content: Mapping[str, Any], pictures: Mapping[str, str], widths: Mapping[str, int]
) -> str:
    """Return the HTML page of an evaluation.

    Args:
        content: What ``evaluation.json`` has.
        pictures: Where each figure is, by its file's name: a data URI, or a file beside the page.
        widths: How wide each figure is shown, in pixels.

    """
    verdict, table = content["verdict"], content["table"]
    names = content["classes"]["names"]
    mean = {row["rule"]: row for row in table if row["structure"] == MEAN}
    tables = {
        structure: _lines([row for row in table if row["structure"] == structure], content)
        for structure in (MEAN, *names)
    }
    return rendered(
        "evaluation.html",
        **content,
        names=names,
        count=len(content["cases"]),
        said=sentence(verdict["sentence"]),
        rare=unseen(mean[verdict["rule"]]["n"]),
        present=_present(content),
        tables=tables,
        mean=MEAN,
        folded=len(names) >= FOLDED,
        ceiling=CEILING,
        some=_some(content),
        matrix=_matrix(table, names),
        gains={row["structure"]: gain(row)[0] for row in table if row["rule"] == verdict["shown"]},
        losing=_losing(table, names, verdict["rule"]),
        kept=_kept(mean),
        calibration=_calibration(content),
        titles={candidate.name: candidate.title for candidate in ALL},
        surface_unit=surface_unit(content["cases"]),
        unlike_most=max(content["unlike"].items(), key=lambda item: item[1], default=None),
        pictures=pictures,
        widths=widths,
        files=EvaluationFile,
        setting=_setting,
    )


def sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop.

    Example:
        >>> sentence("t*: use it")
        'T*: use it.'

    """
    return f"{text[:1].upper()}{text[1:]}."


def unseen(cases: int) -> str:
    """Say how rare a loss may be that none of these cases shows.

    Of what none of n cases shows, a share of 3 / n is still likely enough: (1 - 3 / n)^n = 0.05.

    Example:
        >>> unseen(40).partition(" (")[0]
        'The 40 cases that count say nothing of a loss that hits fewer than about one case in 13'

    """
    return (
        f"The {cases} cases that count say nothing of a loss that hits fewer than about one case "
        f"in {cases // 3} (rule of three, 95 %)."
    )


def calibration_title(method: str) -> str:
    """Return what a calibration is called.

    Example:
        >>> calibration_title("platt")
        'Platt'

    """
    return BY_NAME[method].title.removesuffix(" + t*")


def surface_unit(cases: Sequence[Mapping[str, Any]]) -> str:
    """Return what surface distances are measured in: voxels, where no spacing is known."""
    known = [case["spacing"] is not None for case in cases]
    if all(known):
        return "mm"
    return "mm, or voxels where no spacing is known" if any(known) else "voxels"


def _lines(rows: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a table of rules as the page has it."""
    verdict = content["verdict"]
    lines = []
    for row in rows:
        candidate = BY_NAME[row["rule"]]
        present, ceiling = candidate is PRESENT, candidate is CEILING
        difference, interval = gain(row)
        lines.append(
            {
                "title": candidate.title,
                "means": _present(content) if present else candidate.means,
                "kind": "ceiling"
                if ceiling
                else "chosen"
                if row["rule"] == verdict["rule"]
                else "",
                "reached": three_digits(row["reached"]),
                "difference": "" if present else difference,
                "interval": "" if present else interval,
                "n": row["n"],
                "p": "" if present or ceiling else p_text(row["p"]),
                "cases": "" if present else f"{row['better']} / {row['worse']}",
                "worst": "" if present else points(row["worst"]) if row["worst_case"] else "none",
                "worst_case": row["worst_case"],
                "volume_error": percent_text(row["volume_error"]),
                "surface": "–" if math.isnan(row["surface"]) else f"{row['surface']:.2f}",
                "promised": three_digits(row["promised"]),
            }
        )
    return lines


def _matrix(table: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return the gains of all rules on all classes."""
    cells = {(row["structure"], row["rule"]): row for row in table}
    present = [row["rule"] for row in table if row["structure"] == MEAN]
    rules = [name for name in present if name != PRESENT.name]
    lines = []
    for structure in (MEAN, *names):
        before = cells[structure, PRESENT.name]
        best = max(
            (
                cells[structure, name]["difference"]
                for name in rules
                if name != CEILING.name and math.isfinite(cells[structure, name]["difference"])
            ),
            default=math.nan,
        )
        lines.append(
            {
                "structure": structure,
                "n": before["n"],
                "before": three_digits(before["reached"]),
                "cells": [
                    {
                        "gain": gain(row),
                        "best": name != CEILING.name and best > 0 and row["difference"] == best,
                    }
                    for name in rules
                    for row in (cells[structure, name],)
                ],
            }
        )
    return {"titles": [BY_NAME[name].title for name in rules], "lines": lines}


def _losing(
    table: Sequence[Mapping[str, Any]], names: Sequence[str], rule: str
) -> list[dict[str, str]]:
    """Return the classes that the rule to be used makes worse by more than chance explains."""
    return [
        {"structure": row["structure"], "gain": " ".join(gain(row))}
        for row in table
        if row["rule"] == rule and row["structure"] in names and row["high"] < 0
    ]


def _kept(mean: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what each rule's maps promise in the mean, and by how much that is too much."""
    return [
        {
            "title": BY_NAME[name].title,
            "promised": three_digits(row["promised"]),
            "reached": three_digits(row["reached"]),
            "excess": _excess(row["promised"] - row["reached"]),
        }
        for name, row in mean.items()
        if math.isfinite(row["promised"]) and math.isfinite(row["reached"])
    ]


def _excess(difference: float) -> str:
    if abs(difference) < KEPT:
        return "as promised"
    much = "much" if difference > 0 else "little"
    return f"{100 * abs(difference):.1f} points promised too {much}"


def _calibration(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the calibration errors of all classes, before and after each calibration."""
    rows = content["reliability"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    by_place = {(row["structure"], row["method"]): row for row in rows}
    return {
        "titles": [
            "as they are" if method is None else calibration_title(method) for method in methods
        ],
        "lines": [
            {
                "structure": structure,
                "cells": [by_place[structure, method] for method in methods],
            }
            for structure in content["classes"]["names"]
        ],
    }


def _present(content: Mapping[str, Any]) -> str:
    """Say what the present rule is."""
    cases, own = len(content["cases"]), content["own"]
    plain = "argmax of the map" if content["classes"]["exclusive"] else "the map cut at ½"
    if own == 0:
        return plain
    return PRESENT.means + ("" if own == cases else f" ({own} cases), else {plain}")


def _some(content: Mapping[str, Any]) -> str:
    """Say which classes a figure shows, where it does not show all."""
    shown, every = len(content["pictured"]), len(content["classes"]["names"])
    if shown == every:
        return ""
    return (
        f" Of {every} classes those are shown that {BY_NAME[content['verdict']['shown']].title} "
        f"makes best and worst, {shown} in all."
    )


def _setting(value: Any) -> str:
    """Return the value of a setting for the eye."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
