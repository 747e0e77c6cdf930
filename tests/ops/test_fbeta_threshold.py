"""Thresholds of F_beta: exact to the last bit, the same by every way, and Dice where beta is 1."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from marginseg import (
    dice_curve,
    dice_threshold,
    optimal_segmentation,
    optimal_threshold,
    segment_dice_threshold,
    streamed_dice_threshold,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
BETAS = [0.1, 0.5, 1.0, math.sqrt(2), 2.0, 3.7, 10.0]
METHODS = ("iterate", "sort")

# Below this the low half of a product of two doubles is no longer exact.
LEAST_EXACT = Fraction(1e-290)


def exact(values, beta):
    """Return sup F and t* over all cuts in rational arithmetic, beta^2 being a float64."""
    weight = Fraction(beta * beta)
    masses = sorted((Fraction(float(v)) for v in values), reverse=True)
    whole = weight * sum(masses)
    inside = itertools.accumulate(masses)
    threshold = max(mass / (whole + k) for k, mass in enumerate(inside, start=1))
    return (1 + weight) * threshold, threshold


def assert_rounded(got, expected):
    """Check a number against the exact one, rounded once, or twice where it is subnormal."""
    if expected < LEAST_EXACT:
        assert abs(Fraction(got) - expected) <= Fraction(2, 2**1074) + expected / 2**52
    elif got != float(expected):
        middle = (Fraction(got) + Fraction(float(expected))) / 2
        assert abs(expected - middle) < expected / 2**103


def assert_solved(best, values, beta):
    if not any(values):
        assert [x.item() for x in best] == [1 / (1 + beta * beta), 1, 0]
        return
    supremum, threshold = exact(values, beta)
    assert_rounded(best.dice.item(), supremum)
    assert_rounded(best.threshold.item(), threshold)
    inside = sum(float(v) >= best.threshold.item() and float(v) > 0 for v in values)
    assert best.volume.item() == inside


@st.composite
def maps(draw):
    """A map's values, of which many are equal or near each other, and its dtype."""
    dtype = draw(st.sampled_from(DTYPES))
    width = {torch.float16: 16, torch.float64: 64}.get(dtype, 32)
    anchor = draw(st.floats(0.0, 1.0, width=width))
    value = st.one_of(
        st.floats(0.0, 1.0, width=width),
        st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.75, anchor]),
        st.integers(0, 40).map(lambda step: min(1.0, anchor * (1 + step * 2.0**-24))),
        st.floats(0.0, 2.0**-20, width=width),
    )
    return torch.tensor(draw(st.lists(value, max_size=25)), dtype=torch.float64).to(dtype)


betas = st.one_of(
    st.sampled_from([*BETAS, 1e-9, 1e-3, 1e3, 1e9]),
    st.floats(0.1, 10.0),
    st.floats(-9.0, 9.0).map(lambda power: 10.0**power),
)


@given(maps(), betas)
@example(torch.ones(3), 1e-9)  # t* is 1
@example(torch.full((4,), 5e-324, dtype=torch.float64), 1e-9)  # beta^2 S is below all doubles
def test_every_way_gives_the_exact_maximum_to_the_last_bit(device, values, beta):
    found = [dice_threshold(values, spatial_dims=1, beta=beta, method=way) for way in METHODS]
    chunks = [values.cpu()[:9], values.cpu()[9:]]
    streamed = streamed_dice_threshold(chunks, metric="fbeta", beta=beta)
    for best in (*found, streamed):
        assert_solved(best, values, beta)
        assert [x.item() for x in best] == [x.item() for x in streamed]


def test_values_within_a_few_roundings_of_the_threshold(device):
    # Values next to t* hardly change F, so that a search may stop short of it.
    generator = np.random.default_rng(0)
    for number in range(35):
        beta = BETAS[number % len(BETAS)]
        certain = (generator.random(generator.integers(1, 6)) ** 0.3).tolist()
        threshold = float(exact(certain, beta)[1])
        for count in (1, 60):
            steps = generator.integers(-4, 5, size=count)
            close = [min(1.0, threshold * (1 + int(step) * 2.0**-52)) for step in steps]
            values = torch.tensor(certain + close, dtype=torch.float64)
            chunks = [values.cpu()[1:], values.cpu()[:1]]
            for best in (
                *(dice_threshold(values, spatial_dims=1, beta=beta, method=way) for way in METHODS),
                streamed_dice_threshold(chunks, metric="fbeta", beta=beta),
            ):
                assert_solved(best, certain + close, beta)


