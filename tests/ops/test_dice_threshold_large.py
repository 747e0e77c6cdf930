"""t* of maps that are surveyed in blocks, with a guess from a sample and a search around it."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from marginseg import dice_threshold, segment_dice_threshold


def slow(*values):
    """Parameters that are tried with the slow tests."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("dtype", [torch.float32, *slow(torch.float64)])
@pytest.mark.parametrize("shape", ["tied", "dense", "sparse", "ramp", "constant", "tiny", "steps"])
def test_large_maps_of_every_kind(device, shape, dtype):
    # The map is surveyed in blocks, with a guess of t* from a sample; here the guess often fails.
    generator = torch.Generator(device).manual_seed(7)
    size = 150_001
    uniform = torch.rand(size, generator=generator, dtype=torch.float64)
    m = {
        # Half of the map lies exactly at what is near t*.
        "tied": torch.where(uniform < 0.5, 0.4142, uniform),
        "dense": uniform,
        "sparse": torch.where(torch.arange(size) % 50_000 == 3, uniform, torch.zeros(())),
        "ramp": torch.linspace(0, 1, size, dtype=torch.float64) ** 9,
        "constant": torch.full((size,), 0.3, dtype=torch.float64),
        "tiny": uniform * 1e-30,
        # Two regions; one holds all that decides.
        "steps": torch.where(torch.arange(size) > 149_000, 0.9 * uniform, 1e-3 * uniform),
    }[shape].to(dtype)
    best = dice_threshold(m, spatial_dims=1)
    reference = dice_threshold(m, spatial_dims=1, method="sort")
    assert [float(x) for x in best] == [float(x) for x in reference]
    values = np.sort(m.double().cpu().numpy())[::-1].astype(np.longdouble)
    dice = 2 * np.cumsum(values) / (values.sum() + np.arange(1, size + 1))
    assert float(best.dice) == pytest.approx(float(dice.max()), rel=1e-15)


def _assert_largest(m):
    """Check a large map against its exact maximum over all distinct values."""
    values, counts = np.unique(m.double().cpu().numpy(), return_counts=True)
    assert len(values) < 5000  # Fractions take their time
    masses = [Fraction(float(v)) * int(n) for v, n in zip(values, counts, strict=True)][::-1]
    whole = sum(masses)
    volumes = np.cumsum(counts[::-1]).tolist()
    inside = itertools.accumulate(masses)
    expected = float(max(2 * a / (whole + n) for a, n in zip(inside, volumes, strict=True)))
    # The emulation sorts slowly, and what these maps are made for concerns the iteration alone.
    for method in ("iterate", "sort") if m.numel() < 100_000 else ("iterate",):
        best = dice_threshold(m, spatial_dims=1, method=method)
        assert best.dice.item() == expected
        assert best.volume.item() == int((m.double() >= expected / 2).sum())


def test_small_values_beside_large_ones(device):
    """Together they need more bits than a double has, though none of them is far from 0 or 1."""
    generator = np.random.default_rng(3)
    for _ in range(10):
        large = generator.uniform(0.3, 1.0, 100)
        small = 2.0 ** -generator.uniform(14.0, 27.0, 100)
        values = generator.choice(np.concatenate([large, small]), 5000)
        _assert_largest(torch.from_numpy(values.astype(np.float32)).to(device))


def _value_at_threshold(others, count):
    """v so that t* of the others with `count` values v is v: A(v) = v (S + count v + n(v))."""
    ordered = np.sort(others.double().cpu().numpy())[::-1]
    mass = np.concatenate([[0.0], np.cumsum(ordered)])
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        volume = np.searchsorted(-ordered, -middle, side="right")
        below = mass[volume] > middle * (mass[-1] + count * middle + volume)
        low, high = (middle, high) if below else (low, middle)
    return low


