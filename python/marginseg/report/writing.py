"""The report of a study: tables, figures and one page, from what the runs left in its folder."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from marginseg.files.atomic import replacing, write_text
from marginseg.report import intervals
from marginseg.report.claims import CLAIMS, judge
from marginseg.report.comparison import Comparison, read_comparison
from marginseg.report.figures.cases import case_figure, extreme_cases, figure2, noise_cases
from marginseg.report.figures.figure1 import figure1
from marginseg.report.figures.numbers import (
    calibration_figure,
    differences_figure,
    figure3,
    thresholds_figure,
    volume_figure,
)
from marginseg.report.latex import latex_table
from marginseg.report.page import page
from marginseg.report.results import CaseScore, Results, read_json, read_results
from marginseg.report.summary import (
    CEILING,
    QUANTILES,
    REFERENCES,
    TABLE_1,
    calibration_curves,
    differences,
    differences_table,
    summarise,
    summary_table,
    threshold_quantiles,
)

if TYPE_CHECKING:
    from rich.table import Table

#: Of the layout of ``report.json``.
FORMAT = 1

#: The figures' files are called so, with ``.png``.
FIGURES = (
    "figure1",
    "figure2",
    "figure3",
    "differences",
    "volume",
    "thresholds",
    "calibration",
    "cases",
)

TABLE_COLUMNS = ("structure", "std", "method", "reference", "mean", "sd", "low", "high", "n")
DIFFERENCE_COLUMNS = (*TABLE_COLUMNS[:3], "baseline", *TABLE_COLUMNS[3:])


def write_report(
    output_dir: str | os.PathLike[str],
    *,
    compare: str | os.PathLike[str] | None = None,
    embed: bool = True,
) -> Path:
    """Write a study's report into its folder.

    It consists of ``report.html``; the figures as PNG files; ``table.csv`` and
    ``differences.csv``, the means and paired differences with their intervals; ``cases.csv``, the
    scores of every case; ``table.tex``, the paper's Table 1; and ``report.json``, every number
    of the report with configuration and versions.

    Works on what is there: runs that failed, are missing or damaged are named in the report.

    Args:
        output_dir: A study's folder.
        compare: A table whose numbers are printed beside the study's, see
            :func:`marginseg.report.comparison.read_comparison`.
        embed: Whether ``report.html`` holds the figures. Otherwise it shows the files beside it,
            and is small.

    Returns:
        The path of ``report.html``, which opens from disk.

    Raises:
        OSError: A file can't be read or written.
        ValueError: The folder holds no study, or ``compare`` is no such table.

    """
    other = None if compare is None else read_comparison(compare)
    results = read_results(output_dir)
    folder = results.folder
    content = _numbers(results, other)
    rows, pairs = content["table"], content["differences"]
    scores = list(results.scores)
    write_text(folder / "table.csv", _csv(rows, TABLE_COLUMNS))
    write_text(folder / "differences.csv", _csv(pairs, DIFFERENCE_COLUMNS))
    write_text(folder / "cases.csv", _csv([score._asdict() for score in scores], CaseScore._fields))
    write_text(folder / "table.tex", latex_table(rows, _caption(content, other), other))
    write_text(folder / "report.json", json.dumps(_finite(content), indent=1) + "\n")
    pictures = _draw(results, content, scores)
    images = {name: _embedded(path) if embed else path.name for name, path in pictures.items()}
    write_text(folder / "report.html", page(content, images, other))
    return folder / "report.html"


def rich_table(output_dir: str | os.PathLike[str], reference: str = "noisy") -> Table:
    """Return the paper's Table 1 for the terminal, 80 columns wide at most.

    Args:
        output_dir: A study's folder.
        reference: What Dice is taken against: ``"noisy"``, ``"clean"`` or ``"marginal"``.

    Returns:
        Means over cases with 95 % intervals, a row a structure and noise level; below it, where
        the paper's claims hold.

    Raises:
        ValueError: The folder holds no study.

    """
    from rich.table import Table

    results = read_results(output_dir)
    rows = [row for row in summarise(results) if row["reference"] == reference]
    table = Table(
        title=f"Dice {REFERENCES[reference]}\nmean over cases [95 % interval]",
        title_justify="left",
        caption="\n".join(_verdicts(judge(differences(results)))) if rows else None,
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("structure", overflow="fold", max_width=12)
    table.add_column("std", justify="right", no_wrap=True)
    methods = [m for m in TABLE_1 if any(row["method"] == m for row in rows)]
    for method in methods:
        table.add_column(method, no_wrap=True)
    for structure, std in dict.fromkeys((row["structure"], row["std"]) for row in rows):
        cells = {
            row["method"]: _short(row)
            for row in rows
            if (row["structure"], row["std"]) == (structure, std)
        }
        table.add_row(structure, f"{std:g}", *(cells.get(method, "–") for method in methods))
    return table


def _numbers(results: Results, other: Comparison | None) -> dict[str, Any]:
    """Return everything numeric that the report says, as JSON has it but for NaN."""
    folder = results.folder
    rows, pairs = summarise(results), differences(results)
    private = _Private(results)
    configuration = results.config.to_dict()
    if results.config.directory is not None:
        # The data set's name is worth telling, where it lay is not.
        configuration["directory"] = Path(results.config.directory).name
    return {
        "format": FORMAT,
        "configuration": configuration,
        "environment": _mapping(read_json(folder / "environment.json")),
        "statistics": {
            "interval": "BCa bootstrap of the mean over test cases, the networks kept",
            "level": intervals.LEVEL,
            "resamples": intervals.RESAMPLES,
            "seed": intervals.SEED,
            "sd": "standard deviation of the folds' means",
        },
        "expected": results.expected,
        "finished": len(results.finished),
        "time": _time(results),
        "findings": judge(pairs),
        "table": rows,
        "differences": pairs,
        "thresholds": {
            "shares": list(QUANTILES),
            "rows": threshold_quantiles(results),
        },
        "calibration": calibration_curves(results),
        "noise": _records(
            read_json(folder / "noise.json"), ("structure", "std", "folded_share", "volume_loss")
        ),
        "compare": None
        if other is None
        else {
            "table": other.name,
            "rows": other.rows(rows),
            "unmatched": other.unmatched(rows),
        },
        "skipped": private.records(
            read_json(folder / "skipped.json"), ("structure", "name", "reason")
        ),
        "failed": private.records(read_json(folder / "failed.json"), ("run", "error", "details")),
        "unreadable": list(results.unreadable),
    }


def _draw(
    results: Results, content: Mapping[str, Any], scores: Sequence[CaseScore]
) -> dict[str, Path]:
    """Draw the figures that there is something for, and remove those of an earlier report."""
    folder = results.folder
    pictures = {"figure1": figure1(folder / "figure1.png")}
    cases, extremes = noise_cases(results), extreme_cases(results)
    if cases:
        pictures["figure2"] = figure2(folder / "figure2.png", cases)
    if scores:
        pictures["figure3"] = figure3(folder / "figure3.png", content["table"])
        pictures["volume"] = volume_figure(folder / "volume.png", content["table"])
        pictures["thresholds"] = thresholds_figure(folder / "thresholds.png", scores)
        pictures["calibration"] = calibration_figure(
            folder / "calibration.png", content["calibration"]
        )
    if content["differences"]:
        pictures["differences"] = differences_figure(
            folder / "differences.png", content["differences"]
        )
    if extremes:
        pictures["cases"] = case_figure(folder / "cases.png", extremes)
    for name in FIGURES:
        if name not in pictures:
            (folder / f"{name}.png").unlink(missing_ok=True)
    return {name: _slim(path) for name, path in pictures.items()}


def _slim(path: Path) -> Path:
    """Write a PNG file again in 256 colours: a third of the size, and no eye sees it."""
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
        fewer = rgb.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with replacing(path) as file:
        fewer.save(file, format="PNG", optimize=True)
    return path


def _verdicts(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Count what became of each claim, a line a claim."""
    lines = []
    for claim in CLAIMS:
        rows = [row for row in findings if row["claim"] == claim.text]
        judged = [row["verdict"] for row in rows if row["verdict"] != "nothing to expect"]
        if judged:
            counts = ", ".join(
                f"{verdict} {judged.count(verdict)}"
                for verdict in ("holds", "fails", "undecided")
                if verdict in judged
            )
            lines.append(f"{claim.text}: {counts} of {len(judged)}")
    return lines


