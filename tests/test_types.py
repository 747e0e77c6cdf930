"""What type checkers see of the public functions: `make lint` checks this file too."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import marginseg
from marginseg import CalibrationCurve, GaussianFieldNoise, OptimalLabels


def test_arrays_give_arrays_and_tensors_tensors() -> None:
    array: NDArray[Any] = np.array([0.0, 0.4, 1.0])
    tensor = torch.from_numpy(array)
    assert_type(marginseg.optimal_threshold(array), NDArray[Any])
    assert_type(marginseg.optimal_threshold(tensor), Tensor)
    assert_type(marginseg.optimal_segmentation(array, "accuracy"), NDArray[Any])
    assert_type(marginseg.cut(probabilities=array, threshold=0.5), NDArray[Any])
    assert_type(marginseg.dice(array, array), NDArray[Any])
    assert_type(marginseg.dice(segmentation=tensor, marginal=tensor), Tensor)
    assert_type(marginseg.calibration_curve(array, array), CalibrationCurve[NDArray[Any]])
    assert_type(marginseg.expected_calibration_error(tensor, tensor), Tensor)
    assert_type(marginseg.optimal_labels(np.stack([array, 1 - array])).labels, NDArray[Any])
    assert_type(marginseg.optimal_labels(torch.rand(2, 3)), OptimalLabels[Tensor])
    noise = GaussianFieldNoise(0.1)
    assert_type(noise.sample(array.round(), generator=1), NDArray[Any])
    assert_type(noise.sample_folded(tensor.round()), tuple[Tensor, Tensor])
    assert_type(noise.marginals(array), NDArray[Any])


def test_a_typo_is_an_error() -> None:
    m, moved = torch.rand(4), torch.zeros(1, 4)
    with pytest.raises(ValueError, match="^metric"):
        marginseg.optimal_threshold(m, "Dice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^metric"):
        marginseg.streamed_dice_threshold([m], metric="Dice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^method"):
        marginseg.dice_threshold(m, spatial_dims=1, method="sorted")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^units"):
        GaussianFieldNoise(0.1, units="mms")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^interpolation"):
        GaussianFieldNoise(0.1, interpolation="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^interpolation"):
        marginseg.warp(m, moved, interpolation="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^mode"):
        marginseg.warp(m, moved, mode="zeros")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^mode"):
        marginseg.gaussian_filter(m, 1.0, mode="zeros")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^kernel"):
        marginseg.gaussian_filter(m, 1.0, kernel="box")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^method"):
        marginseg.gaussian_field((4,), 1.0, 2.0, method="fft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^reduction"):
        marginseg.cross_entropy(m, m, reduction="sum")  # type: ignore[arg-type]
