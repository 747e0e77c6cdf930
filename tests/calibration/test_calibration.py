"""Applying a calibration: kinds, layouts, channels, memory; and its state, whole and damaged."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax

import marginseg
from marginseg.calibration import Calibration, Knots, LogAffine, LogitLine, calibration_table, fit
from marginseg.classes import Classes

LINE, KNOTS = LogitLine(0.25, -1.0), Knots((0.0, 1e-3, 0.5, 0.97), (0.0, 1e-4, 0.2, 0.9))
WEIGHT = ((1.2, 0.1, 0.0), (-0.2, 0.7, 0.05), (0.0, 0.3, 1.1))
MATRIX = LogAffine(WEIGHT, (0.5, -0.25, -0.25))
BOTH = Calibration("isotonic", (0, 1), None, (LINE, KNOTS))
BEHIND = Calibration("isotonic", (1, 2), 0, (LINE, KNOTS))
JOINT = Calibration("matrix", (1, 2), 0, joint=MATRIX)


def maps(channels=3, shape=(40, 50, 60), seed=0):
    random = np.random.default_rng(seed)
    return softmax(random.normal(0, 4, (channels, *shape)), 0)


def line(p):
    return expit(0.25 * logit(p) - 1.0)


def broken(p):
    return np.interp(p, KNOTS.promised, KNOTS.held)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_are_those_of_the_formulas(dtype):
    p = maps(2).astype(dtype)
    after = BOTH.apply(p)
    assert after.dtype == dtype
    tolerance = max(2 * np.finfo(dtype).eps, 1e-13)
    wide = p.astype(np.float64)
    wide[0] = np.minimum(wide[0], 1 - 2.0**-25)
    np.testing.assert_allclose(
        after[0], line(wide[0]), rtol=tolerance, atol=1e-7 * (dtype == np.float16)
    )
    np.testing.assert_allclose(
        after[1], broken(wide[1]), rtol=tolerance, atol=1e-7 * (dtype == np.float16)
    )


def test_the_background_gets_what_is_left():
    p = maps().astype(np.float32)
    after = BEHIND.apply(p)
    foreground = after[1:].sum(0, dtype=np.float64)
    np.testing.assert_allclose(after[0], np.maximum(1 - foreground, 0), atol=1e-7)
    assert (after[0] >= 0).all()


def test_other_channels_stay():
    p = np.minimum(maps(5), 0.999).astype(np.float32)
    after = Calibration("platt", (1, 3), None, (LINE, LINE)).apply(p)
    assert np.array_equal(after[[0, 2, 4]], p[[0, 2, 4]])
    np.testing.assert_allclose(after[[1, 3]], line(p[[1, 3]].astype(float)), rtol=1e-6)


@pytest.mark.parametrize("calibration", [BOTH, BEHIND, JOINT], ids=["both", "behind", "joint"])
def test_it_does_not_matter_what_holds_the_map(calibration, tmp_path):
    p = maps(calibration.channel_count).astype(np.float32)
    expected = calibration.apply(p)
    np.save(tmp_path / "p.npy", p)
    fortran = np.asfortranarray(p)
    for given_ in (
        fortran,
        p[:, ::-1, :][:, ::-1, :],
        np.repeat(p, 2, axis=3)[..., ::2],
        np.load(tmp_path / "p.npy", mmap_mode="r"),
        p.astype(">f4"),
    ):
        after = calibration.apply(given_)
        assert after.dtype == np.float32
        np.testing.assert_allclose(after, expected, rtol=1e-6, atol=0)
    assert calibration.apply(fortran).flags.f_contiguous
    tensor = torch.from_numpy(p).requires_grad_()
    after = calibration.apply(tensor)
    assert isinstance(after, torch.Tensor)
    assert not after.requires_grad
    np.testing.assert_allclose(after.numpy(), expected, rtol=1e-6, atol=0)
    half = torch.from_numpy(p).bfloat16()
    assert calibration.apply(half).dtype == torch.bfloat16


@pytest.mark.parametrize("calibration", [BOTH, BEHIND, JOINT], ids=["both", "behind", "joint"])
def test_a_gpu_gives_the_same(calibration, device):
    p = torch.from_numpy(maps(calibration.channel_count)).float()
    after = calibration.apply(p.to(device))
    assert after.device == p.to(device).device
    torch.testing.assert_close(after.cpu(), calibration.apply(p), rtol=1e-6, atol=0)


@pytest.mark.parametrize("mapping", [LINE, KNOTS, LogitLine(), MATRIX])
def test_tensors_go_where_arrays_do(mapping):
    """Of a GPU, say, which the arrays' way does not know."""
    p = maps(3, (5000,)).clip(0, 1)
    p[:, :3] = [[1.0, 0.0, 0.0], [0.0, 0.0, 0.6], [0.0, 0.0, 0.4]]
    after = mapping.of_array(p.copy())
    np.testing.assert_allclose(mapping.of_tensor(torch.from_numpy(p)).numpy(), after, rtol=1e-12)
    assert not after[p == 0].any()