def _short(row: Mapping[str, Any]) -> str:
    if row["method"] == CEILING or math.isnan(row["low"]):
        return f"{row['mean']:.3f}"
    low, high = (f"{row[end]:.3f}".replace("0.", ".", 1) for end in ("low", "high"))
    # The bracket would be taken for markup.
    return f"{row['mean']:.3f} \\[{low},{high}]"


def _caption(content: Mapping[str, Any], other: Comparison | None) -> str:
    configuration = content["configuration"]
    text = (
        "Dice against the noisy test label: mean over cases and 95 % bootstrap interval. "
        f"{configuration['data'].capitalize()} data, {configuration['folds']}-fold "
        f"cross-validation; a is the noise level."
    )
    if other is not None:
        text += f" Below each: the number of {other.name}, and ours less it."
    return text


def _time(results: Results) -> dict[str, Any]:
    """Return the seconds spent in training and testing, in all and by loss."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for run, result in results.finished.items():
        seconds[run.loss].append(float(result["seconds"]))
    return {
        "seconds": sum(sum(times) for times in seconds.values()),
        "by_loss": {
            loss: {"runs": len(times), "mean": statistics.fmean(times), "seconds": sum(times)}
            for loss, times in seconds.items()
        },
    }


class _Private:
    """Takes out of messages where files lay on the machine that made the study."""

    def __init__(self, results: Results) -> None:
        folders = [results.config.directory, str(results.folder.absolute())]
        self.folders = sorted(filter(None, folders), key=len, reverse=True)

    def records(self, content: Any, keys: Sequence[str]) -> list[dict[str, str]]:
        """Return these fields of records as text without such paths."""
        return [
            {key: self.text(str(record[key])) for key in keys} for record in _records(content, keys)
        ]

    def text(self, text: str) -> str:
        for folder in self.folders:
            text = text.replace(folder, Path(folder).name)
        return re.sub(r'File "[^"\n]*?([^/"\n]+/[^/"\n]+)"', r'File "\1"', text)


def _records(content: Any, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return the records that have all of these fields: a damaged file has none."""
    if not isinstance(content, list):
        return []
    return [
        record
        for record in content
        if isinstance(record, dict) and all(key in record for key in keys)
    ]


def _mapping(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}


def _finite(content: Any) -> Any:
    """Return it with None for numbers that JSON doesn't have."""
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return CSV; numbers have six decimals but for std and counts, NaN is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_written(name, row[name]) for name in columns])
    return text.getvalue()


def _written(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    return f"{value:g}" if name == "std" else f"{value:.6f}"


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


__all__ = ["differences_table", "rich_table", "summary_table", "write_report"]
