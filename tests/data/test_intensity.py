"""Intensities become numbers of one scale, whatever scanner they are from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marginseg.data.intensity import CT_WINDOW, IntensityScale


def test_ct_window_is_the_same_for_every_volume() -> None:
    low, high = CT_WINDOW
    values = np.array([low - 500, low, (low + high) / 2, high, high + 500], np.float32)
    np.testing.assert_allclose(IntensityScale.ct()(values), [-1, -1, 0, 1, 1], atol=1e-6)


@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_standardised_intensity_ignores_the_scanners_units(gain: float, offset: float) -> None:
    base = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    base[0, 0, 0] = 1e4  # an outlier that the clipping must hold off
    volume = (gain * base.astype(np.float64) + offset).astype(np.float32)
    out = IntensityScale.standardised(volume)(volume)
    assert abs(float(out.mean(dtype=np.float64))) < 0.02
    assert float(out.std(dtype=np.float64)) == pytest.approx(1, abs=0.02)
    assert float(out.max()) < 5


def test_a_constant_volume_becomes_zero() -> None:
    volume = np.full((4, 4, 4), 7.0, np.float32)
    assert (IntensityScale.standardised(volume)(volume) == 0).all()
