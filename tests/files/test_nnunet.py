"""nnU-Net's folders: their maps, classes and grids are those that nnU-Net itself means."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tests.volume_files import AFFINE, save

from marginseg.classes import Classes
from marginseg.files.label_names import read_label_names
from marginseg.files.nifti import open_volume, write
from marginseg.files.nnunet import at_half
from marginseg.files.predictions import open_labels, open_predictions, open_predictions_of

MODEL = "nnUNetTrainerTiny__nnUNetPlans__3d_fullres"

SOFTMAX = {"labels": {"background": 0, "core": 2, "organ": 1}, "file_ending": ".nii.gz"}
REGIONS = {
    "labels": {"background": 0, "whole": [1, 2], "core": 2},
    "regions_class_order": [1, 2],
    "file_ending": ".nii.gz",
}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def softmax(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    logits = np.exp(np.random.default_rng(seed).normal(0, 2, shape))
    return (logits / logits.sum(0)).astype(np.float32)


def write_case(
    folder: Path, name: str, stored: np.ndarray, label: np.ndarray, affine: np.ndarray = AFFINE
) -> None:
    """Write a map as it is stored, and the label map of its grid; the pickle must not be read."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", probabilities=stored)
    (folder / f"{name}.pkl").write_bytes(b"cos\nabort\n(tR.")
    save(folder / f"{name}.nii.gz", label.astype(np.uint8), affine)


# The sample that nnU-Net 2.8.1 wrote


@pytest.mark.parametrize(
    ("folder", "count", "layout"),
    [
        (
            f"results/Dataset901_TinyClasses/{MODEL}",
            5,
            "nnU-Net v2, 5 folds of cross-validation, softmax",
        ),
        (
            "results/Dataset901_TinyClasses",
            5,
            "nnU-Net v2, 5 folds of cross-validation, softmax",
        ),
        (
            f"results/Dataset902_TinyRegions/{MODEL}/fold_0",
            1,
            "nnU-Net v2, validation of fold_0, sigmoid of regions",
        ),
        (
            f"results/Dataset902_TinyRegions/{MODEL}/fold_0/validation",
            1,
            "nnU-Net v2, validation of fold_0, sigmoid of regions",
        ),
        ("predicted_regions", 2, "nnU-Net v2, predictions, sigmoid of regions"),
    ],
)
def test_at_half_the_maps_are_nnunets_own_segmentations(
    nnunet_dir: Path, folder: str, count: int, layout: str
) -> None:
    found = open_predictions(nnunet_dir / folder)
    assert (len(found.cases), found.layout) == (count, layout)
    for case in found.cases:
        own = case.segmentation()
        assert own is not None
        assert own.any()
        probabilities = case.probabilities()
        assert probabilities.dtype == np.float32
        assert_array_equal(at_half(found.classes, probabilities), own)
        assert case.spacing == pytest.approx((1.0, 1.0, 2.5))


def test_the_samples_folds_and_labels_are_found(nnunet_dir: Path) -> None:
    found = open_predictions(nnunet_dir / f"results/Dataset901_TinyClasses/{MODEL}")
    splits = json.loads(
        (nnunet_dir / "preprocessed/Dataset901_TinyClasses/splits_final.json").read_text()
    )
    assert {case.name: case.fold for case in found.cases} == {
        name: f"fold_{number}" for number, fold in enumerate(splits) for name in fold["val"]
    }
    labels = open_labels(nnunet_dir / "preprocessed/Dataset901_TinyClasses/gt_segmentations", found)
    for case in found.cases:
        # nnU-Net counted the voxels of each label itself.
        told = json.loads((case.source.parent / "summary.json").read_text())
        metrics = told["metric_per_case"][0]["metrics"]
        own, targets = case.segmentation(), labels[case.name].targets()
        for number, target in enumerate(targets, 1):
            assert target.sum() == metrics[str(number)]["n_ref"]
            assert (target & (own == number)).sum() == metrics[str(number)]["TP"]


