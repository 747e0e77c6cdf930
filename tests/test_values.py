"""Probabilities that rounding has put beyond [0, 1], and those that are none."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import marginseg
from marginseg import DiceThreshold, dice_threshold
from marginseg.values import within_unit

STEPS = {
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
    torch.float32: 2.0**-23,
    torch.float64: 2.0**-23,  # as most of them come from float32
}


def _calls(values):
    """All that look at probabilities, with one map."""
    return {
        "threshold": lambda: dice_threshold(values, spatial_dims=1, check=True),
        "sort": lambda: dice_threshold(values, spatial_dims=1, method="sort", check=True),
        "segments": lambda: marginseg.segment_dice_threshold(
            values, torch.tensor([0, len(values)], device=values.device), check=True
        ),
        "curve": lambda: marginseg.dice_curve(values, check=True),
        "t*": lambda: marginseg.optimal_threshold(values),
        "segmentation": lambda: marginseg.optimal_segmentation(values),
        "labels": lambda: marginseg.optimal_labels(values[None], background=None),
        "dice": lambda: marginseg.dice(values, values),
        "calibration": lambda: marginseg.calibration_curve(values, values),
    }


def _parts(found):
    if isinstance(found, torch.Tensor):
        return [found]
    fields = found if isinstance(found, tuple) else vars(found).values()
    return list(fields)


@pytest.mark.parametrize("dtype", STEPS)
def test_a_rounding_beyond_counts_as_0_and_as_1(device, dtype):
    steps = STEPS[dtype]
    within = torch.tensor([1.0, 1.0, 0.7, 0.3, 0.0, 0.0, 1.0], dtype=dtype, device=device)
    beyond = within.double()
    beyond += torch.tensor([4, 1, 0, 0, -4, -1, 2], device=device) * steps
    beyond = beyond.to(dtype)
    assert float(beyond.max()) == 1 + 4 * steps
    assert float(beyond.min()) == -4 * steps
    for name, call in _calls(beyond).items():
        for found, expected in zip(_parts(call()), _parts(_calls(within)[name]()), strict=True):
            assert torch.equal(found, expected), name


@pytest.mark.parametrize("dtype", STEPS)
@pytest.mark.parametrize("count", [5, -5])
def test_what_is_further_outside_is_refused_in_digits_that_show_it(device, dtype, count):
    steps = STEPS[dtype]
    values = torch.tensor([0.5, 1.0 if count > 0 else 0.0], dtype=torch.float64)
    values[1] += count * steps
    values = values.to(dtype).to(device)
    for name, call in _calls(values).items():
        with pytest.raises(ValueError, match=r"expected values within \[0, 1\]") as error:
            call()
        low, high = str(error.value).partition(", got ")[2].split(" to ")
        assert float(low) < 0 or float(high) > 1, (name, str(error.value))


def test_the_message_has_the_digits_of_a_float32():
    with pytest.raises(ValueError, match="^m: expected values within .0, 1., got 0 to 1.0000006$"):
        within_unit("m", torch.tensor([0.0, 1 + 5 * 2.0**-23]))


def test_a_map_without_such_values_is_neither_copied_nor_changed():
    m = torch.rand(5, 6)
    assert within_unit("m", m) is m


def test_kernels_that_nobody_guards_are_right_beside_1(device):
    """A Dice above 1 is what the definition says of such a map; t* and the cut are right still."""
    generator = torch.Generator().manual_seed(0)
    m = torch.rand(1 << 17, generator=generator) ** 3
    m[::3] = 1 + 2.0**-23
    for method in ("iterate", "sort"):
        best = dice_threshold(m.to(device), spatial_dims=1, method=method)
        expected = _by_definition(m.numpy())
        assert float(best.dice) == pytest.approx(float(expected), abs=1e-14)
        assert float(best.threshold) == float(best.dice) / 2
        assert int(best.volume) == int((m.double() >= float(best.threshold)).sum())


def _by_definition(values: np.ndarray) -> Fraction:
    ordered = np.sort(values.astype(np.float64))[::-1]
    unit = 2.0**-60
    units = [int(v / unit) for v in ordered.tolist()]
    whole, mass, best = sum(units), 0, Fraction(0)
    shares = np.cumsum(ordered) / (ordered.sum() + np.arange(1, len(ordered) + 1))
    likely = int(np.argmax(shares))
    for volume in range(max(1, likely - 50), likely + 50):
        mass = sum(units[:volume])
        best = max(best, Fraction(2 * mass, whole + volume * 2**60))
    return best


def test_a_map_of_nothing_but_roundings_below_0_is_empty():
    best = marginseg.dice_threshold(torch.full((9,), -(2.0**-24)), spatial_dims=1, check=True)
    assert best == DiceThreshold(torch.tensor(0.5), torch.tensor(1.0), torch.tensor(0))
    assert not marginseg.optimal_segmentation(torch.full((9,), -(2.0**-24))).any()


def test_nan_is_refused_beside_what_is_clamped():
    values = torch.tensor([math.nan, 1 + 2.0**-23])
    with pytest.raises(ValueError, match="got NaN"):
        marginseg.optimal_threshold(values)


@pytest.mark.parametrize("dtype", [torch.uint64, torch.float8_e4m3fn])
def test_what_torch_cannot_compare_is_refused(dtype):
    values = torch.ones(3).to(dtype)
    for first, second, name in (
        (values, torch.ones(3), "segmentation"),
        (torch.ones(3), values, "marginal"),
    ):
        with pytest.raises(TypeError, match=f"^{name}: expected floats, .*, got {dtype}"):
            marginseg.dice(first, second)
