from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import scipy.ndimage
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr

import marginseg
from command_line import refused, run, shell

AFFINE = np.array([[-1.5, 0.1, 0, 5], [0.1, 1.5, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def load(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


@pytest.fixture
def label(tmp_path: Path) -> Path:
    data = np.zeros((20, 24, 16), np.uint8)
    data[5:15, 6:18, 4:12] = 1
    return save(tmp_path / "a label.nii.gz", data)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    data = np.zeros((20, 24, 16), np.int16)
    data[5:15, 6:18, 4:12] = 3
    data[2:8, 2:8, 2:8] = 300
    return save(tmp_path / "labels.nii.gz", data)


def sorted_scan(m: np.ndarray) -> tuple[float, np.ndarray]:
    """The maximum of 2 sum_{m >= t} m / (sum m + #) over every cut t, by sorting."""
    values = np.sort(m.ravel().astype(np.float64))[::-1]
    scores = 2 * np.cumsum(values) / (values.sum() + np.arange(1, values.size + 1))
    return scores.max(), m >= scores.max() / 2


# threshold


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 8), (12, 10, 1)])
def test_threshold_is_the_sorted_scan(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    m = (np.random.default_rng(0).random(shape) ** 4).astype(dtype)
    result = run("threshold", save(tmp_path / "p.nii.gz", m), "-o", tmp_path / "s.nii")
    assert result.exit_code == 0, result.output
    best, mask = sorted_scan(m)
    assert_array_equal(load(tmp_path / "s.nii"), mask)
    image = nibabel.load(tmp_path / "s.nii")
    assert image.get_data_dtype() == np.uint8
    assert_allclose(image.affine, nibabel.load(tmp_path / "p.nii.gz").affine)
    row = result.stdout.splitlines()[1].split()
    assert row[:3] == [f"{best / 2:.4f}", f"{best:.4f}", str(mask.sum())]
    if len(shape) == 3:
        spacing = np.linalg.norm(AFFINE[:3, :3], axis=0)
        assert float(row[3]) == pytest.approx(mask.sum() * spacing.prod() / 1000, abs=1e-3)


@pytest.mark.parametrize("shape", [(8, 9, 7, 3), (8, 9, 7, 1, 3)])
def test_threshold_cuts_every_class_by_itself(tmp_path: Path, shape: tuple[int, ...]) -> None:
    powers = np.array([1.0, 3.0, 8.0])
    m = (np.random.default_rng(0).random(shape) ** powers).astype(np.float32)
    result = run("threshold", save(tmp_path / "p.nii.gz", m), "-o", tmp_path / "s.nii.gz")
    assert result.exit_code == 0, result.output
    masks = load(tmp_path / "s.nii.gz")
    assert masks.shape == shape
    for channel in range(3):
        best, mask = sorted_scan(m[..., channel])
        assert_array_equal(masks[..., channel], mask)
        row = result.stdout.splitlines()[1 + channel].split()
        assert row[:3] == [str(channel), f"{best / 2:.4f}", f"{best:.4f}"]


def test_threshold_for_accuracy(tmp_path: Path) -> None:
    m = np.random.default_rng(0).random((6, 7, 8)).astype(np.float32)
    source = save(tmp_path / "p.nii.gz", m)
    result = run("threshold", source, "-o", tmp_path / "s.nii.gz", "--metric", "accuracy")
    mask = m >= 0.5
    assert_array_equal(load(tmp_path / "s.nii.gz"), mask)
    expected = 2 * m[mask].sum(dtype=float) / (mask.sum() + m.sum(dtype=float))
    assert result.stdout.splitlines()[1].split()[:2] == ["0.5000", f"{expected:.4f}"]


def test_threshold_of_a_map_without_mass_is_empty(tmp_path: Path) -> None:
    source = save(tmp_path / "p.nii.gz", np.zeros((4, 4, 4), np.float32))
    result = run("threshold", source, "-o", tmp_path / "s.nii.gz")
    assert result.exit_code == 0, result.output
    assert not load(tmp_path / "s.nii.gz").any()
    assert result.stdout.splitlines()[1].split()[:3] == ["0.5000", "1.0000", "0"]


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1])
def test_threshold_refuses_what_is_no_probability(tmp_path: Path, value: float) -> None:
    m = np.full((4, 4, 4), 0.5, np.float32)
    m[1, 2, 3] = value
    output = tmp_path / "s.nii.gz"
    refused(run("threshold", save(tmp_path / "p.nii", m), "-o", output), "[0, 1]", output=output)


