from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marginseg import cut, dice_threshold, optimal_segmentation, optimal_threshold


@given(
    st.lists(st.integers(0, 64), min_size=1, max_size=12),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_cut_is_exact_in_the_maps_own_dtype(device, numerators, dtype):
    """{m >= t*} in rational arithmetic; t* itself often lies between two numbers of the dtype."""
    m = (torch.tensor(numerators, dtype=torch.float64) / 64).to(dtype)
    threshold = Fraction(optimal_threshold(m).item())
    expected = [Fraction(float(value)) >= threshold for value in m]
    assert optimal_segmentation(m).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_value_just_below_the_threshold_stays_out(device, dtype):
    """Also where t* rounds down to that very value.

    With k ones and one v below v² + 2kv = k, the best cut leaves v out: t* = k / (2k + v) > v.
    """
    rounded_down = 0
    for k in range(1, 60):
        root = torch.tensor(math.sqrt(k * k + k) - k, dtype=torch.float64)
        v = root.to(dtype)
        if v >= root:
            v = torch.nextafter(v, torch.zeros_like(v))
        m = torch.cat([torch.ones(k, dtype=dtype), v[None]])
        threshold = optimal_threshold(m)
        assert float(threshold) > float(v)
        assert optimal_segmentation(m).tolist() == [True] * k + [False]
        rounded_down += int(threshold.to(dtype) == v)
    assert rounded_down > 5  # the case is really met


def test_each_case_and_class_has_its_own_threshold(device):
    m = torch.stack([torch.full((4, 4), 0.9), torch.full((4, 4), 0.1)])
    m[:, 0] = 0.0
    thresholds = optimal_threshold(m, spatial_dims=2)
    assert thresholds.shape == (2,)
    assert thresholds[1] < 0.1
    segmentation = optimal_segmentation(m, spatial_dims=2)
    assert segmentation.sum().item() == 2 * 12
    assert optimal_threshold(m).shape == ()


def test_accuracy_is_cut_at_a_half(device):
    m = torch.tensor([0.2, 0.5, 0.7])
    assert optimal_segmentation(m, "accuracy").tolist() == [False, True, True]
    assert optimal_threshold(m, "accuracy").item() == 0.5


def test_no_mass_is_empty(device):
    assert not optimal_segmentation(torch.zeros(3, 3)).any()
    assert optimal_segmentation(torch.zeros(0, 3)).shape == (0, 3)
    assert optimal_segmentation(torch.zeros(2, 0), spatial_dims=1).shape == (2, 0)
    assert optimal_segmentation(torch.tensor(0.3)).item() is True


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match=r"^probabilities: expected values within \[0, 1\]"):
        optimal_segmentation(torch.tensor([0.5, bad]))


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="^probabilities: expected a torch.Tensor or a NumPy array"):
        optimal_segmentation([0.0, 0.5])
    with pytest.raises(TypeError, match="^probabilities"):
        optimal_segmentation(np.zeros(3, np.int32))
    with pytest.raises(TypeError, match="^probabilities"):
        optimal_segmentation(torch.zeros(3, dtype=torch.int32))
    with pytest.raises(ValueError, match="^metric"):
        optimal_segmentation(torch.zeros(3), "jaccard")
    with pytest.raises(ValueError, match="^spatial_dims"):
        optimal_segmentation(torch.zeros(3), spatial_dims=2)


def test_a_map_that_requires_grad_is_cut_without_a_warning(device):
    probabilities = torch.tensor([0.9, 0.4, 0.1], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert optimal_segmentation(probabilities).tolist() == [True, True, False]


@given(
    st.lists(st.floats(0, 1, width=16), min_size=1, max_size=12),
    st.floats(-0.5, 1.5, allow_subnormal=True),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.booleans(),
)
def test_any_cut_is_exact(device, values, threshold, dtype, as_tensor):
    """{m >= t} in rational arithmetic, for a number and for a tensor."""
    m = torch.tensor(values, dtype=torch.float64).to(dtype)
    t = torch.tensor(threshold, dtype=torch.float64) if as_tensor else threshold
    expected = [Fraction(float(value)) >= Fraction(threshold) for value in m]
    assert cut(m, t).tolist() == expected
    assert cut(m.reshape(1, -1), torch.tensor([threshold], dtype=torch.float64)).tolist() == [
        expected
    ]


def test_who_solves_once_gets_the_optimal_segmentation(device):
    maps = torch.rand(3, 2, 8, 9, 10) ** 4
    best = dice_threshold(maps, spatial_dims=3)
    segmentation = cut(maps, best.threshold)
    assert torch.equal(segmentation, optimal_segmentation(maps, spatial_dims=3))
    assert torch.equal(segmentation.sum(dim=(2, 3, 4)), best.volume)
    assert torch.equal(cut(maps, 0.5), maps >= 0.5)


def test_cuts_at_what_no_value_is():
    m = torch.tensor([0.0, 0.5, 1.0])
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert not cut(m.to(dtype), math.nan).any()
        assert not cut(m.to(dtype), math.inf).any()
        assert cut(m.to(dtype), -math.inf).all()
        with warnings.catch_warnings(action="error"):
            assert not cut(m.to(dtype), 1e300).any()
            assert cut(m.to(dtype), -1e300).all()
        assert not cut(m[None].to(dtype), torch.tensor([math.nan])).any()


def test_a_cut_keeps_the_tensors_class():
    class Marked(torch.Tensor):
        pass

    assert type(cut(torch.rand(3).as_subclass(Marked), 0.5)) is Marked


def test_bad_cuts_are_named():
    with pytest.raises(TypeError, match="^probabilities"):
        cut([0.5], 0.5)
    with pytest.raises(TypeError, match="^probabilities"):
        cut(torch.zeros(3, dtype=torch.int32), 0.5)
    with pytest.raises(ValueError, match="^threshold: expected one number"):
        cut(torch.zeros(3, 4), torch.zeros(4))
