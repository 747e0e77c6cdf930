from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import scipy.ndimage
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr

from command_line import run
from marginseg import GaussianFieldNoise
from volume_files import load, sorted_scan


def integrated_kernel_marginals(mask: np.ndarray, stds: list[float]) -> np.ndarray:
    """P(voxel of ω + X) by dense matrices of normal probabilities, axis by axis."""
    m = mask.astype(np.float64)
    for axis, std in enumerate(stds):
        offset = np.subtract.outer(np.arange(m.shape[axis]), np.arange(m.shape[axis]))
        weights = ndtr((offset + 0.5) / std) - ndtr((offset - 0.5) / std)
        m = np.moveaxis(np.tensordot(weights, m, (1, axis)), 0, axis)
    return m


def test_marginals_are_theorem_1(label: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.nii.gz"
    result = run("marginals", label, "--std", 0.04, "-o", output)
    assert result.exit_code == 0, result.output
    clean = load(label)
    expected = integrated_kernel_marginals(clean, [0.04 * size for size in clean.shape])
    assert_allclose(load(output), expected, atol=1e-6)
    assert nibabel.load(output).get_data_dtype() == np.float32
    assert_allclose(nibabel.load(output).affine, nibabel.load(label).affine)
    best, _ = sorted_scan(expected)
    row = result.stdout.splitlines()[1].split()
    assert row[:2] == ["1", str(clean.sum())]
    assert float(row[2]) == pytest.approx(expected.sum(), abs=0.06)
    assert float(row[3]) == pytest.approx(best, abs=1e-4)
    # Smooth labels: close to what SciPy's sampled kernel gives.
    sampled = scipy.ndimage.gaussian_filter(
        clean.astype(float), [0.04 * size for size in clean.shape], mode="constant"
    )
    assert np.abs(load(output) - sampled).max() < 0.1


def test_marginals_of_several_labels_are_channels(labels: Path, tmp_path: Path) -> None:
    run("marginals", labels, "--std", 2, "--units", "mm", "-o", tmp_path / "m.nii.gz")
    channels = load(tmp_path / "m.nii.gz")
    clean = load(labels)
    spacing = np.linalg.norm(nibabel.load(labels).affine[:3, :3], axis=0)
    assert channels.shape == (*clean.shape, 2)
    for channel, value in enumerate((3, 300)):
        expected = integrated_kernel_marginals(clean == value, list(2 / spacing))
        assert_allclose(channels[..., channel], expected, atol=1e-6)
    arguments = ["--std", 2, "--units", "mm", "--label", 300]
    run("marginals", labels, *arguments, "-o", tmp_path / "one.nii.gz")
    assert_array_equal(load(tmp_path / "one.nii.gz"), channels[..., 1])
    result = run("threshold", tmp_path / "m.nii.gz", "-o", tmp_path / "s.nii.gz")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("shape", [(50,), (40, 30), (17, 23, 31), (20, 1, 12)])
@pytest.mark.parametrize("std", [0.0, 0.7, 6.0])
def test_only_where_it_is_not_0_is_it_computed(
    tmp_path: Path, shape: tuple[int, ...], std: float
) -> None:
    """The same bits as of the whole label, at the border of the volume too."""
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(0, max(1, size // 5)) for size in shape)] = 1
    label[tuple(slice(size // 2, size // 2 + 2) for size in shape)] = 4
    path = tmp_path / "label.nii"
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), path)
    for value in (1, 4):
        output = tmp_path / f"{value}.nii"
        arguments = ["--std", std, "--units", "voxel", "--label", value, "-o", output]
        result = run("marginals", path, *arguments)
        assert result.exit_code == 0, result.output
        model = GaussianFieldNoise(std, units="voxel")
        # Axes are filtered in the order in which they lie in memory.
        mask = torch.from_numpy(np.asfortranarray(label == value)).squeeze()
        assert_array_equal(load(output).squeeze(), model.marginals(mask).numpy())
        expected = float(model.expected_volume(mask)) * mask.numel()
        assert float(result.stdout.splitlines()[1].split()[2]) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("std", [3e4, 1e9])
def test_a_std_beyond_the_volume_leaves_next_to_nothing(
    label: Path, tmp_path: Path, std: float
) -> None:
    result = run("marginals", label, "--std", std, "--units", "voxel", "-o", tmp_path / "m.nii")
    assert result.exit_code == 0, result.output
    values = load(tmp_path / "m.nii")
    assert 0 <= values.min() <= values.max() < 1e-9
    assert float(result.stdout.splitlines()[1].split()[2]) == 0.0
