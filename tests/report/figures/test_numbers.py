"""Figures of a study's numbers: what they draw is what the tables say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from made_up_study import write_study
from marginseg.report.figures import numbers
from marginseg.report.figures.style import STYLES
from marginseg.report.results import read_results
from marginseg.report.summary import calibration_curves, differences, summarise


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, instead of their files."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        figures.append(figure)
        return path

    monkeypatch.setattr(numbers, "save", keep)
    return figures


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_study(tmp_path / "study")
    return tmp_path / "study"


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize("reference", ["noisy", "clean", "marginal"])
def test_dice_against_noise(reference: str, study: Path, drawn: list[Figure]) -> None:
    rows = summarise(read_results(study))
    numbers.figure3(study / "f.png", rows, reference)
    (figure,) = drawn
    assert [axis.get_title() for axis in figure.axes[:2]] == ["kidney", "thin <tube> & co"]
    for axis, structure in zip(figure.axes, ("kidney", "thin <tube> & co"), strict=False):
        shown = {
            container.get_label().partition(":")[0]: container.lines[0].get_ydata()
            for container in axis.containers
        }
        for method in STYLES:
            means = [
                row["mean"]
                for row in rows
                if (row["structure"], row["method"], row["reference"])
                == (structure, method, reference)
            ]
            assert np.allclose(shown[method], means)
    assert len(texts(figure)) == (4 if reference == "clean" else 5)  # sup D has no clean label


def test_volume_bias_is_in_percent(study: Path, drawn: list[Figure]) -> None:
    rows = summarise(read_results(study))
    numbers.volume_figure(study / "f.png", rows)
    shown = drawn[0].axes[0].containers[0].lines[0].get_ydata()
    ratios = [
        row["mean"]
        for row in rows
        if (row["structure"], row["method"], row["reference"])
        == ("kidney", "CE(0)", "volume_ratio")
    ]
    assert np.allclose(shown, [100 * (ratio - 1) for ratio in ratios])


def test_differences_stand_at_their_means(study: Path, drawn: list[Figure]) -> None:
    rows = differences(read_results(study))
    numbers.differences_figure(study / "f.png", rows)
    better, as_good = drawn[0].axes
    for axis, baseline in ((better, "CE(0)"), (as_good, "SD(0)")):
        means = [
            row["mean"]
            for row in rows
            if (row["baseline"], row["reference"]) == (baseline, "noisy")
        ]
        assert [c.lines[0].get_xdata()[0] for c in axis.containers] == pytest.approx(means)
        assert axis.get_title() == f"CE(*) − {baseline}"


def test_thresholds_are_those_of_the_cases(study: Path, drawn: list[Figure]) -> None:
    results = read_results(study)
    numbers.thresholds_figure(study / "f.png", results.scores)
    medians = sorted(
        float(line.get_ydata()[0])
        for axis in drawn[0].axes[:2]
        for line in axis.lines
        if line.get_linestyle() == ":"
    )
    expected = []
    for structure in results.config.structures:
        for std in results.config.std:
            true = {
                score.name: score.sup_dice / 2
                for score in results.scores
                if (score.structure, score.std) == (structure, std)
            }
            expected.append(float(np.median([*true.values()])))
    assert medians == pytest.approx(sorted(expected))


def test_calibration_curves_leave_out_bins_of_few_voxels(
    study: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = calibration_curves(read_results(study))
    few = int(curves[0]["count"][0]) + 1
    for fewest, points in ((few - 1, 15), (few, 0)):
        monkeypatch.setattr(numbers, "FEWEST_VOXELS", fewest)
        numbers.calibration_figure(study / "f.png", curves)
        line = drawn[-1].axes[0].lines[0]
        assert len(line.get_xdata()) == points
