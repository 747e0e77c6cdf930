"""A rule against NumPy, written out class by class."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

import marginseg
from marginseg.calibration import fit
from marginseg.classes import Classes
from marginseg.flat_map import FlatMap
from marginseg.rule import Rule, load_rule

ORGANS = Classes.softmax(["liver", "spleen", "vessel"])
REGIONS = Classes.regions({"whole": (1, 2), "core": (2,)}, painted=(1, 2))
#: The same without a label map: each keeps its own mask.
MASKS = replace(REGIONS, painted=None)

PROBABILITIES = st.sampled_from([0.0, 0.02, 0.25, 0.5, 0.5000001, 0.75, 1.0]) | st.floats(
    0, 1, width=32
)


def _softmax(seed: int, shape: tuple[int, ...] = (4, 6, 7, 5)) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).normal(size=shape)
    p = np.exp(logits - logits.max(0))
    return (p / p.sum(0)).astype(np.float32)


def _dice(m: np.ndarray, mask: np.ndarray) -> float:
    total = mask.sum() + m.sum(dtype=np.float64)
    return float(2 * m[mask].sum(dtype=np.float64) / total) if total else 1.0


@given(arrays(np.float32, (4, 3, 4), elements=PROBABILITIES))
def test_half_is_the_argmax(p) -> None:
    np.testing.assert_array_equal(Rule(ORGANS, "half").labels(p), p.argmax(0))


@given(arrays(np.float32, (2, 3, 4), elements=PROBABILITIES))
def test_half_of_regions_is_what_exceeds_half_painted_in_order(p) -> None:
    """As nnU-Net decides: strictly above ½."""
    expected = np.zeros(p.shape[1:], np.uint8)
    expected[p[0] > 0.5] = 1
    expected[p[1] > 0.5] = 2
    np.testing.assert_array_equal(Rule(REGIONS, "half").labels(p), expected)


@given(arrays(np.float32, (3, 3, 4), elements=PROBABILITIES))
def test_half_without_a_background_has_to_exceed_half(p) -> None:
    classes = Classes(("a", "b", "c"), (0, 1, 2), ((1,), (2,), (3,)), True, None, (1, 2, 3))
    expected = np.where(p.max(0) > 0.5, p.argmax(0) + 1, 0)
    np.testing.assert_array_equal(Rule(classes, "half").labels(p), expected)


@given(arrays(np.float32, (2, 3, 4), elements=PROBABILITIES))
def test_each_region_is_cut_where_its_dice_is_largest(p) -> None:
    masks = Rule(MASKS).masks(p)
    for m, mask in zip(p, masks, strict=True):
        best = max(_dice(m, m >= t) for t in [*np.unique(m), 2.0])
        assert _dice(m, mask) == pytest.approx(best, abs=1e-12)


@given(
    arrays(np.float32, (3, 3, 4), elements=PROBABILITIES),
    st.sampled_from(
        [
            Classes.regions({"a": (1, 2, 3), "b": (2, 3), "c": (3,)}, painted=(1, 2, 3)),
            Classes.regions({"a": (1,), "b": (2,), "c": (3,)}, painted=(1, 2, 3)),
            Classes.regions({"a": (7,), "b": (7, 9), "c": (4,)}, painted=(7, 9, 4)),
        ]
    ),
    st.sampled_from(["half", "optimal"]),
)
def test_what_is_told_of_painted_classes_is_what_their_label_map_shows(p, classes, decision):
    rule = Rule(classes, decision)
    labels = rule.labels(p)
    np.testing.assert_array_equal(
        labels, classes.paint(Rule(replace(classes, painted=None), decision).masks(p))
    )
    masks = rule.masks(p)
    promised = rule.decide(FlatMap.of(p, 3)).expected
    for values, mask, m, told in zip(classes.values, masks, p, promised, strict=True):
        np.testing.assert_array_equal(mask, np.isin(labels, values))
        assert told == pytest.approx(_dice(m, mask), abs=1e-12)


def test_exclusive_classes_are_optimal_labels() -> None:
    p = _softmax(0)
    found = marginseg.optimal_labels(torch.from_numpy(p), background=0, spatial_dims=p.ndim - 1)
    np.testing.assert_array_equal(Rule(ORGANS).labels(p), found.labels)


def test_channels_that_no_class_has_do_not_matter() -> None:
    """Classes in channels 1 and 3 of five, the background's in 2, and others with noise."""
    p = _softmax(1, (3, 8, 8))
    wide = np.random.default_rng(0).uniform(size=(5, 8, 8)).astype(np.float32)
    wide[[2, 1, 3]] = p
    plain = Classes.softmax(["a", "b"])
    spread = Classes(("a", "b"), (1, 3), ((1,), (2,)), True, 2, (1, 2))
    for decision in ("half", "optimal"):
        np.testing.assert_array_equal(
            Rule(spread, decision).labels(wide), Rule(plain, decision).labels(p)
        )


