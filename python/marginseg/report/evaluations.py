"""The files of an evaluation: tables, figures, a page, and the rule to be used."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from marginseg.evaluation.evaluate import Evaluation
from marginseg.files.atomic import write_text
from marginseg.report.content import finite
from marginseg.report.evaluation_content import (
    cases_text,
    evaluation_content,
    fitted_on,
    rules_text,
)
from marginseg.report.evaluation_folder import EvaluationFile, EvaluationPicture
from marginseg.report.evaluation_page import evaluation_page
from marginseg.report.pictures import embedded, slim


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
    content = evaluation_content(evaluation, described)
    for file, text in (
        (EvaluationFile.cases, cases_text(evaluation.scores)),
        (EvaluationFile.rules, rules_text(evaluation.comparisons)),
        (EvaluationFile.numbers, json.dumps(finite(content), indent=1) + "\n"),
    ):
        write_text(folder / file, text)
    pictures = _draw(folder, evaluation, content)
    images = {name: embedded(path) if embed else path.name for name, path in pictures.items()}
    page = folder / EvaluationFile.page
    write_text(page, evaluation_page(content, images))
    rule = replace(evaluation.recommended(), fitted_on=fitted_on(evaluation, content))
    rule.save(folder / EvaluationFile.rule)
    return page


def _draw(folder: Path, evaluation: Evaluation, content: Mapping[str, Any]) -> dict[str, Path]:
    """Draw the figures that there is something for, and remove those of an earlier call."""
    pictures: dict[str, Path] = {}
    for picture in EvaluationPicture:
        if picture.name not in pictures:
            (folder / picture).unlink(missing_ok=True)
    return {name: slim(path) for name, path in pictures.items()}