@pytest.mark.parametrize(
    ("beta", "last"),
    [(3.0, 0.09586449902224621), (2.0, 0.18614066163450727), (0.3, 0.8850896632652697)],
)
def test_cuts_whose_thresholds_round_to_one_double(device, beta, last):
    """Without the last value and with it t* is the same double, and F a larger one with it."""
    values = [1.0, 1.0, last]
    weight = Fraction(beta * beta)
    mass = weight * sum(map(Fraction, values))
    without, whole = 2 / (mass + 2), sum(map(Fraction, values)) / (mass + 3)
    assert float(without) == float(whole)
    assert float((1 + weight) * without) < float((1 + weight) * whole)
    m = torch.tensor(values, dtype=torch.float64)
    for way in METHODS:
        assert_solved(dice_threshold(m, spatial_dims=1, beta=beta, method=way), values, beta)
    assert_solved(streamed_dice_threshold([m.cpu()], metric="fbeta", beta=beta), values, beta)


def test_no_segmentation_is_better(device):
    """Of ten voxels all 1024 segmentations are tried."""
    subsets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)), dtype=torch.float64)
    generator = np.random.default_rng(1)
    for beta in BETAS:
        for power in (0.5, 1.0, 4.0):
            m = torch.tensor(generator.random(10) ** power, dtype=torch.float64)
            precision = subsets @ m / subsets.sum(1).clamp_min(1)
            recall = subsets @ m / m.sum()
            below = (beta**2 * precision + recall).clamp_min(1e-300)
            score = (1 + beta**2) * precision * recall / below
            best = dice_threshold(m, spatial_dims=1, beta=beta)
            assert float(best.dice) == pytest.approx(float(score.max()), rel=1e-14)
            expected = subsets[int(score.argmax())].bool()
            assert torch.equal(optimal_segmentation(m, "fbeta", beta=beta), expected)
            assert torch.equal(m >= optimal_threshold(m, "fbeta", beta=beta), expected)
            assert int(best.volume) == int(expected.sum())


def test_the_same_segmentation_is_best_for_iou(device):
    subsets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)), dtype=torch.float64)
    generator = np.random.default_rng(2)
    for power in (0.5, 1.0, 4.0):
        m = torch.tensor(generator.random(10) ** power, dtype=torch.float64)
        inside = subsets @ m
        iou = inside / (subsets.sum(1) + m.sum() - inside)
        assert float(dice_threshold(m, spatial_dims=1).iou) == pytest.approx(float(iou.max()))
        streamed = streamed_dice_threshold([m.cpu()], metric="iou")
        assert float(streamed.iou) == pytest.approx(float(iou.max()))
        assert torch.equal(optimal_segmentation(m, "iou"), subsets[int(iou.argmax())].bool())
        assert optimal_threshold(m, "iou") == optimal_threshold(m)


