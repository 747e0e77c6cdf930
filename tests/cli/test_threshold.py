from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from command_line import refused, run
from volume_files import AFFINE, load, save, sorted_scan


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
    assert row[:4] == ["0", f"{best / 2:.4f}", f"{best:.4f}", str(mask.sum())]
    if len(shape) == 3:
        spacing = np.linalg.norm(AFFINE[:3, :3], axis=0)
        assert float(row[4]) == pytest.approx(mask.sum() * spacing.prod() / 1000, abs=1e-3)


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
    assert result.stdout.splitlines()[1].split()[1:3] == ["0.5000", f"{expected:.4f}"]


@pytest.mark.parametrize("beta", ["0.5", "2"])
def test_threshold_for_f_beta(tmp_path: Path, beta: str) -> None:
    m = np.random.default_rng(0).random((6, 7, 8)) ** 3
    source, target = save(tmp_path / "p.nii", m), tmp_path / "s.nii.gz"
    result = run("threshold", source, "-o", target, "--metric", "fbeta", "--beta", beta)
    assert result.exit_code == 0, result.output
    weight = float(beta) ** 2
    ordered = np.sort(m, axis=None)[::-1]
    scores = np.cumsum(ordered) / (weight * m.sum() + np.arange(1, m.size + 1))
    mask = m >= scores.max()
    assert_array_equal(load(target), mask)
    heading, row = result.stdout.splitlines()[:2]
    assert f"expected F{beta}" in heading
    best = (1 + weight) * scores.max()
    assert row.split()[:4] == ["0", f"{scores.max():.4f}", f"{best:.4f}", str(mask.sum())]
    assert f"metric fbeta, beta {beta}" in str(nibabel.load(target).header["descrip"])


def test_threshold_for_iou_is_that_for_dice(tmp_path: Path) -> None:
    m = np.random.default_rng(0).random((6, 7, 8)) ** 3
    source = save(tmp_path / "p.nii", m)
    result = run("threshold", source, "-o", tmp_path / "s.nii", "--metric", "iou")
    best, mask = sorted_scan(m)
    assert_array_equal(load(tmp_path / "s.nii"), mask)
    inside = m[mask.astype(bool)].sum()
    heading, row = result.stdout.splitlines()[:2]
    assert "expected IoU" in heading
    iou = inside / (mask.sum() + m.sum() - inside)
    assert row.split()[1:3] == [f"{best / 2:.4f}", f"{iou:.4f}"]


def test_threshold_does_anew_what_was_done_for_another_beta(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    for name in "ab":
        save(tmp_path / "maps" / f"{name}.nii", np.random.default_rng(0).random((6, 7, 8)))
    counts = []
    for beta in ("0.5", "3"):
        options = ("--metric", "fbeta", "--beta", beta)
        result = run("threshold", tmp_path / "maps", "-o", tmp_path / "out", *options)
        assert result.exit_code == 0, result.output
        counts.append(load(tmp_path / "out" / "a.nii").sum())
    assert counts[0] < counts[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beta", "2"), "--beta: expected None with metric dice, got 2.0"),
        (("--metric", "fbeta"), "--beta: expected a number with metric fbeta, got None"),
        (("--metric", "fbeta", "--beta", "0"), "--beta: expected 1e-09 to 1e+09, got 0"),
        (("--metric", "fbeta", "--beta", "nan"), "--beta: expected 1e-09 to 1e+09, got nan"),
    ],
)
def test_threshold_refuses_a_beta_without_its_metric(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    source, output = save(tmp_path / "p.nii", np.full((4, 4, 4), 0.5)), tmp_path / "s.nii"
    refused(run("threshold", source, "-o", output, *options), message, output=output)


def test_threshold_of_a_map_without_mass_is_empty(tmp_path: Path) -> None:
    source = save(tmp_path / "p.nii.gz", np.zeros((4, 4, 4), np.float32))
    result = run("threshold", source, "-o", tmp_path / "s.nii.gz")
    assert result.exit_code == 0, result.output
    assert not load(tmp_path / "s.nii.gz").any()
    assert result.stdout.splitlines()[1].split()[1:4] == ["0.5000", "1.0000", "0"]


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1])
def test_threshold_refuses_what_is_no_probability(tmp_path: Path, value: float) -> None:
    m = np.full((4, 4, 4), 0.5, np.float32)
    m[1, 2, 3] = value
    output = tmp_path / "s.nii.gz"
    refused(run("threshold", save(tmp_path / "p.nii", m), "-o", output), "[0, 1]", output=output)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1])
def test_nor_is_it_taken_among_zeros(tmp_path: Path, value: float, suffix: str) -> None:
    m = np.zeros((4, 4, 4), np.float32)
    m[1, 2, 3] = value
    output = tmp_path / "s.nii.gz"
    source = save(tmp_path / f"p{suffix}", m)
    refused(run("threshold", source, "-o", output), "[0, 1]", output=output)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rounding_beyond_is_cut_as_0_and_1(tmp_path: Path, dtype: type) -> None:
    m = (np.random.default_rng(0).random((6, 7, 8)) ** 3).astype(dtype)
    m[:2, 0, 0] = 1.0, 0.0
    beyond = m.copy()
    beyond[:2, 0, 0] += 2.0**-22, -(2.0**-21)
    tables = []
    for name, values in (("a.nii", m), ("b.nii", beyond)):
        result = run("threshold", save(tmp_path / name, values), "-o", tmp_path / f"of_{name}")
        assert result.exit_code == 0, result.output
        tables.append(result.stdout.splitlines()[:2])
    assert tables[0] == tables[1]
    assert_array_equal(load(tmp_path / "of_a.nii"), load(tmp_path / "of_b.nii"))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_map_without_room_in_memory_is_cut_the_same(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = (np.random.default_rng(0).random((12, 11, 10, 3)) ** 3).astype(np.float32)
    source = save(tmp_path / f"p{suffix}", m)
    roomy = run("threshold", source, "-o", tmp_path / "a.nii")
    # The module has the name of the command, which hides it.
    module = sys.modules["marginseg.cli.threshold"]
    monkeypatch.setattr(module, "available_memory", lambda: 0)
    for room in ("voxels", "probabilities"):
        monkeypatch.setattr(f"marginseg.files.{room}.PIECE", 1000)
    tight = run("threshold", source, "-o", tmp_path / "b.nii")
    assert tight.exit_code == 0, tight.output
    assert roomy.stdout.splitlines()[:4] == tight.stdout.splitlines()[:4]
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()


@pytest.mark.parametrize("scale", [(0.5, 0.25), (1 / 255, 0.0)])
def test_scaled_and_big_endian_maps(tmp_path: Path, scale: tuple[float, float]) -> None:
    stored = np.random.default_rng(0).integers(0, 2 if scale[1] else 256, (6, 7, 8)).astype(">i2")
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    header.set_slope_inter(*scale)
    image = nibabel.Nifti1Image(stored, AFFINE, header)
    image.header.set_slope_inter(*scale)
    nibabel.save(image, tmp_path / "p.nii.gz")
    m = nibabel.load(tmp_path / "p.nii.gz").get_fdata().astype(np.float32)
    result = run("threshold", tmp_path / "p.nii.gz", "-o", tmp_path / "s.nii.gz")
    assert result.exit_code == 0, result.output
    _, mask = sorted_scan(m)
    assert_array_equal(load(tmp_path / "s.nii.gz"), mask)
