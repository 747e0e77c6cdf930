from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import marginseg
from command_line import refused, run
from volume_files import load, save


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
        jacobian = np.stack([np.stack(np.gradient(x)) for x in field], -1)
        jacobian = np.moveaxis(jacobian, 0, -2) + np.eye(3)
        folded = (np.linalg.det(jacobian) <= 0).mean()
        voxels = str(np.count_nonzero(noisy))
        assert rows[index].split() == [str(index + 1), "1", f"{dice:.4f}", voxels, f"{folded:.2%}"]
    names = [f"a label_noisy{index:03d}.nii.gz" for index in (1, 2, 3)]
    assert {path.name for path in folder.iterdir()} == {*names, "a label_noisy.json"}


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


def test_every_label_has_a_row_for_each_sample(labels: Path, tmp_path: Path) -> None:
    result = run("noise", labels, "--std", 0.05, "--samples", 2, "-o", tmp_path / "all")
    clean = load(labels)
    rows = [line.split() for line in result.stdout.splitlines()[1:-1]]
    assert [row[:2] for row in rows] == [["1", "3"], ["1", "300"], ["2", "3"], ["2", "300"]]
    for sample, value, dice, voxels, _ in rows:
        noisy = load(tmp_path / "all" / f"labels_noisy{int(sample):03d}.nii.gz") == int(value)
        before = clean == int(value)
        assert int(voxels) == noisy.sum()
        assert float(dice) == pytest.approx(
            2 * (noisy & before).sum() / (noisy.sum() + before.sum()), abs=6e-5
        )


def test_samples_of_one_call_stand_together_and_tell_how_they_were_drawn(
    label: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "drawn"
    options = ["--std", 2, "--units", "voxel", "--length-scale", 9, "--seed", 3]
    assert run("noise", label, *options, "--samples", 5, "-o", folder).exit_code == 0
    kept = folder / "another label_noisy001.nii.gz"
    kept.write_bytes(b"not ours")
    assert run("noise", label, "--std", 0.02, "--samples", 2, "-o", folder).exit_code == 0
    names = ["a label_noisy001.nii.gz", "a label_noisy002.nii.gz"]
    assert {p.name for p in folder.iterdir()} == {*names, "a label_noisy.json", kept.name}
    record = json.loads((folder / "a label_noisy.json").read_text())
    assert record["samples"] == names
    assert (record["std"], record["units"], record["seed"]) == (0.02, "extent", 0)
    assert record["length_scale"] == pytest.approx(0.15 * 2**0.5)
    header = nibabel.load(folder / names[1]).header
    said = header["descrip"].item().decode()
    assert said == "marginseg noise 2, std 0.02, b 0.212132 extent, seed 0"
    # A sample that no record knows is nobody's to remove.
    strange = folder / "a label_noisy009.nii.gz"
    strange.write_bytes(b"not ours")
    refused(run("noise", label, "--std", 0.02, "-o", folder), strange.name, "another call")
    assert strange.read_bytes() == b"not ours"
    assert json.loads((folder / "a label_noisy.json").read_text()) == record


def test_std_without_units_that_leaves_the_volume_is_a_slip(label: Path, tmp_path: Path) -> None:
    for command in ("noise", "marginals"):
        output = tmp_path / "out.nii.gz"
        refused(run(command, label, "--std", 2, "-o", output), "--std: 2 of the extent", "--units")
        said = run(command, label, "--std", 2, "--units", "extent", "-o", output)
        assert said.exit_code == 0, said.output
        assert run(command, label, "--std", 0.5, "-o", tmp_path / "n.nii").exit_code == 0


def test_a_warning_where_more_than_a_hundredth_folds(label: Path, tmp_path: Path) -> None:
    short = ["--length-scale", 2, "--units", "voxel"]
    for std, warned in ((2.0, True), (0.2, False)):
        result = run("noise", label, "--std", std, *short, "-o", tmp_path / str(std))
        assert result.exit_code == 0
        share = float(result.stdout.splitlines()[1].split()[-1].rstrip("%"))
        assert (share > 1) == warned
        assert ("fold over" in result.stderr) == warned
        assert result.stderr.count("\n") == warned


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int32, np.uint8])
def test_the_label_s_data_type_and_meaning_are_kept(dtype: type, tmp_path: Path) -> None:
    values = np.zeros((12, 12, 12), dtype)
    values[4:8, 3:9, 2:9] = 3
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_intent("label", name="organs")
    image.header["aux_file"] = b"colours.txt"
    image.header["descrip"] = b"drawn by hand"
    nibabel.save(image, tmp_path / "label.nii")
    path = tmp_path / "label.nii"
    result = run("noise", path, "--std", 0.05, "-o", tmp_path / "n")
    assert result.exit_code == 0, result.output
    noisy = nibabel.load(tmp_path / "n" / "label_noisy001.nii.gz")
    assert noisy.get_data_dtype() == dtype
    assert set(np.unique(noisy.dataobj)) == {0, 3}
    assert noisy.header.get_intent()[0] == "label"
    assert noisy.header["aux_file"].item() == b"colours.txt"
    # Probabilities are no labels any more.
    run("marginals", path, "--std", 0.05, "-o", tmp_path / "m.nii")
    header = nibabel.load(tmp_path / "m.nii").header
    assert header.get_intent() == ("none", (), "")
    assert header["aux_file"].item() == b""
    assert header["descrip"].item() == b"marginseg marginals, std 0.05 extent"


def test_the_name_that_was_asked_for_says_how_it_is_stored(label: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.txt"
    target.write_text("replaced")
    link = tmp_path / "m.nii.gz"
    link.symlink_to(target)
    assert run("marginals", label, "--std", 0.02, "-o", link).exit_code == 0
    assert link.is_symlink()
    assert target.read_bytes()[:2] == b"\x1f\x8b"
    assert load(link).shape == load(label).shape
