"""Reading volumes, and the rule that leaves out what a scan has cut."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marginseg.data import Case, totalsegmentator
from marginseg.data.dataset import RejectedCaseError, UnusableCaseError
from marginseg.data.intensity import IntensityScale
from marginseg.data.reading import cut_share, prepare_case, read_volume, rule

LONG = (30, 30, 100)


def save(path: Path, array: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 1.5, 1])), path)
    return path


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 6)] * 3), st.floats(0.05, 1))
def test_cut_share_counts_the_voxels_that_have_a_face_at_the_border(
    seed: int, shape: tuple[int, int, int], density: float
) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    places = list(zip(*np.nonzero(mask), strict=True))
    on_faces = [p for p in places if any(i in (0, n - 1) for i, n in zip(p, shape, strict=True))]
    assert cut_share(mask) == (len(on_faces) / len(places) if places else 0)


def make(tmp_path: Path, mask: np.ndarray, largest_cut: float | None, **changes: object) -> Case:
    arguments = {"patch_shape": (16, 16, 16), "spacing": (3.0, 3.0, 3.0), "values": None} | changes
    return prepare_case(
        "a case",
        save(tmp_path / "ct.nii.gz", np.zeros(mask.shape, np.int16)),
        save(tmp_path / "mask.nii.gz", mask.astype(np.uint8)),
        largest_cut=largest_cut,
        intensity=IntensityScale.ct,
        **arguments,  # type: ignore[arg-type]
    )


def ellipsoid(shape: tuple[int, int, int], centre: float) -> np.ndarray:
    """A kidney of 74 planes at 1.5 mm; its middle is plane ``centre`` of the last axis."""
    grid = np.indices(shape) - np.reshape((14.5, 14.5, centre), (3, 1, 1, 1))
    return np.asarray(((grid / np.reshape((12, 12, 37), (3, 1, 1, 1))) ** 2).sum(0) <= 1)


@pytest.mark.parametrize(("centre", "kept"), [(50, True), (38, True), (37, True), (-20, False)])
def test_a_tip_is_left_out_and_a_whole_organ_kept(
    tmp_path: Path, centre: float, kept: bool
) -> None:
    mask = ellipsoid(LONG, centre)
    if kept:
        case = make(tmp_path, mask, 0.05)
        assert (case.voxels, case.cut) == (mask.sum(), cut_share(mask))
    else:
        with pytest.raises(RejectedCaseError, match="^the scan ends within the structure: "):
            make(tmp_path, mask, 0.05)
        assert make(tmp_path, mask, None).voxels == mask.sum()


def test_a_vessel_that_crosses_a_long_scan_is_kept(tmp_path: Path) -> None:
    mask = np.zeros(LONG, bool)
    mask[10:16, 10:16] = True
    assert make(tmp_path, mask, 0.05).cut == 0.02
    with pytest.raises(RejectedCaseError) as error:
        make(tmp_path, mask[..., :30], 0.05)
    assert str(error.value) == (
        "the scan ends within the structure: 6.67 % of its voxels lie on the scan's faces, "
        "at most 5 % are allowed"
    )


def test_the_largest_share_is_itself_allowed(tmp_path: Path) -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[8:12, 8:12, :10] = True
    assert make(tmp_path, mask, 0.1, spacing=None).cut == 0.1
    with pytest.raises(RejectedCaseError, match="^the scan ends within"):
        make(tmp_path, mask, 0.0999, spacing=None)


@pytest.mark.parametrize(("edge", "kept"), [(3, True), (2, False)])
def test_a_patch_needs_27_voxels_where_there_is_a_rule(
    tmp_path: Path, edge: int, kept: bool
) -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[8 : 8 + edge, 8 : 8 + edge, 8 : 8 + edge] = True
    assert make(tmp_path, mask, None, spacing=None).label.sum() == edge**3
    if kept:
        assert make(tmp_path, mask, 1.0, spacing=None).label.sum() == 27
    else:
        with pytest.raises(RejectedCaseError, match=r"too little .*: 8 of its voxels, at least 27"):
            make(tmp_path, mask, 1.0, spacing=None)


def test_the_scan_of_a_case_that_its_mask_rules_out_is_not_read(tmp_path: Path) -> None:
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[5:10, 5:10, :5] = 1
    (tmp_path / "ct.nii.gz").write_text("no scan")
    for label, values, reason in (
        (mask, None, "the scan ends within"),
        (mask * 3, [2], "the structure is empty"),
        (np.pad(mask[5:7, 5:7, :2], 5), None, "too little"),
    ):
        with pytest.raises(UnusableCaseError, match=f"^{reason}"):
            prepare_case(
                "a case",
                tmp_path / "ct.nii.gz",
                save(tmp_path / "mask.nii.gz", label),
                values=values,
                patch_shape=(8, 8, 8),
                spacing=None,
                largest_cut=0.1,
                intensity=IntensityScale.ct,
            )


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), "much"])
def test_a_largest_cut_is_a_share(tmp_path: Path, wrong: object) -> None:
    (tmp_path / "s0/segmentations").mkdir(parents=True)
    (tmp_path / "s0/segmentations/aorta.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="^largest_cut must be between 0 and 1, or None"):
        totalsegmentator(
            tmp_path,
            "aorta",
            patch_shape=(8, 8, 8),
            largest_cut=wrong,  # type: ignore[arg-type]
            cache_dir=tmp_path / "c",
        )


def test_the_rule_says_its_numbers() -> None:
    assert "5 %" in rule(0.05)
    assert "27 voxels" in rule(0.05)
    assert "a voxel" in rule(None)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_volume_is_what_was_written(
    tmp_path: Path, kind: type[nibabel.Nifti1Image], suffix: str, order: str
) -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    header = kind.header_class(endianness=order)
    image = kind(array.astype(f"{order}i2"), np.diag([1, 2, 3, 1]), header)
    image.header.set_slope_inter(0.5, 10)
    image.to_filename(tmp_path / f"a{suffix}")
    data, spacing = read_volume(tmp_path / f"a{suffix}")
    assert data.dtype == np.float32
    np.testing.assert_array_equal(data, nibabel.load(tmp_path / f"a{suffix}").get_fdata())  # type: ignore[attr-defined]
    assert spacing == (1, 2, 3)


def test_a_file_may_be_compressed_in_several_members(tmp_path: Path) -> None:
    array = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)
    content = gzip.decompress(save(tmp_path / "a.nii.gz", array).read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content[:300]) + gzip.compress(content[300:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz")[0], array)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 99, (9, 9, 9)).astype(np.uint8)
    path = save(tmp_path / "a.nii.gz", array)
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnusableCaseError, match=r"^a file is unreadable: a\.nii\.gz"):
        read_volume(path)
