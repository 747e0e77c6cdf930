"""Phantoms: what they promise about volume, shape, contrast and repetition."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from marginseg.data import PHANTOM_STRUCTURES, Dataset, phantom

SHARES = {"kidney": (0.05, 0.08), "tube": (0.03, 0.052), "thin_tube": (0.01, 0.0155)}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    folder = tmp_path_factory.mktemp("phantoms")
    return {
        structure: phantom(structure, cases=12, patch_shape=(32, 32, 32), cache_dir=folder)
        for structure in PHANTOM_STRUCTURES
    }


@pytest.mark.parametrize("structure", PHANTOM_STRUCTURES)
def test_volume_is_as_promised_at_every_resolution(
    datasets: dict[str, Dataset], tmp_path: Path, structure: str
) -> None:
    low, high = SHARES[structure]
    assert all(low <= case.label.mean() <= high for case in datasets[structure].cases)
    finer = phantom(structure, cases=3, patch_shape=(40, 56, 48), cache_dir=tmp_path)
    for case, coarse in zip(finer.cases, datasets[structure].cases, strict=False):
        assert case.image.shape == (40, 56, 48)
        assert case.label.mean() == pytest.approx(coarse.label.mean(), rel=0.02)


@pytest.mark.parametrize("structure", PHANTOM_STRUCTURES)
def test_a_plane_shows_the_structure_with_its_share(tmp_path: Path, structure: str) -> None:
    low, high = SHARES[structure]
    planes = phantom(structure, cases=12, patch_shape=(64, 48), cache_dir=tmp_path)
    for case in planes.cases:
        assert case.image.shape == case.label.shape == (64, 48)
        assert case.spacing == pytest.approx((128 / (64 * 48) ** 0.5,) * 2)
        assert low <= case.label.mean() <= high
        pieces, _ = ndimage.label(case.label, np.ones((3, 3)))
        assert np.bincount(pieces.ravel())[1:].max() >= 0.97 * case.label.sum(), case.name


@pytest.mark.parametrize("structure", PHANTOM_STRUCTURES)
def test_the_structure_is_one_piece(datasets: dict[str, Dataset], structure: str) -> None:
    for case in datasets[structure].cases:
        pieces, count = ndimage.label(case.label, np.ones((3, 3, 3)))
        largest = np.bincount(pieces.ravel())[1:].max()
        assert largest >= 0.97 * case.label.sum(), (case.name, count)


def test_tubes_cross_the_volume_and_the_thin_one_is_thin(datasets: dict[str, Dataset]) -> None:
    for structure, narrow, wide in (("tube", 5, 10), ("thin_tube", 2.5, 4.8)):
        for case in datasets[structure].cases:
            assert case.label.any(axis=(0, 1)).all()
            # Twice the distance to the border along the axis, half a voxel on either side.
            widths = 2 * ndimage.distance_transform_edt(case.label).max(axis=(0, 1)) - 1
            assert narrow - 1 <= np.median(widths) <= wide


def test_the_thin_tube_winds(datasets: dict[str, Dataset]) -> None:
    detours = []
    for case in datasets["thin_tube"].cases:
        middles = np.array([ndimage.center_of_mass(case.label[:, :, k]) for k in range(32)])
        smooth = ndimage.uniform_filter1d(middles, 3, axis=0)
        across = np.linalg.norm(np.diff(smooth, axis=0), axis=1)
        path = np.hypot(across, 1).sum()
        detours.append(path / np.hypot(np.linalg.norm(smooth[-1] - smooth[0]), 31))
    assert min(detours) > 1.03
    assert np.mean(detours) > 1.12


def test_the_kidney_has_a_hilum(datasets: dict[str, Dataset]) -> None:
    """Closing the kidney adds volume, and it does so on its medial side."""
    added, side = [], []
    for case in datasets["kidney"].cases:
        solid = np.pad(case.label, 8)
        ball = np.linalg.norm(np.indices((9, 9, 9)) - 4, axis=0) <= 4
        closed = ndimage.binary_closing(solid, ball) & (solid == 0)
        added.append(closed.sum() / solid.sum())
        if closed.any():
            gap = ndimage.center_of_mass(closed)[0] - ndimage.center_of_mass(solid)[0]
            side.append(gap)
    assert np.median(added) > 0.01
    assert np.median(side) > 3


@pytest.mark.parametrize("structure", PHANTOM_STRUCTURES)
def test_the_border_can_be_seen_and_intensity_alone_cannot_tell(
    datasets: dict[str, Dataset], structure: str
) -> None:
    ratios, darker = [], []
    for case in datasets[structure].cases:
        label = case.label.astype(bool)
        image = ndimage.gaussian_filter(case.image, 0.5)
        shell = ndimage.binary_dilation(label, iterations=2) & ~ndimage.binary_dilation(label)
        core = ndimage.binary_erosion(label)
        core = core if core.sum() > 20 else label
        # A voxel away from the structure it is darker, by 50 Hounsfield units and more.
        cut = (np.median(image[core]) + np.median(image[shell])) / 2
        assert np.median(image[core]) - np.median(image[shell]) > 0.15
        darker.append((image[shell] < cut).mean())
        # Elsewhere there are as many voxels in the structure's range of intensity.
        low, high = np.quantile(image[core], [0.05, 0.95])
        far = ~ndimage.binary_dilation(label, iterations=2)
        ratios.append(((image >= low) & (image <= high) & far).sum() / label.sum())
    assert np.mean(ratios) > 0.5
    assert min(darker) > 0.6
    assert np.mean(darker) > 0.8


@pytest.mark.parametrize("structure", PHANTOM_STRUCTURES)
def test_anatomy_varies(datasets: dict[str, Dataset], structure: str) -> None:
    labels = np.stack([case.label for case in datasets[structure].cases]).astype(bool)
    overlap = [
        2 * (a & b).sum() / (a.sum() + b.sum())
        for i, a in enumerate(labels)
        for b in labels[i + 1 :]
    ]
    # A mean shape that ignores the image must not solve the task.
    assert np.mean(overlap) < {"kidney": 0.85, "tube": 0.7, "thin_tube": 0.4}[structure]


def test_noise_is_correlated(datasets: dict[str, Dataset]) -> None:
    """A Gaussian filter of 0.6 voxels leaves neighbours correlated by exp(−1/(4 · 0.6²)) = 0.50."""
    near, far, spread = [], [], []
    for case in datasets["kidney"].cases:
        core = ndimage.binary_erosion(case.label, iterations=3)
        residual = np.where(core, case.image - case.image[core].mean(), np.nan)
        spread.append(np.nanstd(residual) * 350)  # Hounsfield units
        for lag, into in ((1, near), (4, far)):
            into.append(np.nanmean(residual[:, :, lag:] * residual[:, :, :-lag]))
            into[-1] /= np.nanvar(residual)
    assert 0.4 < np.mean(near) < 0.75
    assert np.mean(far) < 0.3
    assert 14 < np.mean(spread) < 24


def test_a_case_depends_on_seed_structure_and_number_alone(tmp_path: Path) -> None:
    def arrays(folder: str, **arguments: int) -> list[np.ndarray]:
        data = phantom("kidney", patch_shape=(16, 16, 16), cache_dir=tmp_path / folder, **arguments)
        return [case.image for case in data.cases]

    few, many = arrays("a", cases=2, seed=3), arrays("b", cases=4, seed=3)
    assert all(np.array_equal(x, y) for x, y in zip(few, many, strict=False))
    assert not np.array_equal(many[0], many[1])
    assert not np.array_equal(arrays("a", cases=1, seed=4)[0], few[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"structure": "spleen"},
            "structure: expected one of kidney, tube, thin_tube, got 'spleen'",
        ),
        ({"cases": 0}, "cases: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"patch_shape": (32,)}, "patch_shape: expected 2 or 3 positive integers, got (32,)"),
        (
            {"patch_shape": (32, 32, 4)},
            "patch_shape: expected at least 8 voxels along each axis, got (32, 32, 4)",
        ),
    ],
)
def test_wrong_arguments_are_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    arguments = {"structure": "tube", "cases": 1, "patch_shape": (8, 8, 8), **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        phantom(cache_dir=tmp_path, **arguments)  # type: ignore[arg-type]