@pytest.mark.parametrize("kind", ["dense", "sparse", "tied", "certain", "tiny"])
def test_large_maps_of_every_kind(device, kind):
    """Maps that a sample is drawn of, by every way to the same bits, and near plain float64."""
    size = 40_000
    uniform = torch.from_numpy(np.random.default_rng(7).random(size))
    m = {
        "dense": uniform,
        "sparse": torch.where(torch.arange(size, device="cpu") % 5000 == 3, uniform, 0.0),
        # Half of the map lies at one value.
        "tied": torch.where(uniform < 0.5, 0.4142, uniform),
        # t* is far above 1/2 for betas below 1.
        "certain": 1 - uniform**9,
        "tiny": uniform * 1e-30,
    }[kind]
    values = np.sort(m.numpy())[::-1]
    volumes = np.arange(1, size + 1)
    for beta in (0.1, 2.0, 10.0):
        score = (1 + beta**2) * np.cumsum(values) / (beta**2 * values.sum() + volumes)
        for dtype in (torch.float64, torch.float32):
            typed = m.to(dtype)
            streamed = streamed_dice_threshold(typed.split(17_000), metric="fbeta", beta=beta)
            for way in METHODS if dtype is torch.float32 else METHODS[:1]:
                best = dice_threshold(
                    typed.to(torch.get_default_device()), spatial_dims=1, beta=beta, method=way
                )
                assert [x.item() for x in best] == [x.item() for x in streamed]
            rounding = 1e-12 if dtype is torch.float64 else 1e-6
            assert float(streamed.dice) == pytest.approx(score.max(), rel=rounding)
            expected = score.max() / (1 + beta**2)
            assert float(streamed.threshold) == pytest.approx(expected, rel=rounding)


@pytest.mark.parametrize("size", [5, 40_000])
def test_thresholds_up_to_1(device, size):
    """Of ones alone all cuts are the whole map: F is 1, and t* is 1 / (1 + beta^2)."""
    for beta in (1e-9, 0.01, 0.5, 2.0, 1e9):
        for way in METHODS:
            best = dice_threshold(torch.ones(size), spatial_dims=1, beta=beta, method=way)
            assert best.dice.item() == 1.0
            assert best.threshold.item() == pytest.approx(1 / (1 + beta * beta), rel=1e-15)
            assert best.volume.item() == size
    # Precision alone asks for nothing but the largest value.
    m = torch.cat([torch.full((size,), 0.5), torch.tensor([0.875, 0.875, 0.75])])
    best = dice_threshold(m, spatial_dims=1, beta=1e-9)
    assert best.dice.item() == pytest.approx(0.875, rel=1e-13)
    assert best.volume.item() == 2


def test_f_1_is_dice(device):
    m = torch.rand(3, 2, 20, 21) ** 3
    for way in METHODS:
        plain = dice_threshold(m, spatial_dims=2, method=way)
        assert torch.equal(plain.threshold, plain.dice / 2)
        for part, other in zip(
            plain, dice_threshold(m, spatial_dims=2, method=way, beta=1), strict=True
        ):
            assert torch.equal(part, other)
    for function in (optimal_threshold, optimal_segmentation):
        found = function(m, "fbeta", beta=1.0, spatial_dims=2)
        assert torch.equal(found, function(m, spatial_dims=2))


def test_more_weight_on_recall_cuts_lower(device):
    m = torch.rand(2000, dtype=torch.float64)
    found = [dice_threshold(m, spatial_dims=1, beta=beta) for beta in BETAS]
    assert all(a.threshold > b.threshold for a, b in itertools.pairwise(found))
    assert all(a.volume < b.volume for a, b in itertools.pairwise(found))


def test_segments_and_curve(device):
    ends = [0, 5, 5, 6, 40_000, 40_017]
    values = torch.rand(ends[-1]) ** 3
    for way in METHODS:
        best = segment_dice_threshold(values, torch.tensor(ends), method=way, beta=2.5)
        for k, (begin, end) in enumerate(itertools.pairwise(ends)):
            alone = dice_threshold(values[begin:end], spatial_dims=1, beta=2.5)
            assert [x[k].item() for x in best] == [x.item() for x in alone]
    m = (torch.rand(2, 3, 40, dtype=torch.float64) * 8).round() / 8
    curve = dice_curve(m, spatial_dims=1, beta=0.3)
    for case, channel in itertools.product(range(2), range(3)):
        row = m[case, channel].tolist()
        for cut, score, volume in zip(
            *(part[case, channel].tolist() for part in curve), strict=True
        ):
            inside = [value for value in row if value >= cut]
            weight = Fraction(0.3 * 0.3)
            mass = sum(map(Fraction, inside))
            expected = (1 + weight) * mass / (weight * sum(map(Fraction, row)) + len(inside))
            assert (score, volume) == (float(expected), len(inside))
    best = dice_threshold(m, spatial_dims=1, beta=0.3)
    assert torch.equal(curve.dice.amax(dim=-1), best.dice)