@given(arrays(np.float32, (4, 3, 4), elements=PROBABILITIES), st.integers(0, 2**32 - 1))
def test_fixed_thresholds_of_exclusive_classes(p, seed) -> None:
    thresholds = tuple(np.random.default_rng(seed).uniform(0.01, 1, 3))
    labels = Rule(ORGANS, "fixed", thresholds).labels(p)
    share = p[1:].astype(np.float64) / np.reshape(thresholds, (3, 1, 1))
    above = p[1:] >= np.reshape(thresholds, (3, 1, 1))
    for place in np.ndindex(labels.shape):
        chosen = int(labels[place])
        candidates = np.where(above[(slice(None), *place)])[0]
        assert (chosen == 0) == (len(candidates) == 0)
        if chosen:
            assert chosen - 1 in candidates
            best = share[(candidates, *place)].max()
            assert share[(chosen - 1, *place)] >= best * (1 - 1e-6)


def test_fixed_thresholds_of_regions() -> None:
    p = _softmax(2)[:2]
    masks = Rule(MASKS, "fixed", (0.3, 0.1)).masks(p)
    np.testing.assert_array_equal(masks, [p[0] >= np.float32(0.3), p[1] >= np.float32(0.1)])


@pytest.mark.parametrize("classes", [ORGANS, MASKS], ids=["softmax", "regions"])
def test_what_is_left_at_half_is_as_it_was(classes) -> None:
    p = _softmax(3)
    held = classes.names[1]
    masks = Rule(classes, at_half=(held,)).masks(p)
    half = Rule(classes, "half").masks(p)
    optimal = Rule(classes).masks(p)
    np.testing.assert_array_equal(masks[1], half[1])
    assert (masks[0] != half[0]).any()
    np.testing.assert_array_equal(
        masks[0], optimal[0] & ~half[1] if classes.exclusive else optimal[0]
    )


def test_what_is_left_at_half_is_not_calibrated() -> None:
    p = _softmax(4)[:2]
    calibration = fit((p, p > 0.8), method="platt")
    masks = Rule(MASKS, calibration=calibration, at_half=("core",)).masks(p)
    np.testing.assert_array_equal(masks[1], p[1] > 0.5)
    np.testing.assert_array_equal(masks[0], Rule(MASKS).masks(calibration.apply(p))[0])


@pytest.mark.parametrize("classes", [ORGANS, MASKS], ids=["softmax", "regions"])
def test_nothing_is_left_that_is_small_or_improbable(classes) -> None:
    p = ndimage.gaussian_filter(_softmax(5, (4, 12, 12, 12)), (0, 1, 1, 1))
    plain = Rule(classes).masks(p)
    rule = Rule(classes, min_probability=0.3, smallest_component=9)
    for m, before, after in zip(p[list(classes.channels)], plain, rule.masks(p), strict=True):
        kept = before & (m >= 0.3)
        components, count = ndimage.label(kept, np.ones((3, 3, 3)))
        sizes = ndimage.sum_labels(kept, components, range(1, count + 1))
        expected = np.isin(components, 1 + np.flatnonzero(sizes >= 9))
        np.testing.assert_array_equal(after, expected)
        assert before.sum() > kept.sum() > expected.sum()  # each of the two took something
    named = classes if classes.exclusive else REGIONS
    painted = named.paint(rule.masks(p))
    np.testing.assert_array_equal(replace(rule, classes=named).labels(p), painted)


