"""The state of a calibration, whole and damaged."""

from __future__ import annotations

import copy
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_up_calibrations import BEHIND, BOTH, JOINT, maps
from marginseg.calibration import Calibration, Knots, LogitLine, fit


@pytest.mark.parametrize("calibration", [BOTH, BEHIND, JOINT], ids=["both", "behind", "joint"])
def test_its_state_goes_through_json_to_the_same_bits(calibration):
    again = Calibration.from_state(json.loads(json.dumps(calibration.state())))
    assert again == calibration
    p = maps(calibration.channel_count)
    assert np.array_equal(again.apply(p), calibration.apply(p))


def test_the_state_of_a_fit_goes_through_json():
    p = maps(2, (5000,))
    label = np.random.default_rng(4).random(p.shape) < p**2
    for method in ("temperature", "platt", "isotonic"):
        calibration = fit((p, label), method=method)
        assert Calibration.from_state(json.loads(json.dumps(calibration.state()))) == calibration


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3)
ANYTHING = st.recursive(
    SCALARS | st.integers(min_value=10**400, max_value=10**401),
    lambda some: (
        st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=8), some, max_size=3)
    ),
    max_leaves=6,
)


def places_of(state, path=()):
    yield path
    parts = (
        state.items()
        if isinstance(state, dict)
        else enumerate(state)
        if isinstance(state, list)
        else ()
    )
    for key, value in parts:
        yield from places_of(value, (*path, key))


@given(data=st.data(), calibration=st.sampled_from([BOTH, BEHIND, JOINT]), drop=st.booleans())
def test_a_damaged_state_is_refused_or_is_another_calibration(data, calibration, drop):
    state = copy.deepcopy(calibration.state())
    path = data.draw(st.sampled_from(list(places_of(state))))
    value = data.draw(ANYTHING)
    if not path:
        state = value
    else:
        at = state
        for key in path[:-1]:
            at = at[key]
        if drop:
            del at[path[-1]]
        else:
            at[path[-1]] = value
    try:
        found = Calibration.from_state(state)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert re.fullmatch(r"[a-z]+: expected [^\n]*", refusal)
        return
    if found.channel_count < 10:
        p = np.stack([np.array([0.0, 1e-300, 1e-9, 0.3, 0.5, 1.0])] * found.channel_count)
        after = found.apply(p)
        assert ((after >= 0) & (after <= 1)).all()
        if found.joint is None:
            assert (np.diff(after[list(found.channels)]) >= 0).all()
    assert Calibration.from_state(found.state()) == found


@pytest.mark.parametrize(
    ("promised", "held"),
    [
        ((0.0,), (0.0,)),
        ((0.0, 0.5), (0.0,)),
        ((0.1, 0.5), (0.0, 0.5)),
        ((0.0, 0.5), (0.1, 0.5)),
        ((0.0, 0.5, 0.5), (0.0, 0.1, 0.2)),
        ((0.0, 0.5, 0.9), (0.0, 0.2, 0.1)),
        ((0.0, 1.5), (0.0, 0.5)),
        ((0.0, 0.5), (0.0, 1.5)),
        ((0.0, math.nan), (0.0, 0.5)),
        ((0.0, 5e-324), (0.0, 1.0)),
    ],
)
def test_knots_that_are_no_function_are_refused(promised, held):
    with pytest.raises(ValueError, match="^calibration: expected"):
        Knots(promised, held)


@pytest.mark.parametrize(
    ("slope", "shift"), [(-1.0, 0.0), (0.0, 0.0), (math.inf, 0), (1, math.nan)]
)
def test_lines_that_turn_the_order_round_are_refused(slope, shift):
    with pytest.raises(ValueError, match="^calibration: expected a finite slope above 0"):
        LogitLine(slope, shift)
