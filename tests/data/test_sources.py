"""Decathlon and TotalSegmentator folders, written here with nibabel, good and bad."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from marginseg.data import (
    EmptyDatasetError,
    decathlon,
    structures_of,
    totalsegmentator,
)

PATCH = (12, 12, 12)


def save(path: Path, array: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), path)
    return path


def anatomy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose intensity gives the label away: 100 + 50 · label + small noise."""
    rng = np.random.default_rng(seed)
    label = np.zeros((20, 22, 18), np.uint8)
    a, b, c = rng.integers(4, 9, 3)
    label[a : a + 5, b : b + 4, c : c + 3] = 1
    label[a : a + 5, b : b + 4, c + 3 : c + 6] = 2
    image = (100 + 50 * label + rng.normal(0, 1, label.shape)).astype(np.float32)
    return image, label


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A decathlon task of six cases in two labels."""
    root = tmp_path / "Task99_Test"
    for i in range(6):
        image, label = anatomy(i)
        save(root / f"imagesTr/case_{i}.nii.gz", image)
        save(root / f"labelsTr/case_{i}.nii.gz", label)
    describe(root)
    return root


def describe(root: Path, **changes: object) -> None:
    content = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "training": [
            {"image": f"./imagesTr/case_{i}.nii.gz", "label": f"./labelsTr/case_{i}.nii.gz"}
            for i in range(6)
        ],
        **changes,
    }
    (root / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_patches_are_centred_and_whole(task: Path, cache: Path) -> None:
    for structure, values in {"front": [1], "back": [2], "all": [1, 2]}.items():
        data = decathlon(task, structure, patch_shape=PATCH, cache_dir=cache)
        assert data.skipped == []
        assert (len(data), data.structure, data.patch_shape) == (6, structure, PATCH)
        assert data.spacing is None
        for i, case in enumerate(data.cases):
            _, label = anatomy(i)
            mask = np.isin(label, values)
            assert case.name == f"case_{i}"
            assert (case.image.dtype, case.label.dtype) == (np.float32, np.uint8)
            assert case.image.shape == case.label.shape == PATCH
            assert case.label.sum() == mask.sum()
            assert case.spacing == (1, 1, 1)
            offset = np.array(ndimage.center_of_mass(case.label)) - (np.array(PATCH) - 1) / 2
            assert np.abs(offset).max() <= 0.5


def test_image_and_label_stay_in_register(task: Path, cache: Path) -> None:
    for spacing in (None, 0.7):
        data = decathlon(task, "all", patch_shape=PATCH, spacing=spacing, cache_dir=cache)
        for case in data.cases:
            inside = case.image[ndimage.binary_erosion(case.label)]
            outside = case.image[~ndimage.binary_dilation(case.label, iterations=2)]
            assert inside.min() > outside.max()


def test_resampling_keeps_the_volume_in_millimetres(task: Path, cache: Path) -> None:
    data = decathlon(task, "all", patch_shape=(24, 24, 24), spacing=0.5, cache_dir=cache)
    assert data.spacing == (0.5, 0.5, 0.5)
    for case in data.cases:
        assert case.spacing == (0.5, 0.5, 0.5)
        # 5 × 4 × 6 mm; cutting at ½ rounds the edges of the box a little.
        assert case.label.sum() * 0.125 == pytest.approx(120, rel=0.1)


def test_beyond_the_volume_lie_its_minimum_and_no_label(task: Path, cache: Path) -> None:
    case = decathlon(task, "all", patch_shape=(40, 40, 40), cache_dir=cache)[0]
    assert (case.image[0] == case.image.min()).all()
    assert not case.label[0].any()


def test_of_several_channels_the_first_is_used(task: Path, cache: Path) -> None:
    plain = decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)[0]
    image, _ = anatomy(0)
    save(task / "imagesTr/case_0.nii.gz", np.stack([image, np.zeros_like(image)], -1))
    channels = decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)[0]
    np.testing.assert_array_equal(channels.image, plain.image)


def test_a_ct_is_windowed(task: Path, cache: Path) -> None:
    describe(task, modality={"0": "CT"})
    case = decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)[0]
    assert case.image[case.label == 0].mean() == pytest.approx(0, abs=0.02)  # 100 HU


def test_what_the_description_says_is_part_of_the_key(task: Path, cache: Path) -> None:
    def entries(structure: str, **settings: float) -> set[Path]:
        decathlon(task, structure, patch_shape=PATCH, cache_dir=cache, **settings)
        return set(cache.glob("*.npy"))

    assert len(entries("front")) == 6
    describe(task, labels={"0": "background", "1": "back", "2": "front"})
    assert len(entries("front")) == 12
    describe(task, labels={"0": "background", "1": "back", "2": "front"}, modality={"0": "CT"})
    assert len(entries("front")) == 18
    assert len(entries("front", largest_cut=0.5)) == 24
    assert len(entries("front", largest_cut=0.5, spacing=0.9)) == 30


def test_max_cases_counts_usable_cases(task: Path, cache: Path) -> None:
    (task / "labelsTr/case_1.nii.gz").unlink()
    data = decathlon(task, "all", patch_shape=PATCH, max_cases=3, cache_dir=cache)
    assert [case.name for case in data.cases] == ["case_0", "case_2", "case_3"]
    assert [name for name, _ in data.skipped] == ["case_1"]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_every_bad_case_is_named_with_its_reason(task: Path, cache: Path) -> None:
    image, label = anatomy(0)
    truncated(task / "imagesTr/case_0.nii.gz")
    save(task / "labelsTr/case_1.nii.gz", label[:-1])
    image[3, 3, 3] = np.nan
    save(task / "imagesTr/case_2.nii.gz", image)
    save(task / "labelsTr/case_3.nii.gz", np.zeros_like(label))
    (task / "imagesTr/case_4.nii.gz").write_bytes(gzip.compress(b"no image at all" * 100))
    data = decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)
    assert [case.name for case in data.cases] == ["case_5"]
    reasons = dict(data.skipped)
    assert sorted(reasons) == [f"case_{i}" for i in range(5)]
    assert "a file is unreadable: case_0.nii.gz" in reasons["case_0"]
    assert "different shapes: (20, 22, 18) and (19, 22, 18)" in reasons["case_1"]
    assert "voxels are NaN or infinite: 1 in case_2.nii.gz" in reasons["case_2"]
    assert "the structure is empty: no voxel in case_3.nii.gz" in reasons["case_3"]
    assert "a file is unreadable: case_4.nii.gz" in reasons["case_4"]
    assert all("\n" not in reason for reason in reasons.values())


@pytest.mark.parametrize("keep", [0, 1, 15, 40, 150])
def test_a_truncated_file_never_passes(task: Path, cache: Path, keep: int) -> None:
    path = task / "labelsTr/case_0.nii.gz"
    assert path.stat().st_size > keep
    path.write_bytes(path.read_bytes()[:keep])
    data = decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)
    assert [name for name, _ in data.skipped] == ["case_0"]


def test_other_spacings_in_image_and_label_are_refused(task: Path, cache: Path) -> None:
    save(task / "labelsTr/case_0.nii.gz", anatomy(0)[1], spacing=(1, 1, 2))
    data = decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)
    assert "different spacings" in dict(data.skipped)["case_0"]


def test_a_structure_lost_between_coarse_voxels_is_skipped(task: Path, cache: Path) -> None:
    label = np.zeros((20, 22, 18), np.uint8)
    label[6, 6, 6] = 1
    save(task / "labelsTr/case_0.nii.gz", label)
    data = decathlon(task, "front", patch_shape=PATCH, spacing=4.0, cache_dir=cache)
    assert "too little of the structure is in the patch: 0" in dict(data.skipped)["case_0"]


def test_no_case_left_names_the_structure(task: Path, cache: Path) -> None:
    for i in range(6):
        truncated(task / f"imagesTr/case_{i}.nii.gz")
    with pytest.raises(EmptyDatasetError, match=r"'back'.*case_0.*and 5 more"):
        decathlon(task, "back", patch_shape=PATCH, cache_dir=cache)


def test_wrong_folders_are_refused_in_one_line(task: Path, cache: Path, tmp_path: Path) -> None:
    def message(directory: Path, structure: str = "all") -> str:
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the caller looks at the message
            decathlon(directory, structure, patch_shape=PATCH, cache_dir=cache)
        assert "\n" not in str(error.value)
        return str(error.value)

    nowhere = tmp_path / "nowhere"
    assert message(nowhere) == f"directory: expected an existing folder, got {nowhere}"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert message(empty) == f"directory: expected a dataset.json in {empty}, got none"
    known = f"expected one of front, back, all in {task}"
    assert message(task, "liver") == f"structure: {known}, got 'liver'"
    (task / "dataset.json").write_text("{ not json")
    assert "cannot read" in message(task)
    (task / "dataset.json").write_text("[]")
    description = task / "dataset.json"
    assert message(task) == f"directory: expected a JSON object in {description}, got []"
    files = '[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]'
    either = '{"0": "background", "1": "liver"} or {"background": 0, "liver": 1}'
    for key, like, wrong in (
        ("labels", either, 3),
        ("labels", either, None),
        ("labels", either, ["background", "liver"]),
        ("labels", either, {}),
        ("labels", either, {"0": "background"}),
        ("labels", either, {"background": 0}),
        ("labels", either, {"one": "liver"}),
        ("labels", either, {"1_0": "liver"}),
        ("labels", either, {"1e400": "liver"}),
        ("labels", either, {"-1": "liver"}),
        ("labels", either, {"2147483648": "liver"}),
        ("labels", either, {"background": 0, "liver": 1.5}),
        ("labels", either, {"background": 0, "liver": True}),
        ("labels", either, {"background": 0, "liver": "1"}),
        ("labels", either, {"background": 0, "liver": [1, 2]}),
        ("labels", either, {"1": ["liver"]}),
        ("labels", either, {"1": " "}),
        ("labels", either, {"1": {"liver": 1}}),
        ("training", files, [{"image": 3, "label": 4}]),
        ("training", files, 7),
        ("training", files, {"image": "a.nii"}),
        ("training", files, [1]),
        ("training", files, [{"image": "a.nii"}]),
    ):
        describe(task, **{key: wrong})
        expected = f'directory: expected "{key}" like {like} in {description}, got {wrong}'
        assert message(task) == expected
    for text in ("[" * 100_000, '{"labels":' * 100_000, "9" * 5000):
        description.write_text(text)
        assert message(task).startswith(f"directory: cannot read {description} (")
    # Of many cases, the one that is wrong is named.
    good = {"image": "a.nii", "label": "b.nii"}
    describe(task, training=[good] * 200 + [{"image": "c.nii"}])
    assert message(task).endswith("got [{'image': 'c.nii'}]")
    describe(task)
    with pytest.raises(ValueError, match=r"^max_cases: expected at least 1, or None, got 0$"):
        decathlon(task, "all", patch_shape=PATCH, max_cases=0, cache_dir=cache)


def test_a_cache_folder_that_cannot_be_made_is_refused(task: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match="cache_dir"):
        decathlon(task, "all", patch_shape=PATCH, cache_dir=blocked / "cache")


def test_labels_may_be_written_as_nnunet_writes_them(task: Path, cache: Path) -> None:
    decathlons = {
        name: decathlon(task, name, patch_shape=PATCH, cache_dir=cache) for name in ("back", "all")
    }
    describe(task, labels={"background": 0, "front": 1, "back": 2})
    assert structures_of("decathlon", task) == ["front", "back", "all"]
    for name, expected in decathlons.items():
        found = decathlon(task, name, patch_shape=PATCH, cache_dir=cache)
        # The same label values make the same cases, which the cache has already.
        assert [path.name for path in found.cases.files] == [  # type: ignore[attr-defined]
            path.name
            for path in expected.cases.files  # type: ignore[attr-defined]
        ]


def test_what_is_listed_twice_is_refused(task: Path, cache: Path) -> None:
    """A case that is there twice would be trained on in the fold in which it is tested."""

    def pair(image: str, label: str = "./labelsTr/case_0.nii.gz") -> dict[str, str]:
        return {"image": image, "label": label}

    (task / "imagesTr/link.nii.gz").symlink_to(task / "imagesTr/case_0.nii.gz")
    first = pair("./imagesTr/case_0.nii.gz")
    for again in (
        first,
        pair("imagesTr/case_0.nii.gz", "labelsTr/case_1.nii.gz"),
        pair("other/case_0.nii"),
        pair("imagesTr/link.nii.gz"),
    ):
        describe(task, training=[first, pair("imagesTr/case_2.nii.gz"), again])
        expected = rf'^directory: expected each once in "training" of .*json, got .*{"case_0"}.* 2 '
        with pytest.raises(ValueError, match=expected):
            decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)
    describe(task, labels={"0": "background", "1": "front", "2": "front"})
    with pytest.raises(ValueError, match=r'each once in "labels" of .*json, got .front. 2 times$'):
        decathlon(task, "front", patch_shape=PATCH, cache_dir=cache)
    assert not cache.exists()


def test_a_name_that_no_file_can_have_leaves_the_case_out(task: Path, cache: Path) -> None:
    listed = [
        {"image": name, "label": "./labelsTr/case_1.nii.gz"}
        for name in ("a\0b.nii", "\ud800.nii", "x" * 5000, "./imagesTr/case_1.nii.gz")
    ]
    describe(task, training=listed)
    data = decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)
    assert [case.name for case in data.cases] == ["case_1"]
    assert len(data.skipped) == 3
    assert all(reason.startswith("a file is missing: ") for _, reason in data.skipped)


def test_structures_are_listed(task: Path) -> None:
    assert structures_of("decathlon", task) == ["front", "back", "all"]
    assert structures_of("phantom") == ["kidney", "tube", "thin_tube"]
    with pytest.raises(
        ValueError, match="^kind: expected one of phantom, decathlon, total.*, got 'nifti'$"
    ):
        structures_of("nifti", task)
    with pytest.raises(ValueError, match="^directory: expected the data set's folder .*got None$"):
        structures_of("decathlon")


@pytest.fixture
def subjects(tmp_path: Path) -> Path:
    """Four TotalSegmentator subjects; the third has no aorta file, the fourth an empty one."""
    root = tmp_path / "Totalsegmentator"
    for i in range(4):
        image, label = anatomy(i)
        save(root / f"s{i:04d}/ct.nii.gz", image.astype(np.int16), spacing=(1.5, 1.5, 1.5))
        masks = root / f"s{i:04d}/segmentations"
        save(masks / "kidney_left.nii.gz", (label > 0).astype(np.uint8), spacing=(1.5, 1.5, 1.5))
        if i != 2:
            aorta = (label == 1).astype(np.uint8) * (i != 3)
            save(masks / "aorta.nii.gz", aorta, spacing=(1.5, 1.5, 1.5))
    (root / "meta.csv").write_text("image_id;age\n")
    return root


def test_totalsegmentator_folder(subjects: Path, cache: Path) -> None:
    data = totalsegmentator(subjects, "aorta", patch_shape=PATCH, cache_dir=cache)
    assert [case.name for case in data.cases] == ["s0000", "s0001"]
    reasons = dict(data.skipped)
    assert "No such file" in reasons["s0002"]
    assert "the structure is empty: no voxel in aorta.nii.gz" in reasons["s0003"]
    for i, case in enumerate(data.cases):
        assert case.label.sum() == (anatomy(i)[1] == 1).sum()
        assert case.image[case.label == 1].mean() == pytest.approx(50 / 350, abs=0.02)
        assert case.spacing == (1.5, 1.5, 1.5)
    assert structures_of("totalsegmentator", subjects) == ["aorta", "kidney_left"]


def test_totalsegmentator_refuses_what_is_not_there(subjects: Path, cache: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^structure: expected one of aorta, kidney_left in .*, got 'liver'$"
    ):
        totalsegmentator(subjects, "liver", patch_shape=PATCH, cache_dir=cache)
    with pytest.raises(ValueError, match="^directory: expected an existing folder, got .*/no$"):
        totalsegmentator(subjects / "no", "aorta", patch_shape=PATCH, cache_dir=cache)
    with pytest.raises(ValueError, match="^directory: expected subject folders with ct.nii.gz .*"):
        totalsegmentator(subjects / "s0000", "aorta", patch_shape=PATCH, cache_dir=cache)
    for mask in subjects.glob("*/segmentations/*"):
        mask.unlink()
    with pytest.raises(ValueError, match=r"^directory: expected masks in .*/\*/segm.*, got none$"):
        totalsegmentator(subjects, "aorta", patch_shape=PATCH, cache_dir=cache)


def test_real_hippocampi(hippocampus_dir: Path, cache: Path) -> None:
    data = decathlon(
        hippocampus_dir, "all", patch_shape=(32, 48, 32), max_cases=12, cache_dir=cache
    )
    assert (len(data), data.skipped) == (12, [])
    for case in data.cases:
        source = nibabel.load(hippocampus_dir / "labelsTr" / f"{case.name}.nii.gz")
        truth = np.asarray(source.dataobj) > 0  # type: ignore[attr-defined]
        # A hippocampus can be longer than the patch, but hardly.
        assert 0.97 * truth.sum() <= case.label.sum() <= truth.sum()
        assert abs(case.image.mean()) < 1


def test_the_real_ct_sample(totalsegmentator_dir: Path, cache: Path) -> None:
    folder = totalsegmentator_dir / "s0000" / "segmentations"
    mask = nibabel.load(folder / "kidney_right.nii.gz").get_fdata()  # type: ignore[attr-defined]
    data = totalsegmentator(
        totalsegmentator_dir, "kidney_right", patch_shape=(32, 32, 32), cache_dir=cache
    )
    assert data[0].label.sum() == mask.sum()
    np.testing.assert_allclose(data[0].spacing, 3.0, rtol=1e-3)
    with pytest.raises(EmptyDatasetError, match=r"'esophagus'.*s0000: the structure is empty"):
        totalsegmentator(
            totalsegmentator_dir, "esophagus", patch_shape=(32, 32, 32), cache_dir=cache
        )


def test_missing_file_is_not_remembered(task: Path, cache: Path) -> None:
    path = task / "labelsTr/case_0.nii.gz"
    kept = path.read_bytes()
    path.unlink()
    assert len(decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)) == 5
    path.write_bytes(kept)
    os.utime(path)
    assert len(decathlon(task, "all", patch_shape=PATCH, cache_dir=cache)) == 6
