"""The files of a study's report: tables, figures and one page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marginseg.report.columns import csv_text
from marginseg.report.comparison import Comparison, read_comparison
from marginseg.report.content import finite, report_content
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
from marginseg.report.pictures import embedded, slim
from marginseg.report.results import CaseScore, Results, read_results
from marginseg.study.folder import ReportFile

#: The names of the figures, without ``.png``.
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

TABLE_COLUMNS = (
    "structure",
    "std",
    "method",
    "reference",
    "mean",
    "sd",
    "low",
    "high",
    "n",
    "networks",
    "covers",
)
DIFFERENCE_COLUMNS = (*TABLE_COLUMNS[:3], "baseline", *TABLE_COLUMNS[3:], "p")


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
    content = report_content(results, other)
    rows, pairs = content["table"], content["differences"]
    scores = list(results.scores)
    cases = [score._asdict() for score in scores]
    for file, text in (
        (ReportFile.table, csv_text(rows, TABLE_COLUMNS)),
        (ReportFile.differences, csv_text(pairs, DIFFERENCE_COLUMNS)),
        (ReportFile.cases, csv_text(cases, CaseScore._fields)),
        (ReportFile.latex, latex_table(rows, _caption(content, other), other)),
        (ReportFile.numbers, json.dumps(finite(content), indent=1) + "\n"),
    ):
        folder.write_report_file(file, text)
    pictures = _draw(results, content, scores)
    images = {name: embedded(path) if embed else path.name for name, path in pictures.items()}
    folder.write_report_file(ReportFile.page, page(content, images, other))
    return folder.report_file(ReportFile.page)


def _draw(
    results: Results, content: Mapping[str, Any], scores: Sequence[CaseScore]
) -> dict[str, Path]:
    """Draw the figures that there is something for, and remove those of an earlier report."""
    folder = results.folder
    pictures = {"figure1": figure1(folder.figure("figure1"))}
    cases, extremes = noise_cases(results), extreme_cases(results)
    if cases:
        pictures["figure2"] = figure2(folder.figure("figure2"), cases)
    if scores:
        pictures["figure3"] = figure3(folder.figure("figure3"), content["table"])
        pictures["volume"] = volume_figure(folder.figure("volume"), content["table"])
        pictures["thresholds"] = thresholds_figure(folder.figure("thresholds"), scores)
        pictures["calibration"] = calibration_figure(
            folder.figure("calibration"), content["calibration"]
        )
    if content["differences"]:
        pictures["differences"] = differences_figure(
            folder.figure("differences"), content["differences"]
        )
    if extremes:
        pictures["cases"] = case_figure(folder.figure("cases"), extremes)
    for name in FIGURES:
        if name not in pictures:
            folder.figure(name).unlink(missing_ok=True)
    return {name: slim(path) for name, path in pictures.items()}


def _caption(content: Mapping[str, Any], other: Comparison | None) -> str:
    configuration = content["configuration"]
    text = (
        "Dice against the noisy test label: mean over cases and 95 % interval. "
        f"{configuration['data'].capitalize()} data, {configuration['folds']}-fold "
        f"cross-validation; a is the noise level."
    )
    if other is not None:
        text += f" Below each: the number of {other.name}, and ours less it."
    return text
