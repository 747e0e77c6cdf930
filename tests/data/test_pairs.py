"""A case from a scan and its label map, and the rule that leaves out what a scan has cut."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from marginseg.data import Case
from marginseg.data.dataset import RejectedCaseError, UnusableCaseError
from marginseg.data.intensity import IntensityScale
from marginseg.data.pairs import prepare_case
from marginseg.data.wholeness import cut_share

LONG = (30, 30, 100)


def save(path: Path, array: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 1.5, 1])), path)
    return path


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


def test_a_patch_of_two_axes_is_the_plane_that_holds_most(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scan = rng.integers(-200, 200, (20, 24, 7)).astype(np.int16)
    mask = np.zeros(scan.shape, np.uint8)
    mask[4:8, 5:9] = 1
    mask[10:15, 12:19, 3] = 1  # its centre of mass is not that of the volume
    case = prepare_case(
        "a case",
        save(tmp_path / "ct.nii.gz", scan),
        save(tmp_path / "mask.nii.gz", mask),
        values=None,
        patch_shape=(20, 24),
        spacing=None,
        largest_cut=0.0,
        intensity=IntensityScale.ct,
    )
    assert case.spacing == (1.5, 1.5)
    assert (case.voxels, case.cut) == (16 + 35, 0.0)
    # The patch is as large as the plane and is moved by whole voxels, to the centre of mass.
    rows, columns = np.nonzero(mask[..., 3])
    shift = tuple(
        round(float(axis.mean() - (size - 1) / 2)) for axis, size in ((rows, 20), (columns, 24))
    )
    assert shift == (0, 1)
    np.testing.assert_array_equal(case.label[:, :-1], mask[:, 1:, 3])
    expected = IntensityScale.ct()(scan[:, 1:, 3].astype(np.float32))
    np.testing.assert_array_equal(case.image[:, :-1], expected)


def test_a_plane_is_resampled_as_a_volume_of_equal_planes(tmp_path: Path) -> None:
    plane = np.hypot(*(np.indices((30, 26)) - 14)) < 9
    mask = np.repeat(plane[..., None], 40, axis=2)
    flat = make(tmp_path, mask, None, patch_shape=(16, 16), spacing=(2.5, 2.0))
    deep = make(tmp_path, mask, None, spacing=(2.5, 2.0, 1.5))
    assert flat.spacing == (2.5, 2.0)
    np.testing.assert_array_equal(flat.label, deep.label[..., 8])


def test_a_plane_needs_9_voxels_where_there_is_a_rule(tmp_path: Path) -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[8:11, 8:11, 5] = True
    changes = {"patch_shape": (16, 16), "spacing": None}
    assert make(tmp_path, mask, 1.0, **changes).label.sum() == 9
    mask[8, 8, 5] = False
    with pytest.raises(RejectedCaseError, match=r"too little .*: 8 of its voxels, at least 9"):
        make(tmp_path, mask, 1.0, **changes)
