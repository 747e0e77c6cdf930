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
from hypothesis import given
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
    for _ in range(40):
        certain = (generator.random(generator.integers(1, 6)) ** 0.3).tolist()
        threshold = float(_exact(certain)[0]) / 2
        for count in (1, 20, 200):
            steps = generator.integers(-4, 5, size=count)
            close = [threshold * (1 + int(step) * 2.0**-52) for step in steps]
            _assert_exact(certain + close)


def test_maps_of_subnormal_values(device):
    generator = np.random.default_rng(1)
    for scale in (5e-324, 1e-310, 1e-300):
        for _ in range(15):
            _assert_exact([*(generator.integers(0, 9, size=6) * scale).tolist(), scale])


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
                1.0,
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


@pytest.mark.parametrize("bad", [1.5, -0.25, float("nan"), float("inf")])
def test_what_is_no_probability_is_refused_where_that_is_asked(device, bad):
    values = torch.tensor([0.2, bad, 0.9], device=device)
    offsets = torch.tensor([0, 3], device=device)
    calls = (
        lambda check: dice_threshold(values, spatial_dims=1, check=check),
        lambda check: dice_threshold(values, spatial_dims=1, method="sort", check=check),
        lambda check: segment_dice_threshold(values, offsets, check=check),
        lambda check: dice_curve(values, check=check),
    )
    for call in calls:
        call(False)
        with pytest.raises(ValueError, match="^(probabilities|values): expected values within"):
            call(True)
    good = torch.tensor([0.0, 1.0, 0.5], device=device)
    assert dice_threshold(good, spatial_dims=1, check=True) == dice_threshold(good, spatial_dims=1)
