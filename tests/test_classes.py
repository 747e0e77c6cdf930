from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from marginseg.classes import Classes

TUMOUR = Classes.regions({"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}, painted=(1, 2, 3))


@given(arrays(np.uint8, (3, 4, 2), elements=st.integers(0, 3)), st.booleans())
def test_painting_nested_regions_gives_the_label_back(label, backwards) -> None:
    label = np.asfortranarray(label) if backwards else label
    masks = TUMOUR.targets(label)
    for mask, values in zip(masks, TUMOUR.values, strict=True):
        np.testing.assert_array_equal(mask, np.isin(label, values))
    np.testing.assert_array_equal(TUMOUR.paint(masks), label)


def test_masks_lie_in_memory_as_the_label_does() -> None:
    """So that they can be compared with a map of that order without a copy."""
    label = np.asfortranarray(np.zeros((3, 4, 5), np.uint8))
    assert TUMOUR.targets(label).transpose(0, 3, 2, 1).flags.c_contiguous
    assert TUMOUR.targets(np.ascontiguousarray(label)).flags.c_contiguous


def test_a_later_region_covers_those_before() -> None:
    masks = np.array([[True, True, False], [False, True, True]])
    classes = Classes.regions({"a": (1,), "b": (2,)}, painted=(7, 300))
    assert classes.paint(masks).tolist() == [7, 300, 300]
    assert classes.paint(masks).dtype == np.uint16


def test_values_that_nobody_labelled() -> None:
    classes = Classes.softmax(["organ"], ignored=2)
    assert classes.labelled(np.array([0, 1, 2])).tolist() == [True, True, False]
    assert TUMOUR.labelled(np.array([0, 1, 2])) is None


@pytest.mark.parametrize(
    "classes",
    [TUMOUR, Classes.softmax(["organ", "tumour"], ignored=9), Classes.regions({"a": (1,)})],
    ids=["regions", "softmax", "mask"],
)
def test_the_state_is_the_whole(classes) -> None:
    assert Classes.from_state(classes.state()) == classes


TUMOUR_ALONE = {"names": ["a"], "channels": [1], "values": [[1]], "painted": [1], "exclusive": True}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": []}, "at least one"),
        ({"names": ["a", "a", "b"]}, "differ"),
        ({"channels": [0, 2, 1]}, "increasing"),
        ({"channels": [0, 1]}, "for each name"),
        ({"values": [[1], [], [2]]}, "a value"),
        ({"values": [[1], [2**31], [2]]}, "label values"),
        ({"painted": [1, 2, -1]}, "label values"),
        ({"exclusive": True}, "one value"),
        ({"background": 5}, "background"),
        ({**TUMOUR_ALONE, "background": -1}, "background"),
        ({"painted": [1]}, "painted"),
        ({"names": 3}, "expected what a rule holds"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_contradicts_itself_is_refused(change, words) -> None:
    with pytest.raises(ValueError, match=f"^classes: .*{words}"):
        Classes.from_state({**TUMOUR.state(), **change})
