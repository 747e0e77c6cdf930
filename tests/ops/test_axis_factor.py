"""The factors of the covariance along an axis."""

from __future__ import annotations

import math

import numpy as np
import pytest

from marginseg.ops.axis_factor import axis_factor


def covariance(size, length_scale):
    positions = np.arange(size)
    return np.exp(-((positions[:, None] - positions) ** 2) / (2 * length_scale**2))


@pytest.mark.parametrize("size", [1, 2, 17, 64, 257])
@pytest.mark.parametrize("length_scale", [0.3, 2.0, 13.6, 400.0])
@pytest.mark.parametrize("tolerance", [1e-6, 1e-12])
def test_factor_reproduces_the_covariance_and_exactly_the_variance(size, length_scale, tolerance):
    factor = axis_factor(size, length_scale, tolerance)
    kernel = covariance(size, length_scale)
    product = factor @ factor.T
    np.testing.assert_allclose(np.diag(product), 1.0, atol=1e-14)
    np.testing.assert_allclose(product, kernel, atol=max(2 * tolerance, 1e-13))


def test_rank_is_near_the_numerical_rank_of_the_kernel():
    size = 128
    length_scale = 0.15 * math.sqrt(2) * size
    kernel = covariance(size, length_scale)
    eigenvalues = np.linalg.eigvalsh(kernel)[::-1]
    needed = int((eigenvalues > 1e-6 * eigenvalues[0]).sum())
    assert axis_factor(size, length_scale, 1e-6).shape[1] <= needed + 2