def test_copied_segmentations_without_maps_are_told_apart(nnunet_dir: Path) -> None:
    folder = nnunet_dir / f"results/Dataset901_TinyClasses/{MODEL}/crossval_results_folds_0_1_2_3_4"
    with pytest.raises(ValueError, match="copies no maps: give the folder above it") as caught:
        open_predictions(folder)
    assert str(caught.value).startswith(f"{folder}: expected CASE.npz")


# nnU-Net's own code


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ({"background": 0, "organ": 1}, None),
        ({"background": 0, "c": 3, "a": 1, "b": 2}, None),
        ({"background": 0, "a": [1], "b": [2]}, None),
        ({"background": 0, "a": 1, "b": 2, "ignore": 3}, None),
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}, (1, 2, 3)),
        ({"background": 0, "enhancing": [3], "whole": [1, 2, 3], "core": [2, 3]}, (3, 1, 2)),
        ({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, (1, 2)),
        ({"background": 0, "outside": [0, 1], "nothing": [0, 0], "core": 2}, (1, 2)),
    ],
)
def test_channels_and_segmentations_are_those_of_nnunets_label_manager(
    tmp_path: Path, labels: dict[str, Any], order: tuple[int, ...] | None
) -> None:
    handling = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling")
    theirs = handling.LabelManager(labels, order)
    content: dict[str, Any] = {"labels": labels}
    if order is not None:
        content["regions_class_order"] = list(order)
    write_json(tmp_path / "dataset.json", content)
    classes = read_label_names(tmp_path / "dataset.json").nnunet_classes()

    assert classes.channel_count == theirs.num_segmentation_heads
    assert classes.exclusive == (not theirs.has_regions)
    assert classes.ignored == theirs.ignore_label
    if theirs.has_regions:
        wanted = [r if isinstance(r, tuple) else (r,) for r in theirs.foreground_regions]
        assert list(classes.values) == wanted
    else:
        assert [value for (value,) in classes.values] == theirs.foreground_labels
    # Eighths, so that there are ties, and values of exactly 1/2.
    maps = np.random.default_rng(1).integers(0, 9, (classes.channel_count, 8, 9, 10)) / 8
    own = theirs.convert_probabilities_to_segmentation(maps.astype(np.float32))
    assert_array_equal(at_half(classes, maps.astype(np.float32)), own)