def test_maps_without_mass_and_without_voxels(device):
    for m in (torch.zeros(2, 4), torch.zeros(2, 0)):
        results = [dice_threshold(m, spatial_dims=1, method=way, beta=2.0) for way in METHODS]
        results.append(streamed_dice_threshold([m.cpu()], leading_dims=1, metric="fbeta", beta=2.0))
        for best in results:
            assert best.threshold.tolist() == [0.2, 0.2]
            assert best.dice.tolist() == [1.0, 1.0]
            assert best.volume.tolist() == [0, 0]
    nothing = streamed_dice_threshold([], metric="fbeta", beta=2.0)
    assert [x.item() for x in nothing] == [0.2, 1.0, 0]
    assert not optimal_segmentation(torch.zeros(3, 3), "fbeta", beta=0.1).any()


def test_opcheck_and_compile(device):
    m = torch.rand(2, 3, 4, 5)
    ops = torch.ops.marginseg
    torch.library.opcheck(ops.dice_threshold, (m, 2, "iterate", 2.0))
    torch.library.opcheck(ops.dice_curve, (m, 2, 0.5))
    offsets = torch.tensor([0, 7, 120])
    torch.library.opcheck(ops.segment_dice_threshold, (m.flatten(), offsets, "sort", 3.0))

    def solved(x, beta):
        best = dice_threshold(x, spatial_dims=2, beta=beta)
        return best.dice, best.iou, optimal_segmentation(x, "fbeta", beta=beta, spatial_dims=2)

    compiled = torch.compile(solved, fullgraph=True, backend="aot_eager")
    for beta in (2.0, 0.5, 3.0):
        for got, expected in zip(compiled(m, beta), solved(m, beta), strict=True):
            assert torch.equal(got, expected)


WITH_BETA = {
    "dice_threshold": lambda m, beta: dice_threshold(m, spatial_dims=1, beta=beta),
    "sorted": lambda m, beta: dice_threshold(m, spatial_dims=1, method="sort", beta=beta),
    "segments": lambda m, beta: segment_dice_threshold(m, torch.tensor([0, 3]), beta=beta),
    "dice_curve": lambda m, beta: dice_curve(m, beta=beta),
    "streamed": lambda m, beta: streamed_dice_threshold([m], metric="fbeta", beta=beta),
    "optimal_threshold": lambda m, beta: optimal_threshold(m, "fbeta", beta=beta),
    "optimal_segmentation": lambda m, beta: optimal_segmentation(m, "fbeta", beta=beta),
}


@pytest.mark.parametrize("name", WITH_BETA)
def test_what_is_no_beta_is_refused(name):
    for beta in (0.0, -1.0, math.nan, math.inf, 1e10, 1e-10):
        with pytest.raises(ValueError, match=r"^beta: expected 1e-09 to 1e\+09, got"):
            WITH_BETA[name](torch.rand(3), beta)
    with pytest.raises(TypeError, match="^beta: expected a number, got '2'"):
        WITH_BETA[name](torch.rand(3), "2")
    WITH_BETA[name](torch.rand(3), np.float32(2))


@pytest.mark.parametrize("metric", ["dice", "iou", "accuracy"])
def test_a_beta_goes_with_its_metric_alone(metric):
    m = torch.rand(3)
    for function in (
        lambda **options: streamed_dice_threshold([m], **options),
        lambda **options: optimal_threshold(m, **options),
        lambda **options: optimal_segmentation(m, **options),
    ):
        for options, message in (
            ({"metric": metric, "beta": 2.0}, f"beta: expected None with metric {metric}, got 2"),
            ({"metric": "fbeta"}, "beta: expected a number with metric fbeta, got None"),
            (
                {"metric": "f2", "beta": 2},
                "metric: expected one of dice, iou, fbeta, accuracy, got",
            ),
        ):
            with pytest.raises(ValueError, match=f"^{message}"):
                function(**options)
