from __future__ import annotations

import itertools
import math
import warnings
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marginseg import dice_curve, dice_threshold, optimal_segmentation, segment_dice_threshold
from marginseg.ops.boundary import Workspace


def _exact(values):
    """sup D over all cuts in exact rational arithmetic, and the volume of {m >= sup D / 2}."""
    masses = sorted((Fraction(float(v)) for v in values), reverse=True)
    whole = sum(masses)
    if whole == 0:
        return Fraction(1), 0
    inside = itertools.accumulate(masses)
    best = max(2 * mass / (whole + k) for k, mass in enumerate(inside, start=1))
    return best, sum(mass >= best / 2 for mass in masses)


def _maps(width):
    bits = {16: torch.float16, 32: torch.float32, 64: torch.float64}[width]
    value = st.one_of(
        st.floats(0.0, 1.0, width=width),
        st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.0625]),
        st.floats(0.0, 2.0**-20, width=width),
    )
    return st.tuples(st.lists(value, max_size=30), st.just(bits))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([16, 32, 64]).flatmap(_maps))
def test_both_methods_give_the_exact_maximum_to_the_last_bit(device, drawn):
    values, dtype = drawn
    expected, volume = _exact(values)
    probabilities = torch.tensor(values, dtype=dtype)
    for method in ("iterate", "sort"):
        best = dice_threshold(probabilities, spatial_dims=1, method=method)
        assert best.dice.item() == float(expected)
        assert best.threshold.item() == float(expected) / 2
        # A value at sup D / 2 exactly may lie on either side of the rounded threshold, and adds
        # nothing to Dice on either.
        rounded = sum(v >= float(expected) / 2 for v in values) if any(values) else 0
        assert best.volume.item() == rounded
        assert abs(rounded - volume) <= sum(Fraction(v) == expected / 2 for v in values)


def _assert_exact(values, dtype=torch.float64):
    expected, _ = _exact(values)
    rounded = sum(v >= float(expected) / 2 for v in values)
    for method in ("iterate", "sort"):
        best = dice_threshold(torch.tensor(values, dtype=dtype), spatial_dims=1, method=method)
        assert best.dice.item() == float(expected)
        assert best.volume.item() == rounded


def test_values_within_a_few_roundings_of_the_threshold(device):
    # Values next to t* hardly change Dice, so that an iteration may stop short of it.
    generator = np.random.default_rng(0)
    for _ in range(150):
        certain = (generator.random(generator.integers(1, 6)) ** 0.3).tolist()
        threshold = float(_exact(certain)[0]) / 2
        for count in (1, 20, 200):
            steps = generator.integers(-4, 5, size=count)
            close = [threshold * (1 + int(step) * 2.0**-52) for step in steps]
            _assert_exact(certain + close)


def test_maps_of_subnormal_values(device):
    generator = np.random.default_rng(1)
    for scale in (5e-324, 1e-310, 1e-300):
        for _ in range(40):
            _assert_exact([*(generator.integers(0, 9, size=6) * scale).tolist(), scale])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
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


@pytest.mark.parametrize("size", [50_000, 540_001])
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_maps_that_begin_anywhere(device, dtype):
    stored = torch.rand(3 * 40_001 + 5).to(dtype)
    for start in range(1, 5):
        m = stored[start : start + 3 * 40_001].reshape(3, 40_001)
        best = dice_threshold(m, spatial_dims=1)
        for found, expected in zip(
            best, dice_threshold(m.clone(), spatial_dims=1, method="sort"), strict=True
        ):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
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


def test_no_segmentation_is_better(device):
    generator = torch.Generator(device).manual_seed(1)
    for _ in range(20):
        m = torch.rand(10, generator=generator, dtype=torch.float64)
        subsets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)), dtype=torch.float64)
        dice = 2 * (subsets @ m) / (subsets.sum(dim=1) + m.sum())
        best = dice_threshold(m, spatial_dims=1)
        assert float(best.dice) == pytest.approx(float(dice.max()), rel=1e-14)
        assert float(best.threshold) <= 0.5
        segmentation = optimal_segmentation(m)
        assert torch.equal(subsets[int(dice.argmax())].bool(), segmentation)
        assert int(best.volume) == int(segmentation.sum())


def test_one_entry_for_each_case_and_channel(device):
    m = torch.rand(3, 2, 5, 6, 7).permute(1, 0, 4, 2, 3)
    best = dice_threshold(m, spatial_dims=3)
    assert best.dice.shape == (2, 3)
    for case, channel in itertools.product(range(2), range(3)):
        alone = dice_threshold(m[case, channel], spatial_dims=3)
        assert alone.dice == best.dice[case, channel]
        assert alone.volume == best.volume[case, channel]


def test_segments_of_different_sizes(device):
    sizes = [5, 0, 1, 300_000, 17]
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    values = torch.rand(int(offsets[-1])) ** 3
    for method in ("iterate", "sort"):
        best = segment_dice_threshold(values, offsets, method=method)
        for k, size in enumerate(sizes):
            part = values[offsets[k] : offsets[k + 1]]
            alone = dice_threshold(part, spatial_dims=1)
            assert (best.dice[k], best.volume[k]) == (alone.dice, alone.volume)
            assert len(part) == size


