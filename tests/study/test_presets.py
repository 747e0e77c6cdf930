"""The studies to start from."""

from __future__ import annotations

import csv
import dataclasses
from typing import Any

import pytest

from marginseg.data import folds
from marginseg.report.comparison import published_table
from marginseg.study import PAPER, PRESETS
from marginseg.study.presets import preset


def test_presets_are_what_they_say() -> None:
    assert (PAPER.learning_rate, PAPER.weight_decay, PAPER.epochs) == (1e-4, 1e-5, 100)
    assert (PAPER.plateau_patience, PAPER.plateau_factor) == (30, pytest.approx(1 / 5))
    assert (PAPER.features, PAPER.patch_shape, PAPER.folds) == (
        (16, 32, 64, 128, 256),
        (64, 64, 64),
        5,
    )
    # A study by the paper's settings has every row of its Table 1.
    with published_table("totalsegmentator", ["aorta"], [0.01]).open() as file:
        assert PAPER.std == tuple(sorted({float(row["std"]) for row in csv.DictReader(file)}))
    folders: dict[str, Any] = {"directory": "somewhere", "structures": ["aorta"]}
    paper = preset("paper", data="totalsegmentator", **folders)
    assert (paper.spacing, paper.max_cases, paper.largest_cut) == ((3.0,), 400, 0.03)
    assert dataclasses.replace(PAPER, data="totalsegmentator", **folders) == dataclasses.replace(
        paper, spacing=None, max_cases=None, largest_cut=None
    )
    for train, test in folds(paper.max_cases or 0, paper.folds, paper.seed):
        assert (len(train), len(test)) == (320, 80)
    assert preset("paper", data="totalsegmentator", max_cases=7, **folders).max_cases == 7
    task = preset("paper", data="decathlon", **folders)
    assert (task.spacing, task.max_cases, task.largest_cut) == (None, None, None)
    assert preset("paper") == PAPER
    assert PAPER.number_of_phantoms == 400
    with pytest.raises(ValueError, match="^preset: expected one of quick, paper, got 'slow'"):
        preset("slow")
    for config in PRESETS.values():
        names = [run.id for run in config.resolved().runs()]
        assert len(names) == len(set(names))