AFFINES = {
    "RAS": np.diag([1, 2, 3, 1]),
    "LPS": np.array([[-1, 0, 0, 9], [0, -2, 0, 9], [0, 0, 3, 0], [0, 0, 0, 1]]),
    "PIR": np.array([[0, 0, 3, 1], [-1, 0, 0, 9], [0, -2, 0, 9], [0, 0, 0, 1]]),
    "SAL, oblique": np.array([[0, -0.6, -2.4, 1], [0, 1.6, -0.9, 9], [1, 0, 0, 9], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("shape", [(6, 7, 8), (6, 6, 6)])
@pytest.mark.parametrize("plans", [True, False])
@pytest.mark.parametrize(
    "reader", ["NibabelIO", "NibabelIOWithReorient", "SimpleITKIO", "SimpleITKIOWithReorient"]
)
def test_maps_have_the_orientation_of_what_nnunets_writers_write(
    tmp_path: Path, reader: str, plans: bool, shape: tuple[int, ...], affine: np.ndarray
) -> None:
    module = "nibabel" if reader.startswith("Nibabel") else "simpleitk"
    readers = pytest.importorskip(f"nnunetv2.imageio.{module}_reader_writer")
    io = getattr(readers, reader)()
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    save(tmp_path / "image.nii.gz", image, affine)
    images, properties = io.read_images([str(tmp_path / "image.nii.gz")])
    stored = softmax((3, *images.shape[1:]))

    folder = tmp_path / "predicted"
    folder.mkdir()
    np.savez_compressed(folder / "case.npz", probabilities=stored)
    io.write_seg(stored.argmax(0), str(folder / "case.nii.gz"), properties)
    write_json(folder / "dataset.json", SOFTMAX)
    if plans:
        write_json(folder / "plans.json", {"image_reader_writer": reader})
    found = open_predictions(folder)
    (case,) = found.cases
    own = case.segmentation()
    assert own is not None
    assert_array_equal(own.shape, shape)
    assert_array_equal(at_half(found.classes, case.probabilities()), own)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_empty_segmentations_do_not_tell_whether_the_maps_were_turned(
    tmp_path: Path, affine: np.ndarray
) -> None:
    maps = np.full((3, 6, 6, 6), 0.1, np.float32)
    maps[0] = np.random.default_rng(0).uniform(0.7, 0.9, (6, 6, 6))
    write_case(tmp_path, "a", maps, np.zeros((6, 6, 6)), affine)
    write_json(tmp_path / "dataset.json", SOFTMAX)
    if affine is AFFINES["RAS"]:
        assert len(open_predictions(tmp_path).cases) == 1
    else:
        _refused(tmp_path, tmp_path / "plans.json", "whether maps were turned, .* of a does not")
    # A case that tells it tells it of all.
    maps = softmax((3, 6, 7, 8))
    label = maps.argmax(0).transpose(2, 1, 0)[::-1, ::-1]
    write_case(tmp_path, "c", maps, label, AFFINES["LPS"])
    for case in open_predictions(tmp_path).cases:
        own = case.segmentation()
        assert own is not None
        assert_array_equal(case.probabilities().argmax(0), own)
    (tmp_path / "c.npz").unlink()
    (tmp_path / "c.nii.gz").unlink()
    for reader in ("SimpleITKIO", "SimpleITKIOWithReorient"):
        write_json(tmp_path / "plans.json", {"image_reader_writer": reader})
        assert len(open_predictions(tmp_path).cases) == 1
    # Of a map that is the same when it is turned nobody needs to know.
    (tmp_path / "plans.json").unlink()
    write_case(tmp_path, "a", np.full((3, 6, 6, 6), 1 / 3), np.zeros((6, 6, 6)), affine)
    assert len(open_predictions(tmp_path).cases) == 1


# Made-up folders


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_map_is_a_view_in_the_order_of_the_nifti_file(tmp_path: Path, dtype: Any) -> None:
    maps = softmax((3, 5, 4, 6)).astype(dtype)  # channels, x, y, z
    write_case(tmp_path, "a", maps.transpose(0, 3, 2, 1), maps.argmax(0))
    write_json(tmp_path / "dataset.json", SOFTMAX)
    found = open_predictions(tmp_path)
    (case,) = found.cases
    read = case.probabilities()
    assert read.dtype == dtype
    assert_array_equal(read, maps)
    assert read.T.transpose(2, 1, 0, 3).base is not None
    assert read.strides[0] == max(read.strides)
    assert (case.name, case.fold, case.channels, case.shape) == ("a", None, 3, (5, 4, 6))
    assert found.classes.names == ("organ", "core")
    assert_array_equal(case.segmentation(), maps.argmax(0))


def test_a_mask_can_be_written_on_the_grid(tmp_path: Path) -> None:
    maps = softmax((3, 5, 4, 6))
    write_case(tmp_path, "a", maps.transpose(0, 3, 2, 1), maps.argmax(0))
    write_json(tmp_path / "dataset.json", SOFTMAX)
    (case,) = open_predictions(tmp_path).cases
    write(tmp_path / "mask.nii.gz", case.probabilities()[1] > 0.5, case.geometry)
    image = nibabel.load(tmp_path / "mask.nii.gz")
    assert_array_equal(image.affine, open_volume(tmp_path / "a.nii.gz").affine)
    assert_array_equal(np.asarray(image.dataobj), maps[1] > 0.5)


@pytest.mark.parametrize("flat", [(5, 4), (5, 4, 1)])
def test_slices_have_an_axis_of_one_voxel_in_the_archive(
    tmp_path: Path, flat: tuple[int, ...]
) -> None:
    maps = softmax((3, 5, 4))
    write_case(tmp_path, "a", maps.transpose(0, 2, 1)[:, None], maps.argmax(0).reshape(flat))
    write_json(tmp_path / "dataset.json", SOFTMAX)
    (case,) = open_predictions(tmp_path).cases
    assert case.shape == flat
    assert_array_equal(case.probabilities(), maps.reshape(3, *flat))
    assert len(case.spacing) == len(flat)
    own = case.segmentation()
    assert own is not None
    assert own.shape == flat


def test_a_model_is_read_with_its_folds_and_says_which_have_no_maps(tmp_path: Path) -> None:
    maps = softmax((3, 5, 4, 6))
    model = tmp_path / "Dataset001_X" / MODEL
    for fold, name in ((0, "case_10"), (1, "case_9"), (10, "case_8")):
        folder = model / f"fold_{fold}" / "validation"
        write_case(folder, name, maps.transpose(0, 3, 2, 1), maps.argmax(0))
    (model / "fold_2" / "validation").mkdir(parents=True)
    write_json(model / "dataset.json", SOFTMAX)
    found = open_predictions(model)
    assert found.layout == "nnU-Net v2, 3 folds of cross-validation, without fold_2, softmax"
    assert {case.name: case.fold for case in found.cases} == {
        "case_10": "fold_0",
        "case_8": "fold_10",
        "case_9": "fold_1",
    }
    # The folders above it have one model alone; of several, one has to be named.
    assert len(open_predictions(tmp_path).cases) == 3
    (model.parent / "A__B__2d" / "fold_0").mkdir(parents=True)
    with pytest.raises(ValueError, match="expected the folder of one model, got A__B__2d, nnUNet"):
        open_predictions(model.parent)


def test_segmentations_without_maps_are_told(tmp_path: Path) -> None:
    maps = softmax((3, 5, 4, 6))
    for name in ("a", "b", "c"):
        write_case(tmp_path, name, maps.transpose(0, 3, 2, 1), maps.argmax(0))
    write_json(tmp_path / "dataset.json", SOFTMAX)
    assert open_predictions(tmp_path).layout == "nnU-Net v2, predictions, softmax"
    for count, name in enumerate(("a", "c"), 1):
        (tmp_path / f"{name}.npz").unlink()
        found = open_predictions(tmp_path)
        assert len(found.cases) == 3 - count
        said = "1 segmentation" if count == 1 else "2 segmentations"
        assert found.layout == f"nnU-Net v2, predictions, softmax, {said} without a map left out"


@pytest.mark.parametrize(
    ("here", "given", "layout", "folds"),
    [
        ("model", ".", "2 folds of cross-validation, without fold_all", ["fold_0", "fold_1"]),
        ("model/fold_1", "..", "2 folds of cross-validation", ["fold_0", "fold_1"]),
        ("model/fold_1", ".", "validation of fold_1", ["fold_1"]),
        ("model/fold_1", "validation", "validation of fold_1", ["fold_1"]),
        ("model/fold_1/validation", "..", "validation of fold_1", ["fold_1"]),
        ("model/fold_1/validation", ".", "validation of fold_1", ["fold_1"]),
        ("model/fold_all/validation", ".", "fold_all, whose network was trained", ["fold_all"]),
        ("elsewhere", ".", "validation of fold_3", ["fold_3"]),
        (".", "elsewhere/fold_3", "validation of fold_3", ["fold_3"]),
    ],
)
def test_folders_are_what_they_are_wherever_one_stands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: str,
    given: str,
    layout: str,
    folds: list[str],
) -> None:
    maps = softmax((3, 5, 4, 6))
    for fold in ("0", "1", "all"):
        folder = tmp_path / "model" / f"fold_{fold}" / "validation"
        write_case(folder, f"case_{fold}", maps.transpose(0, 3, 2, 1), maps.argmax(0))
    write_json(tmp_path / "model" / "dataset.json", SOFTMAX)
    # A model whose folds are elsewhere.
    write_json(tmp_path / "elsewhere" / "dataset.json", SOFTMAX)
    (tmp_path / "elsewhere" / "fold_3").symlink_to(tmp_path / "model" / "fold_1")
    monkeypatch.chdir(tmp_path / here)
    found = open_predictions(Path(given))
    assert f"nnU-Net v2, {layout}" in found.layout
    assert [case.fold for case in found.cases] == folds
    opened = open_predictions_of([Path(given)], found.classes)
    assert [case.fold for case in opened] == folds


def test_a_rule_knows_the_classes_that_no_file_names(tmp_path: Path) -> None:
    maps = softmax((3, 5, 4, 6))
    write_case(tmp_path, "a", maps.transpose(0, 3, 2, 1), maps.argmax(0))
    _refused(tmp_path, tmp_path / "dataset.json", "put it there, or give evaluate its --dataset")
    known = Classes.softmax(["organ", "core"])
    (case,) = open_predictions_of([tmp_path], known)
    assert_array_equal(case.probabilities(), maps)
    with pytest.raises(ValueError, match=r"a.npz: expected 2 channels, for organ, got 3$"):
        open_predictions_of([tmp_path], Classes.softmax(["organ"]))
    # A file that is there still has its say.
    write_json(tmp_path / "dataset.json", SOFTMAX)
    assert len(open_predictions_of([tmp_path], known)) == 1
    with pytest.raises(ValueError, match="expected maps of core, organ .*got organ, core"):
        open_predictions_of([tmp_path], Classes.softmax(["core", "organ"]))


def test_what_was_trained_on_all_cases_is_left_out_or_told(tmp_path: Path) -> None:
    maps = softmax((3, 5, 4, 6))
    for fold in ("all", "0"):
        folder = tmp_path / f"fold_{fold}" / "validation"
        write_case(folder, "a", maps.transpose(0, 3, 2, 1), maps.argmax(0))
        write_json(tmp_path / "dataset.json", SOFTMAX)
        found = open_predictions(tmp_path)
        said = "whose network was trained on these cases" if fold == "all" else "without fold_all"
        assert said in found.layout
        assert [case.fold for case in found.cases] == [f"fold_{fold}"]


def test_cases_go_to_other_processes(tmp_path: Path) -> None:
    maps = softmax((3, 5, 4, 6))
    write_case(tmp_path, "a", maps.transpose(0, 3, 2, 1), maps.argmax(0))
    write_json(tmp_path / "dataset.json", SOFTMAX)
    (case,) = pickle.loads(pickle.dumps(open_predictions(tmp_path))).cases
    assert_array_equal(case.probabilities(), maps)


def _refused(folder: Path, path: Path, match: str) -> None:
    with pytest.raises((ValueError, OSError), match=match) as caught:
        open_predictions(folder)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value)


def test_wrong_folders_are_refused_in_a_line_that_names_the_file(tmp_path: Path) -> None:
    maps = softmax((3, 5, 4, 6))
    stored, label = maps.transpose(0, 3, 2, 1), maps.argmax(0)
    write_case(tmp_path, "a", stored, label)
    _refused(tmp_path, tmp_path / "dataset.json", "names the labels")
    write_json(tmp_path / "dataset.json", REGIONS)
    _refused(tmp_path, tmp_path / "a.npz", "expected 2 channels, .* got 3")
    write_json(tmp_path / "dataset.json", SOFTMAX)
    assert len(open_predictions(tmp_path).cases) == 1

    save(tmp_path / "a.nii.gz", label[:, :, :5].astype(np.uint8))
    _refused(tmp_path, tmp_path / "a.npz", r"shape of a.nii.gz, \(5, 4, 5\), got \(5, 4, 6\)")
    (tmp_path / "a.nii.gz").unlink()
    _refused(tmp_path, tmp_path / "a.nii.gz", "expected the segmentation .* TotalSegmentator")
    (tmp_path / "a.nrrd").touch()
    _refused(tmp_path, tmp_path / "a.npz", "in NIfTI beside it, got a.nrrd")

    save(tmp_path / "a.nii.gz", label.astype(np.uint8))
    np.savez(tmp_path / "a.npz", softmax=stored)
    _refused(tmp_path, tmp_path / "a.npz", "got v1's cropped 'softmax'")
    np.savez(tmp_path / "a.npz", probabilities=np.ones(stored.shape, np.uint8))
    _refused(tmp_path, tmp_path / "a.npz", "expected float16, 32 or 64, got uint8")
    np.savez(tmp_path / "a.npz", probabilities=stored)
    save(tmp_path / "a.nii.gz", np.stack([label, label], -1).astype(np.uint8))
    _refused(tmp_path, tmp_path / "a.npz", r"a.nii.gz of shape \(5, 4, 6, 2\)")
    np.savez(tmp_path / "a.npz", probabilities=stored[0, 0])
    _refused(tmp_path, tmp_path / "a.npz", "up to 3 of space, got shape")


def test_a_transposed_map_is_refused_where_the_plans_say_that_nothing_was_turned(
    tmp_path: Path,
) -> None:
    maps = softmax((3, 5, 4, 6))
    write_case(tmp_path, "a", maps.transpose(0, 2, 3, 1), maps.argmax(0), AFFINES["PIR"])
    write_json(tmp_path / "dataset.json", SOFTMAX)
    write_json(tmp_path / "plans.json", {"image_reader_writer": "SimpleITKIO"})
    _refused(tmp_path, tmp_path / "a.npz", "expected the shape")


def test_folders_of_segmentations_alone_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", SOFTMAX)
    write_json(tmp_path / "plans.json", {})
    save(tmp_path / "a.nii.gz", np.ones((3, 4, 5), np.uint8))
    _refused(tmp_path, tmp_path, "got no maps: nnUNetv2_predict --save_probabilities")
    (tmp_path / "fold_0" / "validation").mkdir(parents=True)
    _refused(tmp_path, tmp_path / "fold_0" / "validation", "got no maps")


def test_a_case_of_two_folds_is_refused(tmp_path: Path) -> None:
    maps = softmax((3, 5, 4, 6))
    for fold in (0, 1):
        folder = tmp_path / f"fold_{fold}" / "validation"
        write_case(folder, "a", maps.transpose(0, 3, 2, 1), maps.argmax(0))
    write_json(tmp_path / "dataset.json", SOFTMAX)
    second = tmp_path / "fold_1" / "validation" / "a.npz"
    _refused(tmp_path, second, "each case once")


def test_the_names_of_nnunets_classes_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.npz").touch()
    with pytest.raises(ValueError, match="expected no names"):
        open_predictions(tmp_path, names=["a"])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([], "expected 'labels'"),
        ({"labels": {}}, "expected 'labels'"),
        ({"labels": {"background": 0}}, "at least one label"),
        ({"labels": {"a": 1, "b": 3}}, "without gaps"),
        ({"labels": {"a": -1}}, "label values for 'a', got -1"),
        ({"labels": {"a": True}}, "label values for 'a', got True"),
        ({"labels": {"a": 1.5}}, "label values for 'a', got 1.5"),
        ({"labels": {"a": None}}, "label values for 'a', got None"),
        ({"labels": {"a": 1, "ignore": [2, 3]}}, "one value for 'ignore'"),
        ({"labels": {"a": [1, 2]}}, "regions_class_order beside"),
        ({"labels": {"a": [1, 2]}, "regions_class_order": [1, 2]}, "each of 1 regions, got 2"),
        ({"labels": {"a": [1, 2]}, "regions_class_order": 1}, "expected a list"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "names differ"),
    ],
)
def test_labels_that_make_no_sense_are_refused(tmp_path: Path, content: Any, match: str) -> None:
    path = tmp_path / "dataset.json"
    write_json(path, content)
    with pytest.raises(ValueError, match=match) as caught:
        read_label_names(path).nnunet_classes()
    assert str(caught.value).startswith(f"{path}: expected ")


def test_labels_of_the_decathlon_are_read(tmp_path: Path) -> None:
    write_json(tmp_path / "d.json", {"labels": {"0": "background", "2": "b", "1": "a"}})
    assert read_label_names(tmp_path / "d.json").nnunet_classes().names == ("a", "b")
    (tmp_path / "d.json").write_text("{")
    with pytest.raises(ValueError, match=r"d\.json: expected JSON"):
        read_label_names(tmp_path / "d.json")
