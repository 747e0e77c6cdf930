"""Labels of cases: where they are found, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tests.volume_files import AFFINE, save

from marginseg.files.predictions import Predictions, open_labels, open_predictions

SHAPE = (5, 6, 4)
REGIONS = {"labels": {"whole": [1, 2], "core": 2, "ignore": 3}, "regions_class_order": [1, 2]}


def label(seed: int = 0, most: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most + 1, SHAPE).astype(np.uint8)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    return folder


def predicted(tmp_path: Path, *names: str, **options: Any) -> Predictions:
    folder = tmp_path / "maps"
    folder.mkdir(exist_ok=True)
    values = np.random.default_rng(0).random((*SHAPE, 2), np.float32)
    for name in names:
        save(folder / f"{name}.nii.gz", values)
    return open_predictions(folder, **options)


def test_a_label_map_gives_each_class_and_who_labelled_what(tmp_path: Path, labels: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps(REGIONS))
    found = predicted(tmp_path, "a", "b", dataset=tmp_path / "d.json")
    for seed, name in enumerate(("a", "b")):
        save(labels / f"{name}.nii.gz", label(seed, most=3))
    save(labels / "not predicted.nii.gz", label())
    opened = open_labels(labels, found)
    assert list(opened) == ["a", "b"]
    for seed, case in enumerate(opened.values()):
        targets, labelled = case.read()
        wanted = label(seed, most=3)
        assert_array_equal(targets, [(wanted == 1) | (wanted == 2), wanted == 2])
        assert_array_equal(labelled, wanted != 3)
        assert_array_equal(case.targets(), targets)
        assert targets.dtype == np.bool_


@pytest.mark.parametrize("pattern", ["a/{}", "a/a_{}", "a_{}"])
def test_masks_of_the_classes_are_read(tmp_path: Path, labels: Path, pattern: str) -> None:
    found = predicted(tmp_path, "a", names=["liver", "tumour"])
    (labels / "a").mkdir()
    wanted = [label(1, most=1), label(2, most=1)]
    save(labels / f"{pattern.format('liver')}.nii.gz", wanted[0])
    save(labels / f"{pattern.format('tumour')}.nii.gz", wanted[1] * np.uint8(255))
    targets, labelled = open_labels(labels, found)["a"].read()
    assert_array_equal(targets, np.array(wanted) == 1)
    assert labelled is None
    save(labels / f"{pattern.format('tumour')}.nii.gz", label(2, most=2))
    with pytest.raises(ValueError, match=r"tumour.nii.gz: expected a mask of one class, got 3"):
        open_labels(labels, found)["a"].targets()


@pytest.mark.parametrize("pattern", ["a/{}", "a/a_{}", "a_{}"])
@pytest.mark.parametrize(("value", "stored"), [(1, 255), (3, 1), (3, 3)])
def test_a_mask_of_the_only_class_is_one_where_it_is_not_0(
    tmp_path: Path, labels: Path, pattern: str, value: int, stored: int
) -> None:
    names = {"labels": {"background": 0, "tumour": value, "ignore": 7}}
    (tmp_path / "d.json").write_text(json.dumps(names))
    found = predicted(tmp_path, "a", dataset=tmp_path / "d.json")
    (labels / "a").mkdir()
    wanted = label(1, most=1)
    save(labels / f"{pattern.format('tumour')}.nii.gz", wanted * np.uint8(stored))
    targets, labelled = open_labels(labels, found)["a"].read()
    assert_array_equal(targets, [wanted == 1])
    assert labelled is None


@pytest.mark.parametrize("pattern", ["a/{}", "a/a_{}", "a_{}"])
@pytest.mark.parametrize("end", ["", "_prob"])
@pytest.mark.parametrize(("there", "missing"), [("tumour", "liver"), ("liver", "tumour")])
def test_a_mask_alone_is_no_label_map_and_the_missing_one_is_named(
    tmp_path: Path, labels: Path, pattern: str, end: str, there: str, missing: str
) -> None:
    found = predicted(tmp_path, f"a{end}", names=["liver", "tumour"])
    (labels / "a").mkdir()
    save(labels / f"{pattern.format(there)}.nii.gz", label(1, most=1))
    with pytest.raises(ValueError, match=r"a mask of each class, got no such file$") as caught:
        open_labels(labels, found)
    assert str(caught.value).startswith(f"{labels / pattern.format(missing)}.nii.gz: ")


def test_classes_that_only_files_are_named_after_have_no_place_in_a_label_map(
    tmp_path: Path, labels: Path
) -> None:
    folder = tmp_path / "maps" / "a"
    folder.mkdir(parents=True)
    for name in ("liver", "aorta"):
        save(folder / f"{name}.nii.gz", np.random.default_rng(0).random(SHAPE, np.float32))
    save(labels / "a.nii.gz", label())
    found = open_predictions(folder.parent, exclusive=False)
    with pytest.raises(ValueError, match=r"a\.nii\.gz: expected a mask of each class; or a class"):
        open_labels(labels, found)
    # The network's own label map has none either.
    own = save(folder / "own.nii.gz", label())
    (case,) = open_predictions(folder.parent, exclusive=False).cases
    with pytest.raises(ValueError, match=r"expected a classes.json or --names") as caught:
        case.segmentation()
    assert str(caught.value).startswith(f"{own}: ")
    # They have as soon as somebody says it: liver is 1, whatever the alphabet.
    found = open_predictions(folder.parent, exclusive=False, names=["liver", "aorta"])
    assert_array_equal(open_labels(labels, found)["a"].targets(), [label() == 1, label() == 2])
    assert_array_equal(found.cases[0].segmentation(), label())
    own.unlink()
    # Masks need no values.
    (labels / "a.nii.gz").unlink()
    for seed, name in enumerate(("aorta", "liver")):
        save(labels / f"a_{name}.nii.gz", label(seed, most=1))
    targets = open_labels(labels, open_predictions(folder.parent, exclusive=False))["a"].targets()
    assert_array_equal(targets, [label(0, most=1), label(1, most=1)])


def test_the_only_class_is_what_is_1_in_a_label_map(tmp_path: Path, labels: Path) -> None:
    folder = tmp_path / "maps" / "a"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    save(folder / "background.nii.gz", 1 - values)
    save(folder / "liver.nii.gz", values)
    save(labels / "a.nii.gz", label(most=1))
    found = open_predictions(folder.parent)
    assert found.classes.names == ("liver",)
    assert_array_equal(open_labels(labels, found)["a"].targets(), [label(most=1) == 1])


@pytest.mark.parametrize("end", ["_prob", "_0000", "_seg_trans"])
def test_what_all_maps_have_at_the_end_of_their_names_labels_need_not(
    tmp_path: Path, labels: Path, end: str
) -> None:
    found = predicted(tmp_path, f"a_1{end}", f"a_2{end}")
    save(labels / "a_1.nii.gz", label(1))
    save(labels / "a_2.nii", label(2))
    opened = open_labels(labels, found)
    assert_array_equal(opened[f"a_2{end}"].targets(), [label(2) == 1, label(2) == 2])


def test_a_label_in_a_folder_of_the_cases_name_is_found(tmp_path: Path, labels: Path) -> None:
    found = predicted(tmp_path, "a")
    (labels / "a").mkdir()
    save(labels / "a" / "a_truth.nii.gz", label())
    assert open_labels(labels, found)["a"].paths == (labels / "a" / "a_truth.nii.gz",)


def test_numbers_of_cases_are_no_ends_that_may_be_missing(tmp_path: Path, labels: Path) -> None:
    found = predicted(tmp_path, "case_1_2")
    save(labels / "case_1.nii.gz", label())
    with pytest.raises(ValueError, match="case_1_2.nii.gz: expected a label of each case"):
        open_labels(labels, found)


def test_what_only_some_maps_have_at_the_end_is_part_of_their_names(
    tmp_path: Path, labels: Path
) -> None:
    found = predicted(tmp_path, "a_prob", "b")
    for name in ("a", "b"):
        save(labels / f"{name}.nii.gz", label())
    with pytest.raises(ValueError, match="a_prob.nii.gz: expected a label of each case"):
        open_labels(labels, found)


def test_the_first_missing_label_is_named(tmp_path: Path, labels: Path) -> None:
    found = predicted(tmp_path, "a", "b", "c")
    save(labels / "a.nii.gz", label())
    with pytest.raises(ValueError, match=r"labels/b\.nii\.gz: expected a label of each case"):
        open_labels(labels, found)
    with pytest.raises(FileNotFoundError, match="expected the folder of the labels"):
        open_labels(labels / "no", found)


@pytest.mark.parametrize(
    ("data", "affine", "match"),
    [
        (label()[:4], AFFINE, r"shape of the map of a, \(5, 6, 4\), got \(4, 6, 4\)"),
        (label(), np.diag([-1, 1, 1, 1]) @ AFFINE, "orientation of the map of a, LAS, got RAS"),
        (label(), AFFINE @ np.diag([1, 1, 1.02, 1]), "voxel size of the map of a, .* × 3 mm, got"),
        (label(most=3), AFFINE, "labels 0, 1, 2, got 3"),
        (label() / 2, AFFINE, "expected integer labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused_when_they_are_read(
    tmp_path: Path, labels: Path, data: np.ndarray, affine: np.ndarray, match: str
) -> None:
    found = predicted(tmp_path, "a")
    save(labels / "a.nii.gz", data, affine)
    opened = open_labels(labels, found)["a"]
    with pytest.raises(ValueError, match=match) as caught:
        opened.targets()
    assert str(caught.value).startswith(f"{labels / 'a.nii.gz'}: expected ")


def test_voxel_sizes_may_be_rounded_and_origins_differ(tmp_path: Path, labels: Path) -> None:
    found = predicted(tmp_path, "a")
    moved = AFFINE @ np.diag([1, 1, 1.005, 1])
    moved[:3, 3] += 100
    save(labels / "a.nii.gz", label(), moved)
    assert_array_equal(open_labels(labels, found)["a"].targets(), [label() == 1, label() == 2])
