"""One pass over exclusive classes, against NumPy: the same labels, and sums without rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marginseg.ops.assign_labels import assign_labels


def reference(values, scale, offset, fallback, floor):
    """Return labels, volumes, and masses as fractions, of one case."""
    kind = np.float64 if values.dtype == np.float64 else np.float32
    m = values.astype(kind)
    with np.errstate(invalid="ignore"):
        gains = m * scale[:, None] - offset[:, None]  # two roundings, as the kernels have them
    gains = np.where(np.isnan(gains), -np.inf, gains)
    channel = gains.argmax(axis=0)
    found = gains.max(axis=0) > kind(floor)
    channel = np.where(found, channel, fallback)
    # Nothing was found out of the channel that takes what is left.
    held = np.where(found, m[channel, np.arange(m.shape[1])], 0.0)
    chosen = [channel == c for c in range(len(m))]
    volume = [int(of.sum()) for of in chosen]
    mass = [sum(map(Fraction, held[of].tolist()), Fraction(0)) for of in chosen]
    return channel + (fallback < 0), volume, mass


def checked(values, scale, offset, fallback, floor, device):
    found = assign_labels(
        values.to(device), scale.to(device), offset.to(device), fallback=fallback, floor=floor
    )
    plain = values.double() if values.dtype is torch.float64 else values.float()
    for case in range(len(values)):
        labels, volume, mass = reference(
            plain[case].numpy(), scale[case].numpy(), offset[case].numpy(), fallback, floor
        )
        np.testing.assert_array_equal(found.labels[case].cpu().numpy(), labels)
        assert found.volume[case].tolist() == volume
        voxels = values.shape[-1]
        for got, exact in zip(found.mass[case].tolist(), mass, strict=True):
            # Each voxel is cut down by less than a unit, 2^-(62 - bits of N); the sum is then
            # rounded to a double.
            unit = Fraction(2) ** (voxels.bit_length() - 62)
            assert exact - voxels * unit - exact / 2**52 <= Fraction(got) <= exact + exact / 2**52
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    cases=st.integers(1, 3),
    channels=st.integers(1, 9),
    voxels=st.integers(1, 2500),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    floor=st.sampled_from([0.0, -1.0, 0.5]),
    data=st.data(),
)
def test_it_is_what_numpy_does(device, seed, cases, channels, voxels, dtype, floor, data):
    random = np.random.default_rng(seed)
    kind = torch.float64 if dtype is torch.float64 else torch.float32
    values = torch.from_numpy(random.random((cases, channels, voxels)) ** random.integers(1, 9))
    # Equal values in several channels: the first of equal gains counts.
    values = (values * 8).round() / 8 if data.draw(st.booleans()) else values
    scale = torch.from_numpy(random.uniform(0, 3, (cases, channels))).to(kind)
    offset = torch.from_numpy(random.uniform(-0.2, 1, (cases, channels))).to(kind)
    if data.draw(st.booleans()):
        scale[:, 0], offset[:, 0] = 0.0, torch.inf
    if data.draw(st.booleans()):
        scale[:], offset[:] = 1.0, 0.0
    fallback = data.draw(st.integers(-1, channels - 1))
    checked(values.to(dtype), scale, offset, fallback, floor, device)


@pytest.mark.parametrize(
    ("channels", "fallback", "dtype"),
    [
        (256, 0, torch.uint8),
        (256, -1, torch.int16),
        (255, -1, torch.uint8),
        (257, 3, torch.int16),
        (3000, -1, torch.int16),
    ],
)
def test_many_channels(device, channels, fallback, dtype):
    random = np.random.default_rng(0)
    values = torch.from_numpy(random.random((1, channels, 70))).float()
    scale = torch.ones(1, channels, device="cpu")
    found = checked(values, scale, 0.9 * scale, fallback, 0.0, device)
    assert found.labels.dtype is dtype
    assert len(found.labels.unique()) > 20


def test_a_long_map_of_halves_is_worked_on_in_parts(device, monkeypatch):
    monkeypatch.setattr("marginseg.ops.assign_labels.VALUES_AT_ONCE", 1000)
    values = torch.from_numpy(np.random.default_rng(0).random((2, 3, 5000))).half()
    ones = torch.ones(2, 3, device="cpu")
    checked(values, ones, 0.5 * ones, 1, 0.0, device)


def test_nothing_depends_on_the_number_of_threads():
    """Which the CPU's kernels alone have."""
    values = torch.from_numpy(np.random.default_rng(0).random((2, 5, 100_000))).float()
    scale = torch.rand(2, 5)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(assign_labels(values, scale, 0.3 * scale))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_what_is_no_probability_joins_without_mass(device):
    values = torch.tensor([[[torch.nan, torch.inf, -torch.inf, 2.0, -1.0, 0.5]]], device=device)
    one = torch.ones(1, 1, device=device)
    found = assign_labels(values, one, 0 * one, fallback=-1)
    assert found.labels.tolist() == [[0, 1, 0, 1, 0, 1]]
    assert (found.volume.tolist(), found.mass.tolist()) == ([[3]], [[0.5]])


def test_no_voxels_and_no_cases(device):
    empty = assign_labels(
        torch.zeros(2, 3, 0, device=device), *torch.zeros(2, 2, 3, device=device).unbind()
    )
    assert (empty.labels.shape, empty.volume.tolist()) == ((2, 0), [[0] * 3] * 2)
    none = assign_labels(
        torch.zeros(0, 3, 4, device=device), *torch.zeros(2, 0, 3, device=device).unbind()
    )
    assert (none.labels.shape, none.mass.shape) == ((0, 4), (0, 3))