@pytest.mark.parametrize("size", [50_000, *slow(540_001)])
@pytest.mark.parametrize(
    ("dtype", "spread"),
    [
        (torch.float16, 1e-2),
        (torch.float32, 0.0),
        (torch.float32, 2e-6),
        (torch.float32, 1e-2),
        (torch.float64, 0.0),
        (torch.float64, 4e-15),
        (torch.float64, 1e-9),
    ],
)
def test_maps_with_most_values_at_the_threshold(device, dtype, spread, size):
    # More than a pass keeps, so that the bracket around t* has to be narrowed on the whole map: by
    # one block of a GPU, or many where the map is large.
    generator = torch.Generator(device).manual_seed(3)
    others = torch.randint(0, 400, (size // 3,), generator=generator).double() / 399
    others = others.to(dtype)
    count = size - len(others)
    steps = torch.randint(-40, 41, (count,), generator=generator).double() / 40
    plateau = _value_at_threshold(others, count) * (1 + spread * steps)
    m = torch.cat([others.double(), plateau])
    for scale in (1.0, 1e-35) if dtype is torch.float32 and spread == 2e-6 else (1.0,):
        order = torch.randperm(size, generator=generator)
        _assert_largest((scale * m[order]).to(dtype))


@pytest.mark.parametrize("spread", [1e-1, 1e-3, 1e-5])
def test_maps_with_different_values_all_around_the_threshold(device, spread):
    # Each bin of a GPU's search holds many values then, and their number alone says where t* is.
    size = 530_000
    generator = torch.Generator(device).manual_seed(6)
    others = torch.rand(size // 4, generator=generator, dtype=torch.float64)
    count = size - len(others)
    places = 2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1
    plateau = _value_at_threshold(others, count) * (1 + spread * places)
    m = torch.cat([others, plateau]).float()
    best = dice_threshold(m, spatial_dims=1)
    values = np.sort(m.double().cpu().numpy())[::-1].astype(np.longdouble)
    dice = 2 * np.cumsum(values) / (values.sum() + np.arange(1, size + 1))
    assert float(best.dice) == pytest.approx(float(dice.max()), rel=1e-15)
    assert int(best.volume) == (values >= float(best.threshold)).sum()


@pytest.mark.parametrize("dtype", [torch.float32, *slow(torch.float64)])
@pytest.mark.parametrize("shape", ["spot", "rare", "equal", "two", "subnormal"])
def test_maps_that_a_sample_misjudges(device, shape, dtype):
    size = 540_001
    generator = torch.Generator(device).manual_seed(4)
    uniform = torch.randint(0, 1000, (size,), generator=generator).double() / 1000
    place = torch.arange(size)
    noise = torch.where(place % 3 == 0, 1e-6, 0.0).double()
    tiny = 2.0**-149 if dtype is torch.float32 else 2.0**-1074
    m = {
        # All that decides lies between two runs of the sample.
        "spot": torch.where((place >= 200_003) & (place < 200_900), uniform, noise),
        "rare": torch.where(place % 1009 == 5, 0.6, 1e-7).double(),
        "equal": torch.full((size,), 0.3).double(),
        "two": torch.where(uniform < 0.3, 0.9, 0.31).double(),
        "subnormal": (9 * uniform).floor() * tiny,
    }[shape]
    _assert_largest(m.to(dtype))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_large_maps_of_no_known_mass(device, bad):
    m = torch.rand(2, 530_000)
    m[0, 77_777] = bad
    best = dice_threshold(m, spatial_dims=1)
    assert best.dice.isnan().tolist() == [True, False]
    assert best.threshold[0].isnan()
    assert best.volume[0] == 0
    alone = dice_threshold(m[1], spatial_dims=1)
    assert (best.dice[1], best.volume[1]) == (alone.dice, alone.volume)


@pytest.mark.parametrize(
    "dtype", [torch.float16, pytest.param(torch.float32, marks=pytest.mark.slow)]
)
def test_a_giant_segment_among_many_small_ones(device, dtype):
    generator = torch.Generator(device).manual_seed(5)
    sizes = torch.randint(0, 40, (300,), generator=generator)
    # Two that are sampled and one that many blocks look through meet within a chunk.
    sizes[100:105] = torch.tensor([33_001, 0, 551_003, 40_000, 1])
    offsets = torch.cat([torch.tensor([3]), 3 + sizes.cumsum(0)])
    values = torch.rand(int(offsets[-1]) + 9, generator=generator).pow(3).to(dtype)
    begin, end = offsets[102], offsets[103]
    flat = torch.rand(int(end - begin), generator=generator) < 0.7
    values[begin:end][flat] = 0.3125
    best = segment_dice_threshold(values, offsets)
    reference = segment_dice_threshold(values, offsets, method="sort")
    for found, expected in zip(best, reference, strict=True):
        assert torch.equal(found, expected)
    for k in range(100, 105):
        part = values[offsets[k] : offsets[k + 1]].double().cpu().numpy()
        if not part.sum() > 0:
            continue
        ordered = np.sort(part)[::-1].astype(np.longdouble)
        dice = 2 * np.cumsum(ordered) / (ordered.sum() + np.arange(1, len(ordered) + 1))
        assert float(best.dice[k]) == pytest.approx(float(dice.max()), rel=1e-15)
        assert int(best.volume[k]) == (part >= float(best.threshold[k])).sum()


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        *(pytest.param(d, marks=pytest.mark.slow) for d in (torch.float32, torch.float64)),
    ],
)
def test_maps_that_begin_anywhere(device, dtype):
    stored = torch.rand(3 * 40_001 + 5).to(dtype)
    for start in range(1, 5):
        m = stored[start : start + 3 * 40_001].reshape(3, 40_001)
        best = dice_threshold(m, spatial_dims=1)
        for found, expected in zip(
            best, dice_threshold(m.clone(), spatial_dims=1, method="sort"), strict=True
        ):
            assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        *(pytest.param(d, marks=pytest.mark.slow) for d in (torch.float64, torch.bfloat16)),
    ],
)
def test_methods_orders_and_threads_agree_on_large_maps(device, dtype):
    generator = torch.Generator(device).manual_seed(0)
    probabilities = torch.rand(120_000, generator=generator, dtype=torch.float64).pow(8).to(dtype)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for order in (probabilities, probabilities.flip(0)):
                for method in ("iterate", "sort"):
                    results.append(dice_threshold(order, spatial_dims=1, method=method))
    finally:
        torch.set_num_threads(threads)
    assert len({tuple(float(x) for x in result) for result in results}) == 1
    values = np.sort(probabilities.double().cpu().numpy())[::-1]
    dice = 2 * np.cumsum(values) / (values.sum() + np.arange(1, values.size + 1))
    assert float(results[0].dice) == pytest.approx(dice.max(), rel=1e-12)
