"""The files of an evaluation: tables, figures, a page, and the rule to be used."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from marginseg.evaluation.candidates import CANDIDATES, PRESENT
from marginseg.evaluation.evaluate import Evaluation
from marginseg.evaluation.verdict import MEAN
from marginseg.files.atomic import write_text
from marginseg.report.content import finite
from marginseg.report.evaluation_content import (
    cases_text,
    evaluation_content,
    fitted_on,
    rules_text,
)
from marginseg.report.evaluation_folder import EvaluationFile, EvaluationPicture, rule_file
from marginseg.report.evaluation_page import evaluation_page
from marginseg.report.extremes import extreme_changes, read_plane
from marginseg.report.figures.extremes import extremes_figure
from marginseg.report.figures.promises import promises_figure, reliability_figure
from marginseg.report.figures.rules import gains_figure, thresholds_figure, volumes_figure
from marginseg.report.map_thresholds import map_thresholds
from marginseg.report.pictures import embedded, slim, width


def write_evaluation(
    output_dir: str | os.PathLike[str],
    evaluation: Evaluation,
    *,
    described: str,
    embed: bool = True,
) -> Path:
    """Write which rule is best for a network, each file whole or not at all.

    Their names are those of :class:`marginseg.report.evaluation_folder.EvaluationFile`; figures are
    PNG files beside them. Figures of an earlier call that there is nothing for are removed. The
    rule to be used is written last.

    Args:
        output_dir: Made if it is new.
        evaluation: What was found.
        described: What cases and classes were taken from, in a sentence.
        embed: Whether the page holds the figures. Otherwise it shows the files beside it.

    Returns:
        The path of the page, which opens from disk.

    Raises:
        OSError: A file can't be written.

    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    # A rule that stands there is that of an earlier call, and belongs to no other file any more.
    (folder / EvaluationFile.rule).unlink(missing_ok=True)
    content = evaluation_content(evaluation, described)
    for file, text in (
        (EvaluationFile.cases, cases_text(evaluation.scores)),
        (EvaluationFile.rules, rules_text(evaluation.comparisons)),
    ):
        write_text(folder / file, text)
    pictures = _draw(folder, evaluation, content)
    write_text(folder / EvaluationFile.numbers, json.dumps(finite(content), indent=1) + "\n")
    images = {name: embedded(path) if embed else path.name for name, path in pictures.items()}
    widths = {name: width(path) for name, path in pictures.items()}
    page = folder / EvaluationFile.page
    write_text(page, evaluation_page(content, images, widths))
    fitted = fitted_on(evaluation, content)
    for candidate in CANDIDATES:
        path = folder / rule_file(candidate.name)
        if candidate.name in evaluation.rules:
            replace(evaluation.rules[candidate.name], fitted_on=fitted).save(path)
        else:
            path.unlink(missing_ok=True)
    replace(evaluation.recommended(), fitted_on=fitted).save(folder / EvaluationFile.rule)
    return page


def _draw(folder: Path, evaluation: Evaluation, content: dict[str, Any]) -> dict[str, Path]:
    """Draw the figures that there is something for, and remove those of an earlier call."""
    drawn: dict[str, Path] = {}
    for picture, draw in (
        (EvaluationPicture.differences, _gains),
        (EvaluationPicture.promises, _promises),
        (EvaluationPicture.reliability, _reliability),
        (EvaluationPicture.thresholds, _thresholds),
        (EvaluationPicture.volumes, _volumes),
        (EvaluationPicture.extremes, _extremes),
    ):
        path = folder / picture
        if draw(path, evaluation, content):
            drawn[picture.name] = slim(path)
        else:
            path.unlink(missing_ok=True)
    return drawn


def _gains(path: Path, _: Evaluation, content: Mapping[str, Any]) -> bool:
    known = any(row["structure"] == MEAN and row["n"] > 0 for row in content["table"])
    if known:
        structures = content["pictured"]
        gains_figure(path, content["table"], structures if len(structures) > 1 else [])
    return known


def _promises(path: Path, evaluation: Evaluation, content: Mapping[str, Any]) -> bool:
    promised = {
        score.rule
        for score in evaluation.scores
        if math.isfinite(score.promised) and math.isfinite(score.overlap)
    }
    rules = [
        name for name in _beside(content, content["verdict"]["calibrated"]) if name in promised
    ]
    if rules:
        every = content["classes"]["names"]
        structures = every if len(content["pictured"]) == len(every) else []
        promises_figure(path, evaluation.scores, rules, structures, content["metric"])
    return bool(rules)


def _reliability(path: Path, _: Evaluation, content: Mapping[str, Any]) -> bool:
    reliability_figure(path, content["reliability"], content["pictured"])
    return True


def _thresholds(path: Path, evaluation: Evaluation, content: Mapping[str, Any]) -> bool:
    thresholds = map_thresholds(evaluation)
    known = any(rule != PRESENT.name for _, rule in thresholds)
    if known:
        thresholds_figure(path, thresholds, content["pictured"])
    return known


def _volumes(path: Path, evaluation: Evaluation, content: Mapping[str, Any]) -> bool:
    sizes = {
        case.name: math.prod(case.spacing) / 1000
        for case in evaluation.cases
        if case.spacing is not None and len(case.spacing) == 3
    }
    known = sizes if len(sizes) == len(evaluation.cases) else None
    rules = _beside(content, content["verdict"]["shown"])
    volumes_figure(path, evaluation.scores, rules, content["pictured"], known)
    return True


def _extremes(path: Path, evaluation: Evaluation, content: dict[str, Any]) -> bool:
    """Draw the largest loss and gain; a case that cannot be read again is told on the page."""
    rule = content["verdict"]["shown"]
    planes = []
    for change in extreme_changes(evaluation, rule):
        try:
            plane = read_plane(evaluation, rule, change)
        except OSError:
            content["unread"].append(change.case)
            continue
        if plane is not None:
            planes.append(plane)
    if planes:
        extremes_figure(path, planes)
    return bool(planes)


def _beside(content: Mapping[str, Any], other: str) -> list[str]:
    """Return the rules of which a figure shows every case: few, that differ."""
    tried = {row["rule"] for row in content["table"]}
    return [name for name in dict.fromkeys((PRESENT.name, "optimal", other)) if name in tried]
