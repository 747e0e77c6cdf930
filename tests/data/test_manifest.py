"""The manifest says what is prepared, and finds what has changed since."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from marginseg.data import manifests, phantom, read_manifest, totalsegmentator, verify

PATCH = (8, 8, 8)


@pytest.fixture
def subjects(tmp_path: Path) -> Path:
    """Three subjects; the second's aorta ends where the scan does."""
    root = tmp_path / "a download"
    for i in range(3):
        mask = np.zeros((12, 12, 12), np.uint8)
        mask[4:8, 4:8, :4] = 1
        mask = np.roll(mask, 0 if i == 1 else 4, 2)
        folder = root / f"s{i:04d}" / "segmentations"
        folder.mkdir(parents=True)
        affine = np.diag([1.5, 1.5, 1.5, 1])
        nibabel.save(nibabel.Nifti1Image(mask, affine), folder / "aorta.nii.gz")
        scan = nibabel.Nifti1Image(mask.astype(np.int16) * 100 + i, affine)
        nibabel.save(scan, folder.parent / "ct.nii.gz")
    return root


def test_it_says_what_is_there(subjects: Path, tmp_path: Path) -> None:
    data = totalsegmentator(
        subjects, "aorta", patch_shape=PATCH, largest_cut=0.1, cache_dir=tmp_path / "c"
    )
    assert manifests(tmp_path / "c") == [data.manifest]
    content = json.loads((tmp_path / "c" / manifests(tmp_path / "c")[0].name).read_text())
    assert content["structure"] == "aorta"
    assert content["directory"] == str(subjects)
    assert content["parameters"] == {
        "data": "totalsegmentator",
        "modality": "CT",
        "largest_cut": 0.1,
        "patch_shape": [8, 8, 8],
        "spacing": None,
        "max_cases": None,
    }
    assert "At most 10 % of the structure's voxels" in content["rule"]
    (skipped,) = content["skipped"]
    assert skipped["name"] == "s0001"
    assert "25 % of its voxels" in skipped["reason"]
    for name, case in zip(("s0000", "s0002"), content["cases"], strict=True):
        entry = (tmp_path / "c" / case["file"]).read_bytes()
        assert case["name"] == name
        assert case["sha256"] == hashlib.sha256(entry).hexdigest()
        assert (case["voxels"], case["patch_voxels"], case["cut"]) == (64, 64, 0)
        assert case["spacing"] == [1.5, 1.5, 1.5]
        files = [f"{name}/ct.nii.gz", f"{name}/segmentations/aorta.nii.gz"]
        assert [source["file"] for source in case["sources"]] == files
        for source in case["sources"]:
            assert source["bytes"] == (subjects / source["file"]).stat().st_size
            assert source["mtime_ns"] == (subjects / source["file"]).stat().st_mtime_ns


def test_one_that_says_the_same_is_left_alone(subjects: Path, tmp_path: Path) -> None:
    def prepared(**settings: float) -> Path:
        data = totalsegmentator(
            subjects, "aorta", patch_shape=PATCH, cache_dir=tmp_path / "c", **settings
        )
        assert data.manifest is not None
        return data.manifest

    first = prepared()
    before = first.stat()
    assert prepared() == first
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    others = {prepared(largest_cut=0.1), prepared(largest_cut=0.2), prepared(spacing=3.0)}
    assert len(others | {first}) == len(manifests(tmp_path / "c")) == 4


def test_it_finds_what_has_changed(tmp_path: Path) -> None:
    manifest = phantom("tube", cases=4, patch_shape=PATCH, cache_dir=tmp_path).manifest
    assert manifest is not None
    assert verify(manifest) == []
    files = [tmp_path / case["file"] for case in read_manifest(manifest)["cases"]]
    content = bytearray(files[1].read_bytes())
    content[-1] ^= 1
    files[1].write_bytes(content)
    files[2].unlink()
    files[3].unlink()
    files[3].mkdir()
    wrong = verify(manifest)
    assert [name for name, _ in wrong] == ["phantom_001", "phantom_002", "phantom_003"]
    assert wrong[0][1] == f"{files[1].name} has changed"
    assert wrong[1][1] == f"{files[2].name} is missing"
    assert wrong[2][1].startswith(f"{files[3].name} is unreadable")
    files[3].rmdir()
    assert phantom("tube", cases=4, patch_shape=PATCH, cache_dir=tmp_path).manifest == manifest
    assert verify(manifest) == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"format": 1}', '{"format": 1, "cases": [{"file": "a"}]}', "\x00"),
        "[" * 100_000,
        '{"format": 1, "cases": []}',
        '{"format": 1, "structure": 7, "cases": []}',
        '{"format": 1, "structure": "a", "cases": [{"name": 1, "file": "a", "sha256": "b"}]}',
        '{"format": 1, "structure": "a", "cases": [{"name": "a", "file": ["a"], "sha256": "b"}]}',
    ],
)
def test_a_damaged_one_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest-a-0.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match="manifest-a-0.json: expected a manifest, got a damaged or another file$"
    ):
        verify(path)


def test_another_format_or_files_elsewhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest-a-0.json"
    path.write_text('{"format": 2, "cases": []}')
    with pytest.raises(ValueError, match="expected a manifest of format 1, got 2"):
        verify(path)
    path.write_text('{"format": "2\\n3", "cases": []}')
    with pytest.raises(ValueError, match=r"expected a manifest of format 1, got '2\\n3'$"):
        verify(path)
    case = '{"name": "a", "file": "../secret", "sha256": ""}'
    path.write_text(f'{{"format": 1, "structure": "a", "cases": [{case}]}}')
    with pytest.raises(ValueError, match="names of files beside it"):
        verify(path)
