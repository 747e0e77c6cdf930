"""What a scan may cut of a structure, and what its patch has to show of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marginseg.data import totalsegmentator
from marginseg.data.dataset import RejectedCaseError
from marginseg.data.wholeness import check_patch, check_volume, cut_share, rule


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 6)] * 3), st.floats(0.05, 1))
def test_cut_share_counts_the_voxels_that_have_a_face_at_the_border(
    seed: int, shape: tuple[int, int, int], density: float
) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    places = list(zip(*np.nonzero(mask), strict=True))
    on_faces = [p for p in places if any(i in (0, n - 1) for i, n in zip(p, shape, strict=True))]
    assert cut_share(mask) == (len(on_faces) / len(places) if places else 0)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), "much"])
def test_a_largest_cut_is_a_share(tmp_path: Path, wrong: object) -> None:
    (tmp_path / "s0/segmentations").mkdir(parents=True)
    (tmp_path / "s0/segmentations/aorta.nii.gz").write_bytes(b"")
    with pytest.raises(
        ValueError, match="^largest_cut: expected a share from 0 to 1, or None, got "
    ):
        totalsegmentator(
            tmp_path,
            "aorta",
            patch_shape=(8, 8, 8),
            largest_cut=wrong,  # type: ignore[arg-type]
            cache_dir=tmp_path / "c",
        )


def test_a_volume_is_measured_or_refused() -> None:
    mask = np.zeros((6, 6, 6), bool)
    with pytest.raises(RejectedCaseError) as error:
        check_volume(mask, None, "aorta.nii.gz")
    assert str(error.value) == "the structure is empty: no voxel in aorta.nii.gz"
    mask[2:4, 2:4, 2:] = True
    assert check_volume(mask, None, "") == check_volume(mask, 0.25, "") == (16, 0.25)
    with pytest.raises(RejectedCaseError, match=r": 25 % of its voxels .*, at most 24 % are"):
        check_volume(mask, 0.24, "")


@pytest.mark.parametrize(("voxels", "largest_cut"), [(0, None), (26, 0.0), (26, 1.0)])
def test_a_patch_that_shows_too_little_is_refused(voxels: int, largest_cut: float | None) -> None:
    label = np.zeros((3, 4, 5), np.uint8)
    label.flat[:voxels] = 1
    with pytest.raises(RejectedCaseError) as error:
        check_patch(label, largest_cut)
    assert str(error.value) == (
        f"too little of the structure is in the patch: {voxels} of its voxels, "
        f"at least {voxels + 1} needed, in a patch of (3, 4, 5)"
    )
    label.flat[voxels] = 1
    check_patch(label, largest_cut)


def test_the_rule_says_its_numbers() -> None:
    assert "5 %" in rule(0.05, 3)
    assert "27 voxels" in rule(0.05, 3)
    assert "9 voxels" in rule(0.05, 2)
    assert "a voxel" in rule(None, 3)
