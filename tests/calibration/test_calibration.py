"""Applying a calibration: kinds, layouts, channels, memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from made_up_calibrations import BEHIND, BOTH, JOINT, KNOTS, LINE, MATRIX, broken, line, maps
from marginseg.calibration import Calibration, LogAffine, LogitLine, calibration_table


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


def test_no_voxels_and_no_spatial_axes():
    assert BOTH.apply(np.zeros((2, 0, 3))).shape == (2, 0, 3)
    assert BEHIND.apply(np.zeros((3, 4, 0))).shape == (3, 4, 0)
    assert JOINT.apply(np.zeros((3, 0))).shape == (3, 0)
    single = np.array([0.3, 0.6])
    np.testing.assert_allclose(BOTH.apply(single), [line(0.3), broken(0.6)], rtol=1e-12)
    assert calibration_table(single, np.array([1, 0])).held.sum() == 1
