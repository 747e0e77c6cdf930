"""Folders of NIfTI maps: what each layout is read as, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from tests.volume_files import AFFINE, save

from marginseg.classes import Classes
from marginseg.files.predictions import open_predictions
from marginseg.rule import Rule

SHAPE = (5, 6, 4)


def softmax(channels: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A map (x, y, z, channels), as a NIfTI file has it."""
    logits = np.exp(np.random.default_rng(seed).normal(0, 2, (*shape, channels)))
    return (logits / logits.sum(-1, keepdims=True)).astype(np.float32)


def sigmoid(*channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((*SHAPE, *channels), np.float32)


def write_labels(path: Path, labels: dict[str, Any], **more: Any) -> None:
    path.write_text(json.dumps({"labels": labels, **more}))


def _refused(path: Path, match: str, folder: Path, **options: Any) -> None:
    with pytest.raises((ValueError, OSError), match=match) as caught:
        open_predictions(folder, **options)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value)


def test_a_file_a_case_of_one_class(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save(tmp_path / f"{name}.nii.gz", sigmoid(seed=ord(name)))
    found = open_predictions(tmp_path)
    assert [case.name for case in found.cases] == ["a", "b"]
    assert found.classes == Classes.regions({"foreground": (1,)}, painted=(1,))
    assert found.layout == "NIfTI, one file a case, one class"
    for case in found.cases:
        assert_array_equal(case.probabilities(), sigmoid(seed=ord(case.name))[None])
        assert (case.channels, case.shape, case.segmentation()) == (1, SHAPE, None)
        assert_allclose(case.spacing, nibabel.affines.voxel_sizes(AFFINE), rtol=1e-6)
    assert open_predictions(tmp_path, names=["tumour"]).classes.names == ("tumour",)


def test_channels_that_sum_to_one_are_a_softmax_with_a_background(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", softmax(3))
    found = open_predictions(tmp_path)
    assert found.classes == Classes.softmax(["1", "2"])
    assert found.layout == ("NIfTI, a channel a class, softmax, since the channels of a sum to 1")
    assert_array_equal(found.cases[0].probabilities(), np.moveaxis(softmax(3), -1, 0))
    # What the caller says counts more than what the values look like.
    said = open_predictions(tmp_path, exclusive=False)
    assert said.classes == Classes.regions({"1": (1,), "2": (2,), "3": (3,)}, painted=(1, 2, 3))
    assert said.layout == "NIfTI, a channel a class, sigmoid"


def test_a_softmax_whose_crop_was_undone_is_one(tmp_path: Path) -> None:
    values = np.zeros((20, 20, 20, 3), np.float32)
    values[5:15, 3:17, :18] = softmax(3, shape=(10, 14, 18))
    save(tmp_path / "b.nii.gz", values)
    save(tmp_path / "a.nii.gz", np.zeros_like(values))  # of a case where nothing was left
    found = open_predictions(tmp_path)
    assert found.classes == Classes.softmax(["1", "2"])
    assert "softmax, since the channels of b sum to 1 where they are not 0" in found.layout
    labels = Rule(found.classes, "half").labels(found.cases[1].probabilities())
    assert_array_equal(labels, values.argmax(-1))
    assert not labels[:5].any()
    # Where the crop was resampled, its faces are between 0 and what they were.
    values = ndimage.zoom(values, (1.4, 1.3, 1.6, 1), order=1, mode="grid-constant", grid_mode=True)
    assert np.abs(values.sum(-1) - 1)[values.any(-1)].max() > 0.1
    save(tmp_path / "b.nii.gz", values.astype(np.float32))
    assert open_predictions(tmp_path).classes == Classes.softmax(["1", "2"])


@pytest.mark.parametrize("case", ["holes", "rim", "above", "masks", "nothing"])
def test_sums_that_do_not_tell_softmax_from_sigmoid_are_asked_for(
    tmp_path: Path, case: str
) -> None:
    values = softmax(2, shape=(10, 10, 10))
    if case == "rim":  # but nothing is 0 outside it
        values[[0, -1]] *= 0.5
    elif case == "holes":
        values[np.random.default_rng(1).random((10, 10, 10)) < 0.3] *= 0.5
    elif case == "above":
        values[0, 0, 0] = 0.9
    elif case == "masks":  # of two classes that are no box, without a background
        inside = np.square(np.indices((10, 10, 10)) - 4.5).sum(0) < 16
        values = np.zeros_like(values)
        values[:5, ..., 0], values[5:, ..., 1] = inside[:5], inside[5:]
    else:
        values[:] = 0
    save(tmp_path / "a.nii.gz", values)
    match = "a map that is not 0" if case == "nothing" else "a sum of 1 at .*%"
    _refused(tmp_path / "a.nii.gz", f"{match}.*say --channels softmax or --channels", tmp_path)
    assert open_predictions(tmp_path, exclusive=True).classes.exclusive


def test_disjoint_organs_of_a_sigmoid_sum_to_one_in_few_voxels(tmp_path: Path) -> None:
    # In 8 bits most of the background is 0, and nowhere is there more than 1.
    values = np.zeros((20, 20, 20, 2), np.float32)
    values[2:6, 2:6, 2:6, 0] = values[12:16, 12:16, 12:16, 1] = 0.5
    values[3:5, 3:5, 3:5, 0] = values[13:15, 13:15, 13:15, 1] = 1
    save(tmp_path / "a.nii.gz", values)
    assert not open_predictions(tmp_path).classes.exclusive
    # A box of planes is all rim, which says nothing.
    for first, last in ((0, 1), (8, 12)):
        values[:] = 0
        values[:, :, first:last] = 0.3
        save(tmp_path / "a.nii.gz", values)
        assert not open_predictions(tmp_path).classes.exclusive


def test_other_channels_are_a_sigmoid(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", sigmoid(2))
    found = open_predictions(tmp_path)
    assert found.classes == Classes.regions({"1": (1,), "2": (2,)}, painted=(1, 2))
    assert "sigmoid, since the channels of a do not sum to 1" in found.layout
    # With names of all but one, that one is the background's, which a sigmoid has no use for.
    one = open_predictions(tmp_path, names=["tumour"]).classes
    assert (one.names, one.channels, one.background, one.exclusive) == (
        ("tumour",),
        (1,),
        None,
        False,
    )


def test_a_softmax_in_255_steps_is_one(tmp_path: Path) -> None:
    steps = np.rint(softmax(4) * 255).astype(np.uint8)
    image = nibabel.Nifti1Image(steps, AFFINE)
    image.header.set_slope_inter(1 / 255, 0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    found = open_predictions(tmp_path, names=["background", "a", "b", "c"])
    assert found.classes == Classes.softmax(["a", "b", "c"])
    read = found.cases[0].probabilities()
    assert read.dtype == np.float32
    assert_allclose(read, np.moveaxis(steps, -1, 0) / 255, atol=1e-7)


def test_labels_in_a_file_beside_name_the_channels_by_their_values(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", softmax(3))
    write_labels(tmp_path / "classes.json", {"background": 0, "z": 4, "y": 7})
    classes = open_predictions(tmp_path).classes
    assert classes == Classes(("z", "y"), (1, 2), ((4,), (7,)), True, background=0, painted=(4, 7))
    write_labels(tmp_path / "classes.json", {"0": "background", "2": "b", "1": "a"})
    assert open_predictions(tmp_path).classes == Classes.softmax(["a", "b"])
    # One that is named comes before the one beside the maps.
    (tmp_path / "elsewhere").mkdir()
    write_labels(tmp_path / "elsewhere" / "dataset.json", {"c": 1, "d": 2})
    for place in ("elsewhere", "elsewhere/dataset.json"):
        found = open_predictions(tmp_path, dataset=tmp_path / place)
        assert found.classes == Classes.softmax(["c", "d"])


def test_regions_in_a_file_beside_are_a_sigmoid(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", sigmoid(3))
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    write_labels(tmp_path / "dataset.json", labels, regions_class_order=[1, 2, 3])
    values = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    found = open_predictions(tmp_path)
    assert found.classes == Classes.regions(values, painted=(1, 2, 3), ignored=4)
    assert found.layout == "NIfTI, a channel a class, sigmoid of regions"
    # Without the order of painting there are masks, but no label map.
    write_labels(tmp_path / "dataset.json", labels)
    assert open_predictions(tmp_path).classes == Classes.regions(values, ignored=4)


def test_itks_vectors_and_plain_files_are_read(tmp_path: Path) -> None:
    values = softmax(3).astype(np.float64)
    save(tmp_path / "a.nii", values.reshape(*SHAPE, 1, 3))
    read = open_predictions(tmp_path).cases[0].probabilities()
    assert read.dtype == np.float64
    assert_array_equal(read, np.moveaxis(values, -1, 0))


def test_a_slice_is_a_map_of_two_axes(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", sigmoid()[..., 0])
    (case,) = open_predictions(tmp_path).cases
    assert_array_equal(case.probabilities(), sigmoid()[None, ..., 0])
    assert len(case.spacing) == 2


def test_a_file_a_class_in_a_folder_a_case(tmp_path: Path) -> None:
    maps = {name: sigmoid(seed=n) for n, name in enumerate(("liver", "aorta"))}
    for case in ("s2", "s1"):
        (tmp_path / case).mkdir()
        for name, values in maps.items():
            save(tmp_path / case / f"{name}.nii.gz", values)
    found = open_predictions(tmp_path)
    assert found.classes.names == ("aorta", "liver")
    assert [case.name for case in found.cases] == ["s1", "s2"]
    assert found.layout.startswith("NIfTI, a folder a case, one file a class, sigmoid, since")
    for case in found.cases:
        assert_array_equal(case.probabilities(), [maps["aorta"], maps["liver"]])
    # Named classes have the order of their names; MONAI's names begin with that of the case.
    for case in ("s1", "s2"):
        for name in maps:
            (tmp_path / case / f"{name}.nii.gz").rename(tmp_path / case / f"{case}_{name}.nii.gz")
    _refused(tmp_path / "s1", "or names of the classes, got s1_aorta, s1_liver", tmp_path)
    found = open_predictions(tmp_path, names=["liver", "aorta"])
    assert_array_equal(found.cases[1].probabilities(), [maps["liver"], maps["aorta"]])


def test_a_file_of_the_background_comes_first(tmp_path: Path) -> None:
    values = softmax(3)
    (tmp_path / "s").mkdir()
    for channel, name in enumerate(("background", "b", "a")):
        save(tmp_path / "s" / f"{name}.nii.gz", values[..., channel])
    found = open_predictions(tmp_path)
    assert found.classes == Classes.softmax(["a", "b"])
    assert_array_equal(found.cases[0].probabilities(), np.moveaxis(values[..., [0, 2, 1]], -1, 0))


def test_files_of_case_and_class_side_by_side(tmp_path: Path) -> None:
    names = ["core", "whole", "whole_core"]
    for case in ("p_1", "p_2"):
        for number, name in enumerate(names):
            save(tmp_path / f"{case}_{name}.nii.gz", sigmoid(seed=number))
    found = open_predictions(tmp_path, names=names)
    assert [case.name for case in found.cases] == ["p_1", "p_2"]
    assert found.layout.startswith("NIfTI, one file a class")
    wanted = [sigmoid(seed=number) for number in range(3)]
    assert_array_equal(found.cases[0].probabilities(), wanted)
    (tmp_path / "p_2_whole.nii.gz").unlink()
    _refused(tmp_path / "p_2_whole.nii.gz", "a map of each class", tmp_path, names=names)


def test_a_segmentation_in_the_cases_folder_is_the_networks_own(tmp_path: Path) -> None:
    values = softmax(3)
    for kind, dtype in (("integers", np.uint8), ("floats", np.float32)):
        folder = tmp_path / kind / "s"
        folder.mkdir(parents=True)
        save(folder / "s_prob.nii.gz", values)
        save(folder / "s_seg.nii.gz", values.argmax(-1).astype(dtype))
        (case,) = open_predictions(tmp_path / kind).cases
        assert_array_equal(case.probabilities(), np.moveaxis(values, -1, 0))
        own = case.segmentation()
        assert own is not None
        assert_array_equal(own, values.argmax(-1))
        save(folder / "s_seg.nii.gz", np.zeros((3, 4, 5), np.uint8))
        with pytest.raises(ValueError, match=r"s_seg.nii.gz: expected the map's shape"):
            case.segmentation()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_other_files_in_the_cases_folder_are_no_segmentation(tmp_path: Path, dtype: Any) -> None:
    labels = {"background": 0, "organ": 1, "tumour": 4, "ignore": 9}
    write_labels(tmp_path / "classes.json", labels)
    (tmp_path / "s").mkdir()
    save(tmp_path / "s" / "prob.nii.gz", softmax(3))
    own = np.random.default_rng(0).choice([0, 1, 4, 9], SHAPE).astype(dtype)
    path = save(tmp_path / "s" / "ct.nii.gz", own)
    (case,) = open_predictions(tmp_path).cases
    assert_array_equal(case.segmentation(), own)
    for strange in (-1000, 2):
        own[2, 2, 2] = strange
        save(path, own)
        with pytest.raises(ValueError, match=f"labels 0, 1, 4, 9 in .*got {strange}$") as caught:
            case.segmentation()
        assert str(caught.value).startswith(f"{path}: expected ")


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_monai_saves_is_read(tmp_path: Path, separate: bool, channels: int) -> None:
    transforms = pytest.importorskip("monai.transforms")
    data = pytest.importorskip("monai.data")
    torch = pytest.importorskip("torch")
    values = np.moveaxis(softmax(3)[..., :channels], -1, 0)
    out = tmp_path / "out"
    for name in ("s_1", "s_2"):
        meta = {"filename_or_obj": f"/images/{name}.nii.gz"}
        tensor = data.MetaTensor(torch.tensor(values), affine=torch.tensor(AFFINE), meta=meta)
        transforms.SaveImaged(
            keys="pred",
            output_dir=out,
            output_postfix="prob",
            separate_folder=separate,
            resample=False,
            print_log=False,
        )({"pred": tensor})
    found = open_predictions(out)
    assert [case.name for case in found.cases] == (
        ["s_1", "s_2"] if separate else ["s_1_prob", "s_2_prob"]
    )
    for case in found.cases:
        assert_allclose(case.geometry.affine, AFFINE, atol=1e-5)
        assert_array_equal(case.probabilities(), values)
    assert found.classes.exclusive == (channels == 3)


def test_wrong_folders_are_refused_in_a_line_that_names_the_file(tmp_path: Path) -> None:
    _refused(tmp_path / "no", "no such folder", tmp_path / "no")
    _refused(tmp_path, "got none", tmp_path)
    (tmp_path / "file").touch()
    _refused(tmp_path / "file", "got a file", tmp_path / "file")

    label = np.ones(SHAPE, np.uint8)
    save(tmp_path / "a.nii.gz", label)
    _refused(tmp_path / "a.nii.gz", "got uint8: a segmentation", tmp_path)
    save(tmp_path / "b.nii.gz", softmax(3))
    assert "one file of integers left out" in open_predictions(tmp_path).layout
    _refused(
        tmp_path / "b.nii.gz", "expected 4 channels, or one more .* got 3", tmp_path, names="abcd"
    )
    save(tmp_path / "c.nii.gz", sigmoid())
    _refused(tmp_path / "c.nii.gz", "has, 3 channels, got one channel", tmp_path)
    save(tmp_path / "c.nii", softmax(3))
    (tmp_path / "c.nii.gz").unlink()
    save(tmp_path / "b.nii", softmax(3))
    _refused(tmp_path / "b.nii.gz", "each case once, got .*b.nii too", tmp_path)
    save(tmp_path / "0.nii.gz", sigmoid(2, 2))
    _refused(tmp_path / "0.nii.gz", "4 with a channel per class", tmp_path)
    (tmp_path / "0.nii.gz").write_bytes(b"\x1f\x8b")
    _refused(tmp_path / "0.nii.gz", "whole .nii", tmp_path)


def test_maps_beside_folders_of_maps_hide_them_not(tmp_path: Path) -> None:
    for case in ("s1", "s2"):
        (tmp_path / case).mkdir()
        save(tmp_path / case / "prob.nii.gz", softmax(3))
    save(tmp_path / "mean.nii.gz", sigmoid())
    _refused(tmp_path, "or a folder of maps for each case, got both, mean.nii.gz, s1", tmp_path)
    # Folders of something else are none of the maps' business.
    for case in ("s1", "s2"):
        save(tmp_path / case / "prob.nii.gz", np.ones(SHAPE, np.uint8))
    (tmp_path / "s1" / "broken.nii.gz").write_bytes(b"\x1f\x8b")
    assert [case.name for case in open_predictions(tmp_path).cases] == ["mean"]


def test_names_and_a_file_of_names_are_not_given_together(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", sigmoid())
    write_labels(tmp_path / "classes.json", {"organ": 3})
    given = {"names": ["a"], "dataset": tmp_path / "classes.json"}
    _refused(tmp_path / "classes.json", "no names beside it, got a", tmp_path, **given)
    # The names count more than a file that nobody named.
    assert open_predictions(tmp_path, names=["a"]).classes.names == ("a",)


def test_wrong_folders_of_cases_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    _refused(tmp_path / "s", "got none", tmp_path)
    for name in ("a", "b"):
        save(tmp_path / "s" / f"{name}.nii.gz", softmax(2))
    _refused(tmp_path / "s", "got 2 such maps", tmp_path)
    save(tmp_path / "s" / "a.nii.gz", sigmoid())
    save(tmp_path / "s" / "b.nii.gz", sigmoid()[:4])
    _refused(tmp_path / "s" / "b.nii.gz", "expected the shape of a.nii.gz", tmp_path)
    save(tmp_path / "s" / "b.nii.gz", sigmoid())
    write_labels(tmp_path / "classes.json", {"a": 1, "b": 2, "c": 3})
    _refused(tmp_path / "s", "expected a map of 'c', got none", tmp_path)
    _refused(tmp_path / "s", r"expected maps of a, c, got a, b", tmp_path, names=["a", "c"])
    (tmp_path / "classes.json").unlink()
    (tmp_path / "t").mkdir()
    save(tmp_path / "t" / "a.nii.gz", sigmoid())
    _refused(tmp_path / "t" / "a.nii.gz", "maps of a, b, got one channel", tmp_path)


def test_hidden_files_and_folders_are_none_of_the_cases(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", sigmoid())
    (tmp_path / "._a.nii.gz").write_bytes(b"what macOS leaves on other disks")
    assert len(open_predictions(tmp_path).cases) == 1