def test_maps_without_mass_and_without_voxels(device):
    for m in (torch.zeros(2, 4), torch.zeros(2, 0)):
        for method in ("iterate", "sort"):
            best = dice_threshold(m, spatial_dims=1, method=method)
            assert best.threshold.tolist() == [0.5, 0.5]
            assert best.dice.tolist() == [1.0, 1.0]
            assert best.volume.tolist() == [0, 0]
    assert dice_threshold(torch.zeros(0, 4), spatial_dims=1).dice.shape == (0,)


def test_nan_ends_and_is_told(device):
    m = torch.tensor([[0.5, math.nan, 0.2], [0.5, 0.5, 0.2]], dtype=torch.float64)
    for method in ("iterate", "sort"):
        best = dice_threshold(m, spatial_dims=1, method=method)
        assert math.isnan(best.dice[0])
        assert math.isnan(best.threshold[0])
        assert best.dice[1] == 0.625  # {m >= 0.5}: 2 · 1 / (1.2 + 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_curve_against_every_cut(device, dtype):
    generator = torch.Generator(device).manual_seed(2)
    m = (torch.randint(0, 9, (2, 3, 40), generator=generator) / 8).to(dtype)
    curve = dice_curve(m, spatial_dims=1)
    assert curve.threshold.dtype is dtype
    exact = m.double()
    for case, channel in itertools.product(range(2), range(3)):
        row = exact[case, channel]
        cuts = curve.threshold[case, channel].double()
        assert torch.equal(cuts, row.sort(descending=True).values)
        for cut, dice, volume in zip(
            cuts, curve.dice[case, channel], curve.volume[case, channel], strict=True
        ):
            inside = row >= cut
            assert volume == inside.sum()
            assert float(dice) == pytest.approx(
                float(2 * row[inside].sum() / (row.sum() + inside.sum())), rel=1e-14
            )
    assert dice_curve(m).dice.shape == (240,)
    best = dice_threshold(m, spatial_dims=1)
    assert torch.equal(curve.dice.amax(dim=-1), best.dice)


def test_opcheck_and_compile(device):
    m = torch.rand(2, 3, 4, 5)
    ops = torch.ops.marginseg
    torch.library.opcheck(ops.dice_threshold, (m, 2, "iterate"))
    torch.library.opcheck(ops.dice_curve, (m, 2))
    torch.library.opcheck(
        ops.segment_dice_threshold, (m.flatten(), torch.tensor([0, 7, 120]), "sort")
    )
    compiled = torch.compile(
        lambda x: dice_threshold(x, spatial_dims=2).dice + 1, fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(compiled(m), dice_threshold(m, spatial_dims=2).dice + 1)


def test_faulty_offsets_on_a_device_that_nobody_waits_for():
    if find_spec("marginseg._cuda_emulated") is None:
        pytest.skip("built without MARGINSEG_EMULATION")
    values = torch.rand(9)
    results = [torch.empty(2, dtype=torch.float64) for _ in range(2)]
    volume = torch.full((2,), 7)
    kernels = import_module("marginseg._cuda_emulated")
    for bounds in ([0, 5, 3], [-1, 2, 4], [0, 4, 10]):
        offsets = torch.tensor(bounds)
        for by_sort in (False, True):
            kernels.dice_threshold(
                values.data_ptr(),
                0,
                offsets.data_ptr(),
                2,
                9,
                by_sort,
                *[result.data_ptr() for result in (*results, volume)],
                *(0, False, Workspace(torch.device("cpu"))),
            )
            assert all(result.isnan().all() for result in results)
            assert volume.tolist() == [0, 0]


def test_inputs_that_require_gradients_do_not_warn(device):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best = dice_threshold(torch.rand(9, requires_grad=True), spatial_dims=1)
    assert not best.dice.requires_grad


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dice_threshold([0.5], spatial_dims=1), TypeError, "probabilities"),
        (lambda: dice_threshold(torch.ones(3).long(), spatial_dims=1), TypeError, "probabilities"),
        (lambda: dice_threshold(torch.ones(3), spatial_dims=2), ValueError, "spatial_dims"),
        (lambda: dice_threshold(torch.ones(3), spatial_dims=0), ValueError, "spatial_dims"),
        (
            lambda: dice_threshold(torch.ones(3), spatial_dims=1, method="scan"),
            ValueError,
            "method",
        ),
        (
            lambda: segment_dice_threshold(torch.ones(3), torch.tensor([0, 4])),
            ValueError,
            "offsets",
        ),
        (
            lambda: segment_dice_threshold(torch.ones(3), torch.tensor([2, 1])),
            ValueError,
            "offsets",
        ),
        (
            lambda: segment_dice_threshold(torch.ones(3), torch.tensor([0.0, 1.0])),
            TypeError,
            "offsets",
        ),
        (lambda: segment_dice_threshold(torch.ones(3, 1), torch.tensor([0])), ValueError, "values"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
