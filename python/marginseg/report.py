"""The report of a study: tables, figures and one page, from what the runs left in its folder."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from marginseg.atomic import write_text
from marginseg.figures import STYLES, figure1
from marginseg.study_figures import CEILING, case_figure, figure3

if TYPE_CHECKING:
    from rich.table import Table

REFERENCES: Mapping[str, str] = {
    "noisy": "against the noisy test label (the paper's number)",
    "clean": "against the clean label",
    "marginal": "against the marginals",
}

#: Rows of the cases' figure.
CASES_SHOWN = 6


def summary_table(output_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the means over cases and their spread over folds.

    Args:
        output_dir: A study's folder.

    Returns:
        One row for each structure, std, method and reference, in the study's order, with ``mean``
        (over test cases), ``sd`` (of the folds' means; 0 for one fold) and ``n`` (cases). For the
        reference ``noisy`` and ``marginal``, the method ``sup D`` is the ceiling. The reference
        ``volume_ratio`` has |s|/|l|, ``threshold`` has t*, ``calibration_error`` (of CE(0) and
        SD(0), whose maps they are) the error against the marginals.
    """
    values: dict[tuple[str, float, str, str], dict[int, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run in _runs(Path(output_dir)):
        structure, std, fold = run["structure"], run["std"], run["fold"]
        for case in run["cases"]:
            for method, scores in case["methods"].items():
                for reference in REFERENCES:
                    score = scores[f"dice_{reference}"]
                    values[structure, std, method, reference][fold].append(score)
                for name in ("volume_ratio", "threshold"):
                    values[structure, std, method, name][fold].append(scores[name])
                if method.endswith("(0)"):
                    error = _calibration_error(case["calibration"])
                    values[structure, std, method, "calibration_error"][fold].append(error)
            if run["loss"] == _first_loss(output_dir):
                for reference in ("noisy", "marginal"):
                    values[structure, std, CEILING, reference][fold].append(case["sup_dice"])
    rows: list[dict[str, Any]] = []
    for (structure, std, method, reference), by_fold in values.items():
        means = [statistics.fmean(scores) for scores in by_fold.values()]
        scores = [score for fold in by_fold.values() for score in fold]
        rows.append(
            {
                "structure": structure,
                "std": std,
                "method": method,
                "reference": reference,
                "mean": statistics.fmean(scores),
                "sd": statistics.stdev(means) if len(means) > 1 else 0.0,
                "n": len(scores),
            }
        )
    order = {name: place for place, name in enumerate([*STYLES, CEILING])}
    structures: dict[Any, None] = dict.fromkeys(row["structure"] for row in rows)
    place = {name: number for number, name in enumerate(structures)}
    rows.sort(key=lambda row: (place[row["structure"]], row["std"], order[row["method"]]))
    return rows


def rich_table(output_dir: str | os.PathLike[str], reference: str = "noisy") -> Table:
    """Return the paper's Table 1 for the terminal: Dice (sd over folds) by structure and std."""
    from rich.table import Table

    rows = [row for row in summary_table(output_dir) if row["reference"] == reference]
    table = Table(
        title=f"Dice {REFERENCES[reference]}\nmean over cases ± sd of the folds' means",
        title_justify="left",
        box=None,
        padding=(0, 1),
    )
    table.add_column("structure", no_wrap=True)
    table.add_column("std", justify="right", no_wrap=True)
    methods = [m for m in (*STYLES, CEILING) if any(row["method"] == m for row in rows)]
    for method in methods:
        table.add_column(method, justify="right", no_wrap=True)
    for structure, std in dict.fromkeys((row["structure"], row["std"]) for row in rows):
        cells = {
            row["method"]: f"{row['mean']:.3f}±{row['sd']:.3f}".replace("±0.", "±.")
            for row in rows
            if (row["structure"], row["std"]) == (structure, std)
        }
        table.add_row(structure, f"{std:g}", *(cells.get(method, "–") for method in methods))
    return table


def write_report(output_dir: str | os.PathLike[str]) -> Path:
    """Write ``table.csv``, the figures and ``report.html`` into a study's folder.

    Works on what is there: runs that failed or are missing are named in the report.

    Args:
        output_dir: A study's folder.

    Returns:
        The path of ``report.html``, one file that opens from disk.

    Raises:
        ValueError: The folder holds no study.
    """
    folder = Path(output_dir)
    config = _json(folder / "config.json")
    if config is None:
        raise ValueError(f"output_dir: expected a study's folder, {folder} has no config.json")
    rows = summary_table(folder)
    write_text(folder / "table.csv", _csv(rows))
    pictures = {"figure1": figure1(folder / "figure1.png")}
    if rows:
        pictures["figure3"] = figure3(folder / "figure3.png", rows)
    cases = _cases(folder, config)
    if cases:
        pictures["cases"] = case_figure(folder / "cases.png", cases)
    runs = _runs(folder)
    expected = (
        len(config["structures"]) * len(config["std"]) * config["folds"] * len(config["losses"])
    )
    page = _template().render(
        config=config,
        environment=_json(folder / "environment.json") or {},
        noise=_json(folder / "noise.json") or [],
        skipped=_json(folder / "skipped.json") or [],
        failed=_json(folder / "failed.json") or [],
        finished=len(runs),
        expected=expected,
        seconds=sum(run["seconds"] for run in runs),
        tables={name: (text, _matrix(rows, name)) for name, text in REFERENCES.items()},
        volumes=_matrix(rows, "volume_ratio"),
        thresholds=_matrix(rows, "threshold"),
        calibration=_matrix(rows, "calibration_error"),
        findings=_findings(rows),
        pictures={name: _embedded(path) for name, path in pictures.items()},
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _findings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in words what the numbers of this study show, whichever way they point."""
    if not rows:
        return ["No run has finished yet."]
    mean = {(r["structure"], r["std"], r["method"], r["reference"]): r["mean"] for r in rows}
    highest = max(row["std"] for row in rows)
    sentences = []
    for structure in dict.fromkeys(row["structure"] for row in rows):

        def value(method: str, kind: str, structure: str = structure) -> float | None:
            return mean.get((structure, highest, method, kind))

        name = structure.replace("_", " ")
        half, best = value("CE(0)", "noisy"), value("CE(*)", "noisy")
        if half is None or best is None:
            sentences.append(f"{name}: cross-entropy at a = {highest:g} is missing.")
            continue
        text = (
            f"{name}, a = {highest:g}: cutting cross-entropy at t* instead of ½ changes Dice "
            f"against noisy labels by {best - half:+.3f}, from {half:.3f} to {best:.3f}"
        )
        soft, ceiling = value("SD(0)", "noisy"), value(CEILING, "noisy")
        if soft is not None:
            text += f"; soft-Dice has {soft:.3f}"
        if ceiling is not None:
            text += f", sup D is {ceiling:.3f}"
        clean_half, clean_best = value("CE(0)", "clean"), value("CE(*)", "clean")
        if clean_half is not None and clean_best is not None:
            verb = "loses" if clean_best < clean_half else "wins"
            text += (
                f". Against clean labels the cut at t* {verb} "
                f"({clean_best:.3f} against {clean_half:.3f})"
            )
        ratio = value("CE(*)", "volume_ratio")
        if ratio is not None:
            side = "larger" if ratio > 1 else "smaller"
            text += f"; its volume is {ratio:.2f} times the label's, {side} than the truth."
        sentences.append(text)
    return sentences


def _cases(folder: Path, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the first pictured test case of each structure, at the middle and highest level."""
    levels = sorted(config["std"])
    chosen = list(dict.fromkeys([levels[len(levels) // 2], levels[-1]]))
    cases = []
    for structure in config["structures"]:
        for std in chosen:
            for run in _runs(folder):
                found = (run["structure"], run["std"], run["fold"], run["loss"])
                if found != (structure, std, 0, "cross_entropy"):
                    continue
                arrays = _arrays(folder / "runs" / run["folder"] / "slices.npz")
                if arrays is None or "image" not in arrays:
                    continue
                case = {
                    key: arrays[key][0]
                    for key in ("image", "clean", "noisy", "marginal", "probability")
                }
                first = run["cases"][0]
                case["threshold"] = first["methods"]["CE(*)"]["threshold"]
                case["title"] = f"{structure.replace('_', ' ')}, a = {std:g}\n{first['name']}"
                cases.append(case)
    return cases[:CASES_SHOWN]


def _runs(folder: Path) -> list[dict[str, Any]]:
    """Return the results that are there, in the grid's order."""
    config = _json(folder / "config.json") or {}
    results = []
    for path in sorted(folder.glob("runs/*/result.json")):
        result = _json(path)
        if result is not None and result.get("cases"):
            results.append({**result, "folder": path.parent.name})
    structures = list(config.get("structures", []))
    place = {name: number for number, name in enumerate(structures)}
    results.sort(
        key=lambda r: (place.get(r["structure"], len(place)), r["std"], r["fold"], r["loss"])
    )
    return results


def _first_loss(output_dir: str | os.PathLike[str]) -> str:
    """Return the loss whose runs give the ceiling, which is the same for all."""
    config = _json(Path(output_dir) / "config.json") or {}
    losses = config.get("losses") or ["cross_entropy"]
    return str(losses[0])


def _matrix(rows: Sequence[Mapping[str, Any]], reference: str) -> dict[str, Any]:
    """Return rows of cells: structure, std, and one cell for each method."""
    chosen = [row for row in rows if row["reference"] == reference]
    methods = [m for m in (*STYLES, CEILING) if any(row["method"] == m for row in chosen)]
    lines = []
    for structure, std in dict.fromkeys((row["structure"], row["std"]) for row in chosen):
        here = {
            row["method"]: row
            for row in chosen
            if (row["structure"], row["std"]) == (structure, std)
        }
        best = max(
            (row["mean"] for name, row in here.items() if name != CEILING), default=float("nan")
        )
        cells = [
            {
                "text": _cell(here[method]) if method in here else "–",
                "best": reference in REFERENCES
                and method in here
                and method != CEILING
                and here[method]["mean"] >= best - 5e-4,
            }
            for method in methods
        ]
        lines.append({"structure": structure.replace("_", " "), "std": std, "cells": cells})
    return {"methods": methods, "lines": lines}


def _calibration_error(curve: Mapping[str, Sequence[float]]) -> float:
    """Return the expected calibration error of a map from its curve."""
    gaps = (abs(c - m) for c, m in zip(curve["promised"], curve["held"], strict=True))
    return sum(gaps) / max(1.0, sum(curve["count"]))


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:.3f} ± {row['sd']:.3f}"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ["structure", "std", "method", "reference", "mean", "sd", "n"], lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "mean": f"{row['mean']:.6f}", "sd": f"{row['sd']:.6f}"})
    return text.getvalue()


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("marginseg"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html")


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _arrays(path: Path) -> dict[str, Any] | None:
    try:
        with np.load(path) as content:
            return dict(content)
    except (OSError, ValueError, KeyError):
        return None
