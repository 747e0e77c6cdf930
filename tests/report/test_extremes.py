"""The cases where a rule loses and gains most, and the planes that are shown of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from made_up_evaluation import made_up_evaluation
from marginseg.evaluation.case import Case, Label
from marginseg.evaluation.evaluate import Evaluation
from marginseg.evaluation.scores import Score
from marginseg.evaluation.verdict import MEAN
from marginseg.report.extremes import (
    Change,
    Plane,
    extreme_changes,
    fullest_plane,
    read_plane,
)
from marginseg.report.figures import extremes as figures
from marginseg.report.figures.extremes import closer, extremes_figure


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return made_up_evaluation(5, ["a", "b"], own=True, spacing=(1.0, 1.0, 3.0))


def scored(found: Evaluation, rows: Sequence[tuple[str, str, float, float]]) -> Evaluation:
    """Return it with these overlaps: case, class, of the present rule, of t*."""
    scores = [
        Score(case, structure, rule, overlap, math.nan, math.nan, 1, 1)
        for case, structure, before, after in rows
        for rule, overlap in (("present", before), ("optimal", after))
    ]
    return replace(found, scores=scores)


def test_the_largest_loss_and_gain_of_the_mean_over_classes(found: Evaluation) -> None:
    evaluation = scored(
        found,
        [
            ("one", "a", 0.5, 0.9),
            ("one", "b", 0.5, 0.5),
            ("two", "a", 0.5, 0.2),
            ("two", "b", 0.5, 0.6),
            ("three", "a", 0.5, 0.1),
            ("three", "b", 0.1, 0.5),
        ],
    )
    loss, gain = extreme_changes(evaluation, "optimal")
    assert loss == Change("two", pytest.approx(-0.1), "a", 0.5, 0.2)
    assert gain == Change("one", pytest.approx(0.2), "a", 0.5, 0.9)


def test_a_loss_is_a_loss_and_a_gain_a_gain(found: Evaluation) -> None:
    better = scored(found, [("one", "a", 0.5, 0.6), ("two", "a", 0.5, 0.7)])
    assert [change.case for change in extreme_changes(better, "optimal")] == ["two"]
    same = scored(found, [("one", "a", 0.5, 0.5)])
    assert extreme_changes(same, "optimal") == []
    nothing = scored(found, [("one", "a", math.nan, math.nan)])
    assert extreme_changes(nothing, "optimal") == []


def test_what_is_painted_where_the_label_has_nothing_is_a_loss(found: Evaluation) -> None:
    name = found.cases[0].name
    evaluation = scored(found, [(name, "a", 0.7, 0.8), (name, "b", math.nan, 0.0)])
    (change,) = extreme_changes(evaluation, "optimal")
    assert change[:3] == (name, pytest.approx((0.1 - 1) / 2), "b")
    plane = read_plane(found, "optimal", change)
    assert plane is not None
    assert plane.title[3].startswith("rightly empty before, 0.000 with")
    nothing = scored(found, [("one", "a", 0.7, 0.8), ("one", "b", math.nan, math.nan)])
    (change,) = extreme_changes(nothing, "optimal")
    assert change == Change("one", pytest.approx(0.1), "a", 0.7, 0.8)


def test_changes_are_those_of_the_comparison(found: Evaluation) -> None:
    changes = extreme_changes(found, "threshold")
    mean = next(c for c in found.comparisons if (c.structure, c.rule) == (MEAN, "threshold"))
    if mean.worst_case:
        assert (changes[0].case, changes[0].difference) == (
            mean.worst_case,
            pytest.approx(mean.worst),
        )
    else:
        assert all(change.difference > 0 for change in changes)


@pytest.mark.parametrize("rule", ["optimal", "platt"])
def test_a_plane_shows_map_label_and_masks(found: Evaluation, rule: str) -> None:
    case = found.cases[2]
    plane = read_plane(found, rule, Change(case.name, -0.2, "b", 0.8, 0.6))
    assert plane is not None
    label, own = case.label(), case.segmentation()
    used = found.fitted.get((case.name, rule), found.rules[rule])
    together = np.stack(
        [
            label.masks[1],
            found.classes.targets(own)[1],
            used.masks(case.probabilities())[1],
        ]
    )
    # Slices are 3 mm thick, so the plane is one of them: the one with most in it.
    best = int(together.sum(axis=(0, 1, 2)).argmax())
    assert np.array_equal(plane.probability, case.probabilities()[1, :, :, best])
    assert np.array_equal([plane.label, plane.before, plane.after], together[..., best])
    assert plane.sizes == (1.0, 1.0)
    assert plane.title[0] == "largest loss: −20.0 points"
    assert plane.title[3].startswith("0.800 before, 0.600 with")


def test_a_plane_leaves_out_what_nobody_labelled(found: Evaluation) -> None:
    case = found.cases[0]
    label = case.label()
    nowhere = Label(label.masks, np.zeros(label.masks.shape[1:], bool))
    changed = replace(found, cases=[replace(case, label=lambda: nowhere), *found.cases[1:]])
    plane = read_plane(changed, "optimal", Change(case.name, 0.1, "a", 0.5, 0.6))
    assert plane is not None
    assert not np.any([plane.label, plane.before, plane.after])


def test_two_axes_are_a_plane_and_one_is_none() -> None:
    for shape, spacing in (((30, 20), (0.5, 2.0)), ((50,), (1.0,))):
        found = made_up_evaluation(2, ["a"], shape=shape, spacing=spacing)
        plane = read_plane(found, "optimal", Change("case_1", 0.1, "a", 0.5, 0.6))
        if len(shape) == 1:
            assert plane is None
        else:
            assert plane is not None
            assert plane.sizes == spacing
            assert np.array_equal(plane.probability, found.cases[1].probabilities()[0])
            before = found.rules["present"].masks(found.cases[1].probabilities())[0]
            assert np.array_equal(plane.before, before)


def test_the_fullest_plane_is_the_one_of_most_area() -> None:
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(2, 5, 6, 7)) < 0.3
    spacing = (1.0, 1.2, 0.9)
    areas = {
        (axis, index): masks.take(index, axis + 1).sum() * np.prod(spacing) / spacing[axis]
        for axis in range(3)
        for index in range(masks.shape[axis + 1])
    }
    assert areas[fullest_plane(masks, spacing)] == max(areas.values())


def made_up_plane(sizes: tuple[float, float]) -> Plane:
    masks = np.zeros((3, 20, 30), bool)
    masks[0, 6:10, 8:20] = masks[1, 7:9, 9:18] = masks[2, 6:11, 8:19] = True
    title = ["largest loss: −1.0 points", "case_$1$", "a", "0.5 before, 0.4 with t*"]
    return Plane(title, np.full((20, 30), 0.25), *masks, sizes, "optimal")


def test_the_figure_shows_contours_where_the_masks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Figure] = []
    monkeypatch.setattr(figures, "save", lambda figure, path: shown.append(figure) or path)
    plane = made_up_plane((2.0, 1.0))
    extremes_figure("f.png", [plane])
    whole, near = shown[0].axes[:2]
    assert whole.images[0].get_array().shape == (30, 20)  # the first axis to the right
    assert whole.get_aspect() == 0.5  # a voxel is half as high as it is wide
    assert whole.get_xlim() == (-0.5, 19.5)
    # Contours of the label, of t*, and of the present rule above them.
    boxes = [contour.get_paths()[0].get_extents() for contour in near.collections]
    expected = [(5.5, 9.5, 7.5, 19.5), (5.5, 10.5, 7.5, 18.5), (6.5, 8.5, 8.5, 17.5)]
    assert [(b.x0, b.x1, b.y0, b.y1) for b in boxes] == expected
    left, right = near.get_xlim()
    assert left < 5.5
    assert right > 10.5
    assert right - left < 12
    texts = [text.get_text() for text in shown[0].legends[0].get_texts()]
    assert texts == ["label", "present rule", "t*"]


def test_the_closer_look_stays_in_the_plane() -> None:
    plane = made_up_plane((1.0, 1.0))
    assert closer(plane) == (slice(4, 13), slice(5, 23))
    nothing = np.zeros((20, 30), bool)
    empty = replace(plane, label=nothing, before=nothing, after=nothing)
    assert closer(empty) == (slice(0, 20), slice(0, 30))


def test_cases_have_their_own_names() -> None:
    """Cases are found by their names, in whatever order."""
    found = made_up_evaluation(3, ["a"])
    turned: list[Case] = list(reversed(found.cases))
    changed = replace(found, cases=turned)
    change = Change("case_0", 0.1, "a", 0.5, 0.6)
    first, second = read_plane(found, "platt", change), read_plane(changed, "platt", change)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.probability, second.probability)
