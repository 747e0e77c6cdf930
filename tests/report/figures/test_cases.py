"""Figures of a study's cases: which are shown, and with what titles."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from made_up_study import write_study
from marginseg.report.figures.cases import case_figure, extreme_cases, figure2, noise_cases
from marginseg.report.results import Results, read_results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    write_study(tmp_path / "study")
    return read_results(tmp_path / "study")


def test_worst_and_best_cases_are_so(results: Results) -> None:
    cases = extreme_cases(results)
    assert len(cases) == 4
    scores = [
        s.dice_noisy
        for s in results.scores
        if (s.structure, s.std, s.method) == ("kidney", 0.06, "CE(*)")
    ]
    assert [case["dice"] for case in cases[:2]] == [min(scores), max(scores)]
    assert "worst" in cases[0]["title"]
    levels = [[level["std"] for level in case["levels"]] for case in noise_cases(results)]
    assert levels == [[0.0, 0.06]] * 2


def test_the_same_case_stands_at_every_noise_level(results: Results) -> None:
    for case in noise_cases(results):
        first = case["levels"][0]["clean"]
        assert all((level["clean"] == first).all() for level in case["levels"])


def test_both_figures_are_drawn(results: Results, tmp_path: Path) -> None:
    for path in (
        figure2(tmp_path / "figure2.png", noise_cases(results)),
        case_figure(tmp_path / "cases.png", extreme_cases(results)),
    ):
        with Image.open(path) as picture:
            assert min(picture.size) > 200


def test_without_pictures_there_is_nothing_to_show(results: Results) -> None:
    for path in results.folder.path.glob("runs/*/slices.npz"):
        path.unlink()
    assert (noise_cases(results), extreme_cases(results)) == ([], [])