class Kept(torch.Tensor):
    """A tensor that carries something, as MONAI's do."""


@pytest.mark.parametrize("calibration", [BOTH, BEHIND, JOINT], ids=["both", "behind", "joint"])
def test_in_place_and_elsewhere(calibration):
    p = maps(calibration.channel_count).astype(np.float32)
    expected = calibration.apply(p)
    elsewhere = np.empty_like(p, order="F")
    assert calibration.apply(p, out=elsewhere) is elsewhere
    np.testing.assert_allclose(elsewhere, expected, rtol=1e-6, atol=0)
    assert calibration.apply(p, out=p) is p
    assert np.array_equal(p, expected)
    kept = torch.rand(3, 4, 5).softmax(0).as_subclass(Kept)
    assert isinstance(BEHIND.apply(kept), Kept)


@pytest.mark.parametrize("one", [BEHIND, JOINT], ids=["class by class", "joint"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_it_is_applied_where_networks_are_only_run(one, kind):
    """In inference mode, which each thread is in by itself, maps of many pieces."""
    p = np.random.default_rng(0).random((one.channel_count, 50, 50, 50), np.float32)
    p /= p.sum(0)
    expected = one.apply(p)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.inference_mode():
            given = kind(p.copy())
            np.testing.assert_array_equal(one.apply(given), expected)
            np.testing.assert_array_equal(one.apply(given, out=given), expected)
    finally:
        torch.set_num_threads(threads)


def test_what_cannot_be_written_through_is_no_out():
    p = np.random.default_rng(0).random((BOTH.channel_count, 6, 7), np.float32)
    swapped, backwards, locked = p.astype(p.dtype.newbyteorder()), p[:, ::-1], p.copy()
    locked.setflags(write=False)
    for out in (swapped, backwards, locked):
        before = out.copy()
        with pytest.raises(ValueError, match="^out: expected a writeable array"):
            BOTH.apply(out, out=out)
        np.testing.assert_array_equal(out, before)
    for source in (swapped, backwards, locked):
        room = np.empty_like(p)
        assert BOTH.apply(source, out=room) is room
        np.testing.assert_array_equal(room, BOTH.apply(np.array(source, np.float32)))


def test_a_background_leaves_room_for_what_is_not_calibrated():
    p = np.array([0.04, 0.03, 0.03, 0.90])
    one = Calibration("temperature", (1, 2), 0, (LogitLine(1.0, 0.0),) * 2)
    np.testing.assert_allclose(one.apply(p), p, atol=1e-12)


def test_values_a_rounding_beyond_are_taken_for_1():
    for dtype in (np.float32, np.float64):
        p = np.full((BEHIND.channel_count, 3), 0.25, dtype)
        p[:, 0] = 1.0
        expected = BEHIND.apply(p)
        p[:, 0] = 1.0 + 2.0**-22
        given = p.copy()
        np.testing.assert_array_equal(BEHIND.apply(p), expected)
        np.testing.assert_array_equal(p, given)


def peak(function):
    """Return by how many bytes the process grew at most while it ran."""

    def resident(name):
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(rf"{name}:\s+(\d+)", status)[1])

    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the kernel does not let a process reset its peak")
    before = resident("VmRSS")
    kept = function()
    grown = resident("VmHWM") - before
    del kept
    return grown


@pytest.mark.parametrize("calibration", ["temperature", "isotonic", "joint"])
def test_a_map_needs_hardly_more_than_its_result(calibration):
    shape = (10, 96, 96, 96)
    p = np.full(shape, 0.05, np.float32)
    channels = tuple(range(1, 10))
    if calibration == "joint":
        eye = tuple(map(tuple, (0.5 * np.eye(10)).tolist()))
        one = Calibration("vector", channels, 0, joint=LogAffine(eye, (0.0,) * 10))
    else:
        mapping = LINE if calibration == "temperature" else KNOTS
        one = Calibration(calibration, channels, 0, (mapping,) * 9)
    # Threads, once begun, keep memory of their own.
    one.apply(p)
    calibration_table(p, p > 0.1)
    assert peak(lambda: one.apply(p)) < 1.25 * p.nbytes
    p[0, 0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))  # what rounding does to a mean
    assert peak(lambda: one.apply(p)) < 1.25 * p.nbytes
    assert peak(lambda: one.apply(p, out=p)) < 0.25 * p.nbytes
    assert peak(lambda: calibration_table(p, p > 0.1)) < 0.5 * p.nbytes  # the bools are a quarter


