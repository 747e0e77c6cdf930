"""The benchmark of `marginseg evaluate`, on a few small cases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import evaluation, record
from marginseg.files.predictions import open_labels, open_predictions

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_whole_command_is_timed(tmp_path: Path) -> None:
    options = ("--cases", "12", "--edge", "16", "--output", tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "bench.evaluation", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (file,) = tmp_path.glob("evaluation-*.json")
    row = json.loads(file.read_text())["row"]
    assert (row["cases"], row["edge"]) == (12, 16)
    # Torch is imported in seconds, and as many small cases are read in less.
    assert 1 < row["seconds"] < 300
    assert 0 < row["reading"] < row["seconds"]
    assert "| 12 | 16³ × 4 channels |" in (tmp_path / "evaluation.md").read_text()


def test_cases_are_what_nnunet_writes(tmp_path: Path) -> None:
    maps, labels = evaluation.make(tmp_path, 11, 12)
    opened = open_predictions(maps)
    assert len(opened.cases) == 11
    assert opened.layout == "nnU-Net v2, predictions, softmax"
    found = open_labels(labels, opened)
    for case in opened.cases:
        assert abs(case.probabilities().sum(0) - 1).max() < 1e-5
        assert found[case.name].targets().any()


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    assert (record.FOLDER / "evaluation.md").read_text() == evaluation.page(record.FOLDER)
