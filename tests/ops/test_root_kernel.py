"""Fields of a short length scale: white noise, filtered."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from marginseg import GaussianFieldNoise, gaussian_field, gaussian_field_ranks
from marginseg.ops.root_kernel import root_kernel, takes_kernels


@given(length_scale=st.floats(1e-3, 30.0), tolerance=st.sampled_from([1e-6, 1e-12]))
def test_the_kernel_twice_is_the_covariance(length_scale, tolerance):
    half = root_kernel(length_scale, tolerance)
    whole = np.concatenate([half[:0:-1], half])
    found = np.convolve(whole, whole)
    lags = np.arange(len(found)) - (len(found) - 1) // 2
    expected = np.exp(-0.5 * (lags / length_scale) ** 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert found.max() == pytest.approx(1.0, abs=1e-14)
    beyond = math.exp(-0.5 * ((lags[-1] + 1) / length_scale) ** 2)
    assert beyond < tolerance


def test_kernels_are_taken_where_the_rank_is_nearly_that_of_the_matrix():
    assert takes_kernels([512], [1.0])
    assert takes_kernels([4096], [3.0])
    assert takes_kernels([20, 512, 512], [300.0, 300.0, 1.0])
    assert not takes_kernels([512], [4.0])  # its coefficients are half as many along each axis
    assert not takes_kernels([64], [1.0])
    for size in (1, 7, 64, 512, 4096, 100_000):
        assert not takes_kernels([size], [0.15 * math.sqrt(2) * size])


@pytest.mark.parametrize("length_scale", [0.4, 1.3, 2.2])
def test_a_field_of_a_short_length_scale_has_the_variance_and_covariance(device, length_scale):
    shape, std = (3, 6_000), 2.0
    assert takes_kernels(shape, (length_scale,) * 2)
    generator = torch.Generator(device=device).manual_seed(0)
    field = gaussian_field(shape, std, length_scale, generator=generator, batch_shape=(2,))
    values = field[1, 1].double()
    # The mean of n products of normals with the correlations c(k) along the row has a standard
    # error of at most a² sqrt(2 Σ c(k)² / n), where Σ c(k)² = 1 + b √π bounds the sum.
    bound = 5 * std**2 * math.sqrt(2 * (1 + length_scale * math.sqrt(math.pi)) / shape[1])
    for down in range(3):
        for lag in range(5):
            expected = std**2 * math.exp(-0.5 * (down**2 + lag**2) / length_scale**2)
            products = values[0, lag:] * values[down, : shape[1] - lag]
            assert abs(float(products.mean()) - expected) < bound
    # The border is as the middle: here over the batch and components only, so that few suffice.
    ends = gaussian_field((300,), 1.0, length_scale, generator=generator, batch_shape=(1000,))
    assert takes_kernels((300,), (length_scale,))
    assert abs(float(ends[:, 0, 0].square().mean()) - 1.0) < 5 * math.sqrt(2 / 1000)


def test_coefficients_of_filtered_noise(device):
    shape, length_scale = (300, 4), 1.0
    ranks = gaussian_field_ranks(shape, length_scale)
    half = root_kernel(length_scale, 1e-6)
    assert ranks == tuple(size + 2 * (len(half) - 1) for size in shape)
    given = torch.randn(2, *ranks, device=device)
    field = gaussian_field(shape, 1.5, length_scale, coefficients=given)
    whole = np.concatenate([half[:0:-1], half])
    for component in range(2):
        expected = 1.5 * scipy.signal.convolve(
            given[component].double().cpu().numpy(), np.outer(whole, whole), "valid"
        )
        np.testing.assert_allclose(field[component].cpu().numpy(), expected, atol=2e-5)
    with pytest.raises(ValueError, match="coefficients: expected shape"):
        gaussian_field(shape, 1.5, length_scale, coefficients=given[..., 1:])


def test_samples_of_a_short_length_scale_have_their_marginals(device):
    """And leading axes share the field, but for those that are a batch."""
    noise = GaussianFieldNoise(1.5, 0.8, units="voxel", spatial_dims=1)
    assert takes_kernels((300,), (0.8,))
    label = torch.zeros(2, 2, 300, dtype=torch.uint8)
    label[..., 100:140] = 1
    label[1] *= 3
    generator = torch.Generator(device=device).manual_seed(1)
    samples, folded = noise.sample_folded(label.to(device), 400, generator=generator, batch_dims=1)
    assert samples.shape == (400, 2, 2, 300)
    assert samples.dtype is torch.uint8
    assert folded.shape == (400, 2)
    assert torch.equal(samples[:, :, 0], samples[:, :, 1])
    mean = (samples[:, :, 0] != 0).double().mean(dim=(0, 1)).cpu()
    expected = noise.marginals((label[0, 0] != 0).to(device)).double().cpu()
    # Of 300 voxels with 800 draws each, none is 5 standard deviations off.
    assert ((mean - expected).abs() < 5 * (expected * (1 - expected) / 800).sqrt() + 1e-3).all()
    again = noise.sample(label.to(device), 400, generator=generator.manual_seed(1), batch_dims=1)
    assert torch.equal(samples, again)