def test_tables_go_through_it_as_maps_do():
    random = np.random.default_rng(1)
    p = random.choice(expit(np.arange(-30, 20) / 3), (2, 10_000))
    label = random.random(p.shape) < p**2
    table = calibration_table(p, label)
    through, direct = BOTH.applied_to(table), calibration_table(BOTH.apply(p), label)
    np.testing.assert_allclose(through.count.sum(1), direct.count.sum(1))
    for ours, theirs in zip(through.curves(), direct.curves(), strict=True):
        np.testing.assert_allclose(ours.promised, theirs.promised, rtol=1e-9)
        assert torch.equal(ours.held, theirs.held)
    for wrong, message in (
        (JOINT, "table: expected a method class"),
        (BOTH, "table: expected one"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            wrong.applied_to(calibration_table(p[:1], label[:1]))


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_it_helps_on_other_voxels(method):
    """What was learnt on some voxels makes the error on others small, and t* right."""
    random = np.random.default_rng(2)
    z = random.normal(-2, 2, (2, 1, 40_000))
    label = random.random(z.shape) < expit(z)
    p = expit(4 * z + 2).astype(np.float32)
    calibration = fit((p[0], label[0]), method=method)
    before = calibration_table(p[1], label[1])
    after = calibration_table(calibration.apply(p[1]), label[1])
    limit = 0.06 if method == "temperature" else 0.01  # a shift is not of its kind
    assert after.expected_calibration_error()[0] < limit < before.expected_calibration_error()[0]
    if method != "temperature":
        truth = torch.from_numpy(expit(z[1]))
        best = float(marginseg.dice_threshold(truth, spatial_dims=1).threshold)
        calibrated = torch.from_numpy(calibration.apply(p[1]))
        found = float(marginseg.dice_threshold(calibrated, spatial_dims=1).threshold)
        raw = float(marginseg.dice_threshold(torch.from_numpy(p[1]), spatial_dims=1).threshold)
        assert abs(found - best) < 0.01 < abs(raw - best)


def test_cases_come_as_label_maps_of_classes():
    classes = Classes.softmax(["organ", "tumour"], ignored=9)
    p = maps(3, (3000,)).astype(np.float32)
    random = np.random.default_rng(3)
    label = (random.random(3000) < p.cumsum(0)[:-1]).sum(0)
    label = np.array([2, 1, 0])[label].astype(np.uint8)
    label[::7] = 9
    mask = random.random(3000) < 0.9
    calibration = fit([(p, label, mask)], method="platt", classes=classes)
    assert (calibration.channels, calibration.background) == ((1, 2), 0)
    there = mask & (label != 9)
    targets = np.stack([label == 1, label == 2])
    expected = fit((p[:, there], targets[:, there]), method="platt", channels=[1, 2], background=0)
    assert calibration == expected
    tensors = (torch.from_numpy(p), torch.from_numpy(label), torch.from_numpy(mask))
    assert fit(tensors, method="platt", classes=classes) == expected
    tables = [
        calibration_table(part, held, channels=[1, 2])
        for part, held in (
            (p[:, there][:, :900], targets[:, there][:, :900]),
            (p[:, there][:, 900:], targets[:, there][:, 900:]),
        )
    ]
    parts = fit(iter(tables), method="platt", classes=classes)
    for ours, theirs in zip(parts.mappings, expected.mappings, strict=True):
        assert ours.slope == pytest.approx(theirs.slope, rel=1e-9)


@pytest.mark.parametrize(
    ("cases", "settings_", "message"),
    [
        ([], {}, "cases: expected at least one, got none"),
        (3, {}, "cases: expected .probabilities, target. or several, got int"),
        (np.ones((1, 2)), {}, "cases: expected .probabilities, target. or several"),
        ([3], {}, "cases: expected tuples"),
        ((np.ones((1, 2)), np.ones((1, 2))), {"method": "magic"}, "method: expected one of"),
        ((np.ones((1, 2)), np.ones((1, 2))), {"method": "matrix"}, "background: expected"),
        (
            (np.ones((3, 2)), np.ones((1, 2))),
            {"method": "matrix", "channels": [1], "background": 2},
            "channels: expected all of the map's",
        ),
        (
            (np.ones((2, 2)), np.ones((2, 2))),
            {"method": "matrix", "classes": Classes.regions({"a": (1,), "b": (2,)})},
            "method: expected one class by class",
        ),
        (
            (np.ones((2, 2)), np.ones(2)),
            {"classes": Classes.softmax(["a"]), "channels": [1]},
            "channels: expected none beside classes",
        ),
        (
            calibration_table(np.ones((2, 2)), np.ones((2, 2))),
            {"channels": [1]},
            "channels: expected the",
        ),
        ((np.ones((2, 2)), np.ones((2, 2))), {"channels": [1, 1]}, "channels: expected some that"),
        ((np.ones((1, 2)), np.ones((1, 2))), {"background": 0}, "channels: expected none below 0"),
        ((np.ones((1, 2)), np.ones((1, 2))), {"background": -1}, "background: expected a channel"),
    ],
)
def test_cases_that_cannot_be_fitted_are_refused(cases, settings_, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        fit(cases, **settings_)


@pytest.mark.parametrize(
    ("p", "out", "message"),
    [
        (np.ones((1, 4)), None, "probabilities: expected at least 2 channels, got 1"),
        (np.full((2, 4), 2.0), None, "probabilities: expected values within"),
        (np.full((2, 4), np.nan), None, "probabilities: expected values within"),
        (np.ones((2, 4), int), None, "probabilities: expected a floating dtype"),
        (np.ones((2, 4)), np.ones((2, 5)), "out: expected float64 of shape"),
        (np.ones((2, 4)), np.ones((2, 4), np.float32), "out: expected float64 of shape"),
        (np.ones((2, 4)), torch.ones(2, 4), "out: expected ndarray, got Tensor"),
        (np.ones((2, 4)), [1.0], "out: expected ndarray, got list"),
    ],
)
def test_maps_that_cannot_be_calibrated_are_refused(p, out, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        BOTH.apply(p, out=out)
    if out is None:
        return
    with pytest.raises(ValueError, match="^probabilities: expected 3 channels, got 4"):
        JOINT.apply(np.ones((4, 2)))


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


def test_no_voxels_and_no_spatial_axes():
    assert BOTH.apply(np.zeros((2, 0, 3))).shape == (2, 0, 3)
    assert BEHIND.apply(np.zeros((3, 4, 0))).shape == (3, 4, 0)
    assert JOINT.apply(np.zeros((3, 0))).shape == (3, 0)
    single = np.array([0.3, 0.6])
    np.testing.assert_allclose(BOTH.apply(single), [line(0.3), broken(0.6)], rtol=1e-12)
    assert calibration_table(single, np.array([1, 0])).held.sum() == 1


ORGANS = Classes.softmax(["a", "b"])


@pytest.mark.parametrize("label", [np.full((5, 6), 0.5), np.full((5, 6), np.nan)])
def test_soft_labels_are_no_label_map(label):
    p = np.full((3, 5, 6), 1 / 3)
    with pytest.raises(ValueError, match="^target: expected whole numbers.*; soft targets are"):
        fit((p, label), classes=ORGANS)
    with pytest.raises(ValueError, match=r"^target: expected a label map \(\*spatial\), or \(2,"):
        fit((p, np.zeros((1, 5, 6))), classes=ORGANS)
    fit((p, np.ones((5, 6), np.float32)), classes=ORGANS)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "?", ">i2", "f2"])
def test_targets_of_any_dtype_are_the_same(dtype):
    random = np.random.default_rng(0)
    p = random.random((2, 300))
    held = random.random((2, 300)) < p
    assert fit((p, held.astype(dtype))) == fit((p, held))
    with pytest.raises(TypeError, match="^targets: expected"):
        fit((p, held.astype(np.uint64)))


def test_tables_remember_their_channels():
    random = np.random.default_rng(0)
    p = maps(3, (5, 6, 7))
    held = random.random((2, 5, 6, 7)) < p[1:]
    table = calibration_table(p, held, channels=[1, 2])
    found = fit(table - calibration_table(p[:, :1], held[:, :1], channels=[1, 2]), background=0)
    assert (found.channels, found.background) == ((1, 2), 0)
    assert fit([table, table]).channels == (1, 2)
    with pytest.raises(ValueError, match="^channels: expected the table's"):
        fit(table, channels=[0, 1])
    with pytest.raises(ValueError, match="^table: expected one of the channels"):
        table + calibration_table(p[:2], held)


def test_nothing_is_left_of_soft_targets_that_are_taken_out_again():
    """Thirds do not add up exactly: what is left of a class that nobody holds is nobody's."""
    random = np.random.default_rng(0)
    p = random.random((5, 1, 4000)) ** 3
    raters = random.random((5, 3, 1, 4000)) < p[:, None]
    soft = [calibration_table(p[k], raters[k].mean(0)) for k in range(5)]
    none, every = (calibration_table(p[0], np.full((1, 4000), value)) for value in (False, True))
    for rest, outcome in ((none, "no foreground"), (every, "no background")):
        left = sum(soft) + rest + rest
        for table in soft:
            left = left - table
        assert fit(left).mappings[0].outcome == outcome


@pytest.mark.parametrize("options", [{"voxels": 0}, {"seed": -1}])
def test_impossible_draws_are_refused(options):
    with pytest.raises(ValueError, match="^voxels and seed: expected"):
        fit(
            (np.full((2, 9), 0.5), np.ones((1, 9))),
            method="vector",
            channels=[1],
            background=0,
            **options,
        )


def test_the_other_kind_of_sums_is_named():
    table = calibration_table(np.full((2, 9), 0.5), np.ones((1, 9), bool), channels=[1])
    with pytest.raises(TypeError, match="^cases: expected voxel samples for this method"):
        fit(table, method="vector", channels=[1], background=0)
