"""Figures of the rules of a network: what they draw is what was found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import expit

from made_up_evaluation import NASTY, made_up_evaluation
from marginseg.evaluation.candidates import ALL
from marginseg.evaluation.case import Settings
from marginseg.evaluation.evaluate import Evaluation
from marginseg.evaluation.verdict import MEAN
from marginseg.report.evaluation_content import evaluation_content
from marginseg.report.figures import promises, rules
from marginseg.report.figures.style import drawn_name

PATH = "f.png"


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return made_up_evaluation(6)


@pytest.fixture(scope="module")
def content(found: Evaluation) -> dict[str, Any]:
    return evaluation_content(found, "")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, instead of their files."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        figures.append(figure)
        return path

    for module in (rules, promises):
        monkeypatch.setattr(module, "save", keep)
    return figures


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_rules_differ_in_colour_and_marker_and_all_have_them() -> None:
    assert set(rules.RULES) == {candidate.name for candidate in ALL}
    colours, markers, _ = zip(*rules.RULES.values(), strict=True)
    assert len(set(colours)) == len(set(markers)) == len(ALL)
    assert len(set(rules.CLASSES)) == 8
    assert len({marker for _, marker in rules.CLASSES}) == 8


def test_gains_stand_at_their_means_in_points(content: dict[str, Any], drawn: list[Figure]) -> None:
    rules.gains_figure(PATH, content["table"], NASTY)
    (figure,) = drawn
    (axis,) = figure.axes
    titles = {c.title: c.name for c in ALL}
    assert len(axis.containers) == 6
    for container in axis.containers:
        name = titles[container.get_label().removesuffix(" (nobody can use it)")]
        here = [
            next(r for r in content["table"] if (r["structure"], r["rule"]) == (structure, name))
            for structure in (MEAN, *NASTY)
        ]
        points, _, (bars,) = container.lines
        assert points.get_xdata() == pytest.approx([100 * row["difference"] for row in here])
        ends = [segment[:, 0] for segment in bars.get_segments()]
        expected = [[100 * row["low"], 100 * row["high"]] for row in here]
        assert np.allclose(ends, expected)
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["mean over\nclasses", *map(drawn_name, NASTY)]
    # No point of one group stands among those of another.
    places = [c.lines[0].get_ydata() for c in axis.containers]
    assert np.max(places, axis=0)[0] < np.min(places, axis=0)[1]


def test_gains_of_one_case_have_no_bars(drawn: list[Figure]) -> None:
    content = evaluation_content(made_up_evaluation(1, ["lesion"]), "")
    rules.gains_figure(PATH, content["table"], [])
    segments = [c.lines[2][0].get_segments() for c in drawn[0].axes[0].containers]
    assert all(np.ptp(segment[0][:, 0]) == 0 for segment in segments)


def test_thresholds_stand_where_the_map_is_cut(drawn: list[Figure]) -> None:
    thresholds = {
        ("a", "optimal"): {"one": 0.4, "two": 0.45},
        ("a", "ceiling"): {"one": 1e-9, "two": 0.97},
        ("b", "optimal"): {"one": 0.3},
        ("a", "present"): {"one": 0.5},
    }
    rules.thresholds_figure(PATH, thresholds, ["a", "b"])
    left, right = drawn[0].axes
    shown = {line.get_label(): expit(line.get_xdata()).tolist() for line in left.lines[:2]}
    assert shown["optimal"] == pytest.approx([0.4, 0.45])
    assert shown["ceiling"] == pytest.approx([rules.NEAREST, 0.97])
    assert expit(right.lines[0].get_xdata()).tolist() == pytest.approx([0.3])
    assert [t.get_text() for t in left.get_yticklabels()] == ["t*", "best threshold a case"]
    low, high = expit(left.get_xlim())
    assert low < rules.NEAREST
    assert high > 0.97


def test_a_box_holds_the_middle_half_of_the_thresholds(drawn: list[Figure]) -> None:
    values = np.linspace(0.1, 0.6, 41)
    by_case = {str(n): float(value) for n, value in enumerate(values)}
    rules.thresholds_figure(PATH, {("a", "optimal"): by_case}, ["a"])
    (box,) = drawn[0].axes[0].patches
    ends = expit([box.get_x(), box.get_x() + box.get_width()])
    assert ends == pytest.approx(np.quantile(values, [0.25, 0.75]), abs=0.002)


def test_volumes_are_those_of_label_and_segmentation(
    found: Evaluation, drawn: list[Figure]
) -> None:
    sizes = {case.name: 0.5 + n for n, case in enumerate(found.cases)}
    for millilitres in (None, sizes):
        rules.volumes_figure(PATH, found.scores, ["present", "platt"], NASTY, millilitres)
        for axis, rule in zip(drawn[-1].axes, ("present", "platt"), strict=True):
            for line, structure in zip(axis.lines[1:], NASTY, strict=True):
                here = [s for s in found.scores if (s.structure, s.rule) == (structure, rule)]
                factor = np.array([sizes[s.case] if millilitres else 1.0 for s in here])
                assert np.allclose(line.get_xdata(), factor * [s.label_voxels for s in here])
                assert np.allclose(line.get_ydata(), factor * [s.voxels for s in here])
        unit = "ml" if millilitres else "voxels"
        assert drawn[-1].axes[0].get_xlabel() == f"label ({unit})"
    assert texts(drawn[0]) == [drawn_name(name) for name in NASTY]


def test_a_volume_of_nothing_stands_at_the_edge(found: Evaluation, drawn: list[Figure]) -> None:
    scores = [s._replace(voxels=0) if s.case == "case_1" else s for s in found.scores]
    rules.volumes_figure(PATH, scores, ["present"], NASTY[:1], None)
    (axis,) = drawn[0].axes
    edge = axis.get_ylim()[0]
    shown = axis.lines[1].get_ydata()
    assert shown[1] == edge
    assert min(np.delete(shown, 1)) > 2 * edge
    assert "0" in [text.get_text() for text in axis.texts]


def test_promises_stand_against_what_is_reached(found: Evaluation, drawn: list[Figure]) -> None:
    names = ["present", "optimal", "platt"]
    promises.promises_figure(PATH, found.scores, names, NASTY, "F2")
    promises.promises_figure(PATH, found.scores, names, [], "F2")
    for axis, mean, rule in zip(drawn[0].axes, drawn[1].axes, names, strict=True):
        pairs = {
            structure: np.array(
                [
                    (s.promised, s.overlap)
                    for s in found.scores
                    if (s.structure, s.rule) == (structure, rule)
                ]
            )
            for structure in NASTY
        }
        for line, structure in zip(axis.lines[1:], NASTY, strict=True):
            assert np.allclose(np.transpose(line.get_data()), pairs[structure])
        assert np.allclose(np.transpose(mean.lines[1].get_data()), sum(pairs.values()) / len(pairs))
        assert axis.get_xlim() == axis.get_ylim()
        assert axis.get_xlim()[0] <= min(array.min() for array in pairs.values())
    assert drawn[0].axes[0].get_xlabel() == "promised F2"


def test_what_says_nothing_promises_nothing(drawn: list[Figure]) -> None:
    found = made_up_evaluation(3, ["a", "nowhere"], Settings(empty="skip"), absent=(1,))
    promises.promises_figure(PATH, found.scores, ["optimal"], [], "Dice")
    own = [s for s in found.scores if (s.structure, s.rule) == ("a", "optimal")]
    shown = np.transpose(drawn[0].axes[0].lines[1].get_data())
    assert np.allclose(shown, [(s.promised, s.overlap) for s in own])


def test_reliability_is_told_of_bins_with_voxels(
    content: dict[str, Any], drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = int(np.median(content["reliability"][0]["count"]))  # so that some bins have fewer
    monkeypatch.setattr(promises, "FEWEST_VOXELS", few)
    left_out = 0
    promises.reliability_figure(PATH, content["reliability"], NASTY)
    for axis, structure in zip(drawn[0].axes, NASTY, strict=True):
        curves = [c for c in content["reliability"] if c["structure"] == structure]
        assert len(axis.lines) == 1 + len(curves) == 5
        for line, curve in zip(axis.lines[1:], curves, strict=True):
            bins = [
                (promised / count, held / count)
                for count, promised, held in zip(
                    curve["count"], curve["promised"], curve["held"], strict=True
                )
                if count >= few
            ]
            left_out += 15 - len(bins)
            assert np.allclose(np.transpose(line.get_data()), bins)
    assert left_out > 0
    assert texts(drawn[0]) == ["as the network gave them", "temperature", "Platt", "isotonic"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_every_column_has_its_label(count: int) -> None:
    figure, panels = rules.panels_of(count, height=2.0, sharey=True)
    rules.label_axes(panels, "below", "beside")
    columns = rules.columns_of(count)
    assert len(panels) == count
    assert len([axis for axis in panels if axis.get_xlabel()]) == min(columns, count)
    assert len([axis for axis in panels if axis.get_ylabel()]) == math.ceil(count / columns)
    assert [axis.get_visible() for axis in figure.axes] == [True] * count + [False] * (
        len(figure.axes) - count
    )
