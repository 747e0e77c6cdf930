from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from made_up_study import write_study
from marginseg.report import write_report

CPU = {"device": "cpu", "precision": "float32"}
GPU = {"device": "NVIDIA <H100>", "precision": "bfloat16"}


def _write(folder: Path, pattern: str, *trained_on: dict[str, str]) -> None:
    for path in (folder / "runs").glob(f"{pattern}/result.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps({**result, "trained_on": trained_on}))


def _reported(folder: Path) -> tuple[str, dict[str, Any]]:
    page = write_report(folder).read_text(encoding="utf-8")
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    return text, json.loads((folder / "report.json").read_text())["computed"]


@pytest.mark.usefixtures("undrawn", "small_figure1")
def test_a_cell_that_mixes_precisions_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder, structures=("kidney",))
    _write(folder, "*", CPU)
    page, computed = _reported(folder)
    assert "cpu in float32 8" in page
    assert "same precision" not in page
    assert computed == {"trained_on": [{"devices": [CPU], "trainings": 8}], "mixed": []}

    _write(folder, "kidney-std0.06-fold1-soft_dice*", GPU)
    page, computed = _reported(folder)
    assert "kidney at a = 0.06: 3 on cpu in float32, 1 on NVIDIA <H100> in bfloat16" in page
    assert "kidney at a = 0:" not in page
    assert [line["trainings"] for line in computed["trained_on"]] == [7, 1]


@pytest.mark.usefixtures("undrawn", "small_figure1")
def test_trainings_that_went_on_elsewhere_or_are_of_unknown_origin(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder, structures=("kidney",), std=(0.06,))
    page, computed = _reported(folder)
    assert "unknown device 4" in page
    assert not computed["mixed"]
    _write(folder, "*fold0-soft_dice*", CPU, GPU)
    page, _ = _reported(folder)
    assert "3 on unknown device, 1 on cpu in float32, then NVIDIA <H100> in bfloat16" in page