def test_what_the_map_promises_is_told() -> None:
    p = _softmax(6)
    for rule in (Rule(MASKS), Rule(MASKS, "half"), Rule(MASKS, "fixed", (0.2, 0.4))):
        flat = FlatMap.of(p, 2)
        decided = rule.decide(flat)
        for m, mask, told in zip(p, rule.masks(p), decided.expected, strict=False):
            assert told == pytest.approx(_dice(m, mask), abs=1e-12)
    best = Rule(MASKS).decide(FlatMap.of(p, 2))
    assert best.thresholds == pytest.approx(np.array(best.expected) / 2, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_tensors_and_arrays_of_any_order_agree(dtype) -> None:
    p = torch.from_numpy(_softmax(7)).to(dtype)
    array = np.ascontiguousarray(p.numpy().transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    for rule in (
        Rule(ORGANS),
        Rule(ORGANS, "half"),
        Rule(REGIONS),
        Rule(ORGANS, "fixed", (0.2,) * 3),
    ):
        masks = rule.masks(p)
        assert isinstance(masks, torch.Tensor)
        np.testing.assert_array_equal(rule.masks(array), masks)
        np.testing.assert_array_equal(rule.labels(array), rule.labels(p))


def _everything() -> Rule:
    p = _softmax(8)
    calibration = fit((p, p.argmax(0)), method="isotonic", classes=ORGANS)
    return Rule(ORGANS, "fixed", (0.1, 0.2, 0.3), calibration, 2.0, 0.01, 5, ("spleen",), {"n": 3})


def test_a_file_holds_the_whole_rule(tmp_path) -> None:
    for rule in (_everything(), Rule(REGIONS)):
        path = tmp_path / "rule.json"
        rule.save(path)
        assert Rule.load(path) == rule
        assert load_rule(path) == load_rule(rule) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "rule"),
        ("[1]", "format 1"),
        ('{"format": 2}', "format 1"),
        ('{"format": 1}', "what a rule holds"),
        ("{" * 100_000, "rule"),
        ("\xff", "rule"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, words) -> None:
    path = tmp_path / "rule.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=words) as error:
        Rule.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@given(st.data())
def test_a_file_that_lies_is_refused_or_is_a_rule(data) -> None:
    """Whatever stands in the place of any part."""
    state = json.loads(json.dumps(_everything().state()))
    strange = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    strange |= st.lists(strange, max_size=3) | st.dictionaries(st.text(max_size=2), strange)
    part = state
    for _ in range(data.draw(st.integers(0, 3))):
        inner = [key for key, value in part.items() if isinstance(value, dict)]
        if not inner:
            break
        part = part[data.draw(st.sampled_from(inner))]
    if part:
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(strange)
    with suppress(ValueError):
        Rule.from_state(state).labels(_softmax(9))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decision": "best"}, "decision: "),
        ({"decision": "fixed"}, "thresholds: "),
        ({"thresholds": (0.5, 0.5)}, "thresholds: "),
        ({"decision": "fixed", "thresholds": (0.5,)}, "thresholds: expected 2"),
        ({"decision": "fixed", "thresholds": (0.0, 0.5)}, "thresholds: .*within"),
        ({"beta": 0.0}, "beta: "),
        ({"min_probability": float("nan")}, "min_probability: "),
        ({"smallest_component": -1}, "smallest_component: "),
        ({"at_half": ("kidney",)}, "at_half: .*kidney"),
    ],
)
def test_what_contradicts_itself_is_refused(change, words) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        replace(Rule(REGIONS), **change)


def test_masks_without_values_are_not_painted() -> None:
    with pytest.raises(ValueError, match="^classes: .*paint"):
        Rule(Classes.regions({"a": (1,)})).labels(np.full((1, 2), 0.5))
