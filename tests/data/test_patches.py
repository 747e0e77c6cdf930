"""Resampling and cropping against SciPy on the whole volume, and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from marginseg.data.patches import Patch, as_patch_shape, as_spacing, centre_of_mass


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(shape) - np.reshape(centre, (-1, 1, 1, 1))
    return np.asarray((grid**2).sum(0) <= radius**2)


def resample_whole(
    volume: np.ndarray, ratio: tuple[float, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """The definition, voxel by voxel: sample q lies at source index (q + ½) r − ½."""
    sigma = [max(0.0, (r - 1) / 2) for r in ratio]
    smooth = ndimage.gaussian_filter(volume.astype(np.float64), sigma, mode="nearest")
    scale = np.reshape(ratio, (-1, 1, 1, 1))
    places = (np.indices(shape) + 0.5) * scale - 0.5
    return np.asarray(ndimage.map_coordinates(smooth, places, order=1, mode="nearest"))


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 9)] * 3))
def test_centre_of_mass_is_scipys(seed: int, shape: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.4
    mask.flat[seed % mask.size] = True
    np.testing.assert_allclose(centre_of_mass(mask), ndimage.center_of_mass(mask), atol=1e-9)


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 14)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.floats(0.4, 3.0)] * 3),
)
def test_a_patch_is_the_padded_crop_of_the_resampled_volume(
    seed: int,
    source: tuple[int, int, int],
    size: tuple[int, int, int],
    ratio: tuple[float, float, float],
) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=source).astype(np.float32)
    centre = [rng.uniform(-2, n + 2) for n in source]
    patch = Patch.around(centre, size, source_shape=source, spacing=(1, 1, 1), target_spacing=ratio)
    whole = resample_whole(volume, patch.ratio, patch.resampled_shape)
    margin = 40
    padded = np.pad(whole, margin, constant_values=-5.0)
    expected = padded[
        tuple(slice(margin + s, margin + s + n) for s, n in zip(patch.start, size, strict=True))
    ]
    np.testing.assert_allclose(patch.image(volume, -5.0), expected, atol=2e-5)


def test_without_resampling_a_patch_is_a_plain_crop() -> None:
    volume = np.arange(10 * 11 * 12, dtype=np.float32).reshape(10, 11, 12)
    patch = Patch.around((4.5, 5, 11), (4, 5, 4), source_shape=volume.shape, spacing=(2, 2, 2))
    assert patch.start == (3, 3, 10)
    cut = patch.image(volume, -1.0)
    np.testing.assert_array_equal(cut[:, :, :2], volume[3:7, 3:8, 10:])
    assert (cut[:, :, 2:] == -1).all()
    nearly = Patch.around(
        (4.5, 5, 11),
        (4, 5, 4),
        source_shape=volume.shape,
        spacing=(2, 2, 2),
        target_spacing=(2.000001, 2, 2),
    )
    assert nearly == patch


@pytest.mark.parametrize("target", [(0.8, 0.8, 0.8), (2.0, 2.0, 2.0), (1.5, 3.0, 0.9)])
def test_volume_and_centre_survive_resampling(target: tuple[float, float, float]) -> None:
    spacing = (1.0, 1.5, 2.0)
    mask = np.zeros((60, 50, 40), bool)
    grid = (np.indices(mask.shape) + 0.5) * np.reshape(spacing, (3, 1, 1, 1))
    centre_mm, radius = np.array([31.3, 36.9, 41.2]), 17.0
    mask[((grid - centre_mm.reshape(3, 1, 1, 1)) ** 2).sum(0) <= radius**2] = True
    patch = Patch.around(
        centre_of_mass(mask),
        (48, 48, 48),
        source_shape=mask.shape,
        spacing=spacing,
        target_spacing=target,
    )
    label = patch.label(mask)
    assert set(np.unique(label)) == {0, 1}
    ours = label.sum() * np.prod(target)
    assert ours == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.04)
    found = (np.array(ndimage.center_of_mass(label)) + patch.start + 0.5) * target
    np.testing.assert_allclose(found, centre_mm, atol=0.5)
    middle = np.array(ndimage.center_of_mass(label)) - (48 - 1) / 2
    assert np.abs(middle).max() <= 0.5 + 0.5 / min(target)


def test_a_label_stays_a_label_where_the_patch_leaves_the_volume() -> None:
    mask = ball((12, 12, 12), (1, 6, 6), 3.0)
    patch = Patch.around(
        centre_of_mass(mask), (16, 16, 16), source_shape=mask.shape, spacing=(1, 1, 1)
    )
    label = patch.label(mask)
    assert label.dtype == np.uint8
    assert label.sum() == mask.sum()


@pytest.mark.parametrize(
    "shape",
    [(32,), (8,) * 4, (32, 0), (32, 32, 0), (32.5, 32, 32), (np.inf, 32, 32), 32, "abc", None],
)
def test_wrong_patch_shapes_are_refused(shape: object) -> None:
    with pytest.raises(ValueError, match="^patch_shape: expected 2 or 3 positive integers, got "):
        as_patch_shape(shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("spacing", [0, -1.0, (1, 1), (1, 1, float("nan")), "abc", [1, 0, 1]])
def test_wrong_spacings_are_refused(spacing: object) -> None:
    with pytest.raises(ValueError, match="^spacing: expected 1 or 3 positive millimetres, got "):
        as_spacing(spacing, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^spacing: expected 1 or 2 positive millimetres, got "):
        as_spacing((1.0, 1.0, 1.0), 2)


def test_one_spacing_serves_every_axis() -> None:
    assert as_spacing(1.5, 3) == (1.5, 1.5, 1.5)
    assert as_spacing((1, 2), 2) == (1.0, 2.0)
    assert as_spacing(None, 3) is None
