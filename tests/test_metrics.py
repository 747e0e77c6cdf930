from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marginseg import (
    accuracy,
    calibration_curve,
    dice,
    expected_calibration_error,
    volume_bias,
    volume_ratio,
)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_definitions(pairs):
    s, m = np.array(pairs).T
    first, second = torch.from_numpy(s.copy()), torch.from_numpy(m.copy())
    expected = math.fsum(s * m + (1 - s) * (1 - m)) / s.size
    assert float(accuracy(first, second)) == pytest.approx(expected, abs=1e-12)
    total = math.fsum(s) + math.fsum(m)
    expected = 2 * math.fsum(s * m) / total if total else 1.0
    assert float(dice(first, second)) == pytest.approx(expected, abs=1e-12)
    assert float(volume_bias(first, second)) == pytest.approx(s.mean() - m.mean(), abs=1e-12)


def test_leading_axes_have_their_own_values():
    s, m = torch.rand(2, 3, 4, 5) > 0.5, torch.rand(2, 3, 4, 5)
    for metric in (accuracy, dice, volume_ratio, volume_bias):
        result = metric(s, m, spatial_dims=2)
        assert result.shape == (2, 3)
        assert result.dtype is torch.float64
        assert result[1, 2] == metric(s[1, 2], m[1, 2])


def test_empty_structures():
    empty, full = torch.zeros(4), torch.ones(4)
    assert dice(empty, empty) == 1
    assert dice(full, empty) == 0
    assert volume_ratio(empty, empty) == 1
    assert volume_ratio(full, empty) == math.inf
    assert volume_ratio(empty, full) == 0


def test_sums_are_in_float64():
    """2²⁵ + 1 ones: float32 cannot count that far."""
    s = torch.ones(2**25 + 1, dtype=torch.bool)
    m = torch.ones(2**25 + 1, dtype=torch.bool)
    m[0] = False
    assert float(dice(s, m)) == pytest.approx(2 * 2**25 / (2 * 2**25 + 1), rel=1e-15)


def test_calibration_error_of_known_maps():
    rng = np.random.default_rng(0)
    c = torch.from_numpy(rng.uniform(size=200_000))
    calibrated = torch.from_numpy(rng.uniform(size=200_000)) < c
    # 15 bins, each off by at most about 4 standard errors of some 13,000 voxels.
    assert float(expected_calibration_error(c, calibrated)) < 4 * 0.5 / math.sqrt(200_000 / 15)
    assert float(expected_calibration_error(c, c)) == 0
    shifted = (c + 0.1).clamp(max=1)
    expected = float((shifted - c).mean())
    assert float(expected_calibration_error(shifted, c)) == pytest.approx(expected)
    # Too low in one bin and too high in another do not cancel.
    crossed = expected_calibration_error(torch.tensor([0.1, 0.9]), torch.tensor([0.3, 0.7]))
    assert float(crossed) == pytest.approx(0.2)
    assert float(expected_calibration_error(torch.ones(5), torch.zeros(5))) == 1
    assert float(expected_calibration_error(torch.zeros(0), torch.zeros(0))) == 0


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_bins_of_a_calibration_curve_are_those_of_a_histogram(bins):
    rng = np.random.default_rng(1)
    # Not at an edge, where rounding may take a value to either side, but for 0 and 1.
    c = (rng.integers(0, bins, 3000) + rng.uniform(0.01, 0.99, 3000)) / bins
    c[:2] = 0.0, 1.0
    m = rng.uniform(size=c.size)
    curve = calibration_curve(torch.from_numpy(c), torch.from_numpy(m), bins=bins)
    for found, weights in ((curve.count, None), (curve.promised, c), (curve.held, m)):
        expected, _ = np.histogram(c, bins, (0.0, 1.0), weights=weights)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_bad_arguments_are_named():
    for metric in (accuracy, dice, volume_ratio, volume_bias, expected_calibration_error):
        with pytest.raises(ValueError, match="^(marginal|label): expected the first"):
            metric(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="^spatial_dims"):
        dice(torch.zeros(2), torch.zeros(2), spatial_dims=2)


@pytest.mark.parametrize("metric", [accuracy, dice, volume_ratio, volume_bias])
def test_a_map_has_an_axis_unless_there_is_none(metric):
    with pytest.raises(ValueError, match="^spatial_dims: expected 1 to 1 for shape"):
        metric(torch.ones(3), torch.ones(3), spatial_dims=0)
    alone = metric(torch.tensor(1.0), torch.tensor(0.5), spatial_dims=0)
    assert torch.equal(alone, metric(torch.ones(1), torch.full((1,), 0.5))[()])
    with pytest.raises(ValueError, match="^probabilities"):
        expected_calibration_error(torch.tensor([1.5]), torch.zeros(1))
    with pytest.raises(ValueError, match="^bins"):
        expected_calibration_error(torch.zeros(1), torch.zeros(1), bins=0)


def test_what_is_no_tensor_is_named():
    a, b = [1.0, 1.0, 1.0], torch.ones(3)
    for function, second in ((accuracy, "marginal"), (dice, "marginal"), (volume_ratio, "label")):
        with pytest.raises(
            TypeError, match="^segmentation: expected a torch.Tensor or .*, got list"
        ):
            function(a, b)
        with pytest.raises(TypeError, match=f"^{second}: expected a torch.Tensor or .*, got list"):
            function(b, a)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int64, torch.float32])
@pytest.mark.parametrize("wrong", [[0, 2, 3], [0, -1, 1]])
def test_label_maps_of_several_classes_are_no_masks(dtype, wrong):
    """Their "Dice" would be 1.8, say."""
    if min(wrong) < 0 and not dtype.is_signed:
        wrong = [0, 2, 1]
    map_, mask = torch.tensor(wrong).to(dtype), torch.tensor([0, 1, 1], dtype=torch.bool)
    for metric in (accuracy, dice, volume_ratio, volume_bias, expected_calibration_error):
        for pair in ((map_, mask), (mask, map_)):
            with pytest.raises(
                ValueError, match=r": expected values within \[0, 1\], got"
            ) as error:
                metric(*pair)
            assert f"got {min(wrong)} to {max(wrong)}" in str(error.value)
    with pytest.raises(ValueError, match="^marginal: expected values within"):
        dice(mask, torch.tensor([0.0, math.nan, 1.0]))


def test_where_nobody_can_look_metrics_take_what_comes():
    s, m = torch.rand(3, 4), torch.rand(3, 4)
    each = torch.stack([dice(a, b) for a, b in zip(s, m, strict=True)])
    torch.testing.assert_close(torch.vmap(dice)(s, m), each)


def test_complex_numbers_are_no_segmentation():
    for metric in (accuracy, dice, volume_ratio, volume_bias, expected_calibration_error):
        with pytest.raises(TypeError, match="^(marginal|label): expected real numbers, got"):
            metric(torch.zeros(2), torch.zeros(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("bins", "error"), [(1e300, TypeError), (0, ValueError), (2**70, ValueError)]
)
def test_a_number_of_bins_is_an_integer(bins, error):
    with pytest.raises(error, match="^bins: expected"):
        calibration_curve(torch.rand(4), torch.rand(4), bins=bins)