# noise


def test_noise_is_the_library_s(label: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    result = run("noise", label, "--std", 0.03, "--samples", 3, "-o", folder, "--seed", 7)
    assert result.exit_code == 0, result.output
    clean = load(label)
    generator = torch.Generator().manual_seed(7)
    model = marginseg.GaussianFieldNoise(0.03)
    rows = result.stdout.splitlines()[1:4]
    for index in range(3):
        path = folder / f"a label_noisy{index + 1:03d}.nii.gz"
        noisy = load(path)
        field = model.displacement(clean.shape, generator=generator).double().numpy()
        where = np.rint(np.indices(clean.shape) + field).astype(int)
        padded = np.pad(clean, 40)
        assert_array_equal(noisy, padded[tuple(where + 40)])
        assert nibabel.load(path).get_data_dtype() == np.uint8
        assert_allclose(nibabel.load(path).affine, nibabel.load(label).affine)
        dice = 2 * (noisy & clean).sum() / (noisy.sum() + clean.sum())
        assert f" {dice:.4f} " in rows[index]
        jacobian = np.stack([np.stack(np.gradient(x)) for x in field], -1)
        jacobian = np.moveaxis(jacobian, 0, -2) + np.eye(3)
        assert rows[index].endswith(f"{(np.linalg.det(jacobian) <= 0).mean():.2%}")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"a label_noisy{index:03d}.nii.gz" for index in (1, 2, 3)
    ]


def test_noise_in_millimetres_takes_the_file_s_spacing(label: Path, tmp_path: Path) -> None:
    run("noise", label, "--std", 2, "--length-scale", 20, "--units", "mm", "-o", tmp_path / "a")
    spacing = np.linalg.norm(nibabel.load(label).affine[:3, :3], axis=0)
    lengths = [2 / spacing, 20 / spacing]
    arguments = ["--std", *lengths[0], "--length-scale", *lengths[1], "--units", "voxel"]
    run("noise", label, *arguments, "-o", tmp_path / "b")
    name = "a label_noisy001.nii.gz"
    assert_array_equal(load(tmp_path / "a" / name), load(tmp_path / "b" / name))
    assert (load(tmp_path / "a" / name) != load(label)).any()


def test_a_sample_does_not_depend_on_how_many_are_drawn(label: Path, tmp_path: Path) -> None:
    run("noise", label, "--std", 0.03, "--samples", 3, "-o", tmp_path / "three")
    run("noise", label, "--std", 0.03, "-o", tmp_path / "one")
    name = "a label_noisy001.nii.gz"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


def test_labels_are_deformed_together(labels: Path, tmp_path: Path) -> None:
    result = run("noise", labels, "--std", 0.05, "-o", tmp_path / "all")
    assert result.exit_code == 0, result.output
    together = load(tmp_path / "all" / "labels_noisy001.nii.gz")
    assert together.dtype == np.int16
    assert set(np.unique(together)) == {0, 3, 300}
    run("noise", labels, "--std", 0.05, "--label", 300, "-o", tmp_path / "one")
    alone = load(tmp_path / "one" / "labels_noisy001.nii.gz")
    assert_array_equal(alone == 300, together == 300)


