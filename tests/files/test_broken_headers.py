"""Headers that are damaged or lie: whoever reads the file names it, and allocates nothing."""

from __future__ import annotations

import contextlib
import gzip
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from marginseg.data import reading
from marginseg.data.dataset import UnusableCaseError
from marginseg.files import nifti
from marginseg.files.labels import read_label
from marginseg.files.probabilities import open_probabilities


def channels(path: Path) -> list[float]:
    """The sums of a map's channels, read as `marginseg threshold` reads them."""
    probabilities = open_probabilities(path).each(room=1 << 30)
    return [sum(float(piece.sum()) for piece in channel) for channel in probabilities]


#: All that read a NIfTI file, and what they raise.
READERS: list[tuple[Callable[[Path], Any], type[Exception]]] = [
    (lambda path: nifti.open_volume(path).read(), ValueError),
    (lambda path: list(nifti.open_volume(path).pieces()), ValueError),
    (read_label, ValueError),
    (channels, ValueError),
    (reading.read_volume, UnusableCaseError),
    (reading.read_label, UnusableCaseError),
]


def edited(path: Path, edit: Callable[[Any], None]) -> Path:
    """Write a volume whose header is edited after nibabel has made it right."""
    image = nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.diag([1, 2, 3, 1]))
    image.set_qform(np.diag([1, 2, 3, 1]), 1)
    header = image.header
    header["vox_offset"] = 352
    edit(header)
    path.write_bytes(header.binaryblock + bytes(4) + bytes(np.ones(60, np.uint8)))
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("field", "place", "named"),
    [
        ("srow_x", 1, "sform"),
        ("srow_z", 3, "sform"),
        ("qoffset_y", (), "qform"),
        ("quatern_b", (), "qform"),
        ("pixdim", 2, "voxel size"),
    ],
)
def test_a_place_that_is_not_finite_is_refused(
    tmp_path: Path, field: str, place: Any, named: str, value: float
) -> None:
    def edit(header: Any) -> None:
        if named == "voxel size":
            header["qform_code"] = 0  # which has the voxel sizes, too
        header[field][place] = value

    path = edited(tmp_path / "in.nii", edit)
    with pytest.raises(ValueError, match=r"in\.nii: expected ") as error:
        nifti.open_volume(path)
    # Of an infinite quaternion nibabel itself says that it is none.
    assert named in str(error.value) or field == "quatern_b"
    assert "\n" not in str(error.value)
    for read, kind in READERS:
        with pytest.raises(kind, match=r"in\.nii(: | \()expected "):
            read(path)


def test_what_a_header_does_not_use_may_be_anything(tmp_path: Path) -> None:
    def edit(header: Any) -> None:
        header["qform_code"] = 0
        header["qoffset_y"] = np.nan

    volume = nifti.open_volume(edited(tmp_path / "in.nii", edit))
    assert_array_equal(volume.affine, np.diag([1, 2, 3, 1]))


@pytest.mark.parametrize(
    ("code", "spacing"),
    [(0, (1, 2, 3)), (1, (1000, 2000, 3000)), (2, (1, 2, 3)), (2 | 8, (1, 2, 3)), (2 | 248, None)],
)
def test_units_of_length(tmp_path: Path, code: int, spacing: tuple[float, ...] | None) -> None:
    """The unit of time stands in the same byte, and says nothing of the length."""
    path = edited(tmp_path / "in.nii", lambda header: header["xyzt_units"].put(0, code))
    assert nifti.open_volume(path).spacing == (spacing or (1, 2, 3))


@pytest.mark.parametrize("code", [4, 7, 255])
def test_an_unknown_unit_of_length_is_refused(tmp_path: Path, code: int) -> None:
    path = edited(tmp_path / "in.nii", lambda header: header["xyzt_units"].put(0, code))
    expected = rf"in\.nii: expected a unit of length, got the code {code & 7}$"
    with pytest.raises(ValueError, match=expected):
        nifti.open_volume(path)


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_complex_numbers_are_refused_and_no_part_is_dropped(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "in.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), 1 + 2j, kind), np.eye(4)), path)
    for read, error in READERS:
        with pytest.raises(error, match=r"in\.nii\.gz(: | \()expected real numbers, got .*complex"):
            read(path)


def test_links_that_lead_round_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to(tmp_path / "b.nii")
    (tmp_path / "b.nii").symlink_to(tmp_path / "a.nii")
    for refusing in (nifti.check_output, nifti.open_volume):
        with pytest.raises(OSError, match="symbolic links") as error:
            refusing(tmp_path / "a.nii")
        assert error.value.filename == str(tmp_path / "a.nii")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "b.nii"]


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, kind: type) -> None:
    # The header speaks of 1000 voxels, and 8.6 GB follow, in members of 16 KB each.
    head = nibabel.Nifti1Image(np.zeros((10, 10, 10), kind), np.eye(4)).to_bytes()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(head) + 512 * gzip.compress(bytes(1 << 24)))
    assert path.stat().st_size < 9_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read, error in READERS:
        with pytest.raises(error, match=r"bomb\.nii\.gz(: | \()expected a whole .* goes on after"):
            read(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000  # kilobytes


@pytest.mark.parametrize(("field", "value"), [("sform_code", 512), ("datatype", 12345)])
def test_what_nibabel_mends_or_misses_is_not_printed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, value: int
) -> None:
    """Whoever calls a command expects one line at most, with the file in it."""

    def edit(header: Any) -> None:
        header[field] = value

    path = edited(tmp_path / "in.nii", edit)
    with contextlib.suppress(ValueError):
        nifti.open_volume(path)
    assert caplog.messages == []


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_too_much_is_refused_at_once(tmp_path: Path, suffix: str) -> None:
    image = nibabel.Nifti1Image(np.zeros((10, 10, 10), np.float32), np.eye(4))
    image.header.set_data_shape((10000, 10000, 10000))
    image.header["vox_offset"] = 352
    content = image.header.binaryblock + bytes(4004)
    path = tmp_path / f"liar{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(ValueError, match=r"can't hold the 4000000000352 that its header promises"):
        nifti.open_volume(path)
