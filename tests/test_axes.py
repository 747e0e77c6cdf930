"""The one rule of which axes are spatial, in all functions that have a default."""

from __future__ import annotations

import re

import pytest
import torch

import marginseg
from marginseg import GaussianFieldNoise

FUNCTIONS = {
    "optimal_threshold": marginseg.optimal_threshold,
    "optimal_segmentation": marginseg.optimal_segmentation,
    "dice_curve": lambda m, **n: marginseg.dice_curve(m, **n).dice,
    "dice": lambda m, **n: marginseg.dice(m, m, **n),
    "accuracy": lambda m, **n: marginseg.accuracy(m, m, **n),
    "volume_ratio": lambda m, **n: marginseg.volume_ratio(m, m, **n),
    "volume_bias": lambda m, **n: marginseg.volume_bias(m, m, **n),
    "marginals": lambda m, **n: GaussianFieldNoise(0.1, **n).marginals(m),
    "expected_volume": lambda m, **n: GaussianFieldNoise(0.1, **n).expected_volume(m),
    "volume_loss": lambda m, **n: GaussianFieldNoise(0.1, **n).volume_loss(m),
    "sample": lambda m, **n: GaussianFieldNoise(0.1, **n).sample(m.round(), generator=0),
}


def labelled(m: torch.Tensor, spatial_dims: int | None = None) -> torch.Tensor:
    return marginseg.optimal_labels(m, background=None, spatial_dims=spatial_dims).labels


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(5,), (5, 4), (1, 4), (2, 5, 4), (5, 1, 1)])
def test_up_to_three_axes_are_spatial(name, shape):
    m = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found, expected = FUNCTIONS[name](m), FUNCTIONS[name](m, spatial_dims=len(shape))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 1, 5, 4, 3)])
def test_of_more_axes_somebody_has_to_say_so(name, shape):
    message = f"spatial_dims: needed for shape {shape}, of which up to 3 axes are spatial"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        FUNCTIONS[name](torch.rand(shape))
    FUNCTIONS[name](torch.rand(shape), spatial_dims=3)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_first_axis_of_one_may_be_a_channel(name):
    m = torch.rand(1, 5, 4, generator=torch.Generator().manual_seed(0))
    message = "spatial_dims: needed for shape (1, 5, 4), whose first axis may be a channel"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        FUNCTIONS[name](m)
    FUNCTIONS[name](m, spatial_dims=3)
    alone, among = FUNCTIONS[name](m[0]), FUNCTIONS[name](m, spatial_dims=2)
    torch.testing.assert_close(among.reshape(alone.shape), alone)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 4), (1, 5, 4), (2, 1, 4)])
def test_behind_the_channels_up_to_two_axes_are_spatial(shape):
    m = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(labelled(m), labelled(m, spatial_dims=len(shape) - 1))


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (1, 3, 5, 6), (3, 1, 5, 6)])
def test_four_axes_with_channels_may_be_a_volume_or_a_batch(shape):
    m = torch.rand(shape)
    message = (
        f"spatial_dims: needed for shape {shape}: "
        "3 for one case (K, Z, Y, X), 2 for a batch (N, K, Y, X)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        labelled(m)
    assert labelled(m, spatial_dims=3).shape == shape[1:]
    assert labelled(m, spatial_dims=2).shape == (shape[0], *shape[2:])


def test_more_axes_with_channels_are_refused_too():
    with pytest.raises(ValueError, match="^spatial_dims: needed for shape"):
        labelled(torch.rand(2, 3, 5, 6, 7))


def test_calibration_pools_all_axes():
    m = torch.rand(2, 1, 5, 4, 3)
    assert float(marginseg.calibration_curve(m, m).count.sum()) == m.numel()