def test_a_slice_is_deformed_in_its_plane(tmp_path: Path) -> None:
    data = np.zeros((24, 20, 1), np.uint8)
    data[6:18, 5:15] = 1
    save(tmp_path / "flat.nii.gz", data)
    save(tmp_path / "slice.nii.gz", data[..., 0])
    for name in ("flat", "slice"):
        arguments = ["--std", 6, "--length-scale", 20, "--units", "mm"]
        result = run("noise", tmp_path / f"{name}.nii.gz", *arguments, "-o", tmp_path)
        assert result.exit_code == 0, result.output
    flat, plane = (load(tmp_path / f"{name}_noisy001.nii.gz") for name in ("flat", "slice"))
    assert flat.shape == (24, 20, 1)
    assert_array_equal(flat[..., 0], plane)
    assert plane.any()


def test_linear_interpolation_of_one_structure(labels: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["noise", labels, "--std", 0.05, "--interpolation", "linear", "-o", output]
    refused(run(*arguments), "--label", output=output)
    assert run(*arguments, "--label", 3).exit_code == 0
    assert set(np.unique(load(output / "labels_noisy001.nii.gz"))) == {0, 3}


# marginals


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


# what bad input gets


@pytest.mark.parametrize("command", ["noise", "marginals"])
def test_bad_labels(command: str, label: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.nii.gz"
    options = ["--std", 0.02, "-o", output]
    empty = save(tmp_path / "empty.nii", np.zeros((4, 4, 4), np.uint8))
    soft = save(tmp_path / "soft.nii", np.full((4, 4, 4), 0.5, np.float32))
    series = save(tmp_path / "series.nii", np.ones((4, 4, 4, 4), np.uint8))
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(label.read_bytes()[:-20])
    refused(run(command, tmp_path / "none.nii", *options), "none.nii", output=output)
    refused(run(command, tmp_path, *options), str(tmp_path), output=output)
    refused(run(command, empty, *options), "empty.nii", "empty", output=output)
    refused(run(command, soft, *options), "integer labels", output=output)
    refused(run(command, series, *options), "(4, 4, 4, 4)", output=output)
    refused(run(command, broken, *options), "broken.nii.gz", output=output)
    refused(run(command, label, "--std", -0.02, "-o", output), "std", "-0.02", output=output)
    refused(run(command, label, "--std", "nan", "-o", output), "std", output=output)
    refused(run(command, label, "--std", 1, 2, "-o", output), "std", output=output)
    refused(run(command, label, *options, "--label", 9), "no voxel has label 9", output=output)
    refused(run(command, label, *options, "--units", "inch"), "--units", output=output)
    refused(run(command, label, "-o", output), "--std", output=output)


def test_bad_noise(label: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ["--std", 2, "-o", output]
    refused(run("noise", label, *options, "--units", "mm"), "--length-scale", output=output)
    refused(run("noise", label, *options, "--length-scale", 0), "length_scale", output=output)
    refused(run("noise", label, *options, "--samples", 0), "--samples", output=output)
    refused(run("noise", label, *options, "--seed", 2**64), "--seed", output=output)
    refused(run("noise", label, "--std", 2, "-o", label), "a label.nii.gz")


@pytest.mark.parametrize(("name", "word"), [("out.txt", "out.txt"), ("none/out.nii", "none")])
def test_bad_outputs(name: str, word: str, label: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    refused(run("marginals", label, "--std", 0.02, "-o", tmp_path / name), word)
    refused(run("threshold", label, "-o", tmp_path / name), word)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk(label: Path, tmp_path: Path) -> None:
    # Files of more than 100 bytes cannot be written.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    code = f"{limit}{ignore} from marginseg.cli import main; main()"
    arguments = ["marginals", label, "--std", "0.02", "-o", tmp_path / "m.nii.gz"]
    result = subprocess.run(
        [sys.executable, "-B", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == "marginseg: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == [label.name]


# study


# figure1, info, help


def test_in_a_real_process(label: Path, tmp_path: Path) -> None:
    result = shell("noise", label, "--std", 0.02, "-o", tmp_path / "with spaces")
    assert (result.returncode, result.stderr) == (0, "")
    result = shell("threshold", tmp_path / "none.nii", "-o", tmp_path / "s.nii")
    assert result.returncode == 2
    assert result.stderr == f"marginseg: {tmp_path / 'none.nii'}: No such file or directory\n"
    assert result.stdout == ""
