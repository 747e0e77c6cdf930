from __future__ import annotations

import contextlib
import gzip
import os
import resource
import signal
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from marginseg.data import reading
from marginseg.files import nifti, voxels
from marginseg.files.labels import read_label

OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([-0.7, 1.3, -2.5]), [10.0, -20.5, 3.25]
)
AFFINES = {
    "identity": np.eye(4),
    "negative": np.diag([-2.0, -1.5, 3.0, 1.0]),
    "oblique": OBLIQUE,
    "sheared": np.array([[1, 0.2, 0, 5], [0, 2, 0.1, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]]),
}


def save(
    path: Path, data: np.ndarray, affine: np.ndarray | None = None, *, kind: Any = None
) -> Path:
    image = (kind or nibabel.Nifti1Image)(data, np.eye(4) if affine is None else affine)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_geometry_survives(tmp_path: Path, affine: np.ndarray, kind: Any, suffix: str) -> None:
    image = kind(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
    image.set_qform(affine, 1, strip_shears=True)
    image.set_sform(affine, 3)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"left as it was"
    image.header["cal_max"] = 1000
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    source = tmp_path / f"in{suffix}"
    nibabel.save(image, source)

    mask = np.random.default_rng(0).random((3, 4, 5)) < 0.5
    nifti.write(tmp_path / f"out{suffix}", mask, nifti.open_volume(source))

    written = nibabel.load(tmp_path / f"out{suffix}")
    expected = nibabel.load(source)
    assert isinstance(written, kind)
    assert_array_equal(np.asanyarray(written.dataobj), mask.astype(np.uint8))
    assert written.get_data_dtype() == np.uint8
    assert_array_equal(written.affine, expected.affine)
    assert_array_equal(written.header.get_qform(), expected.header.get_qform())
    for field in ("qform_code", "sform_code", "pixdim", "xyzt_units", "descrip"):
        assert_array_equal(written.header[field], expected.header[field])
    assert written.header["cal_max"] == 0
    assert written.header.extensions[0].get_content() == b"kept"


@pytest.mark.parametrize("codes", [(0, 2), (1, 0), (0, 0)])
def test_form_codes_survive(tmp_path: Path, codes: tuple[int, int]) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), None)
    image.set_qform(np.diag([-2.0, 3, 4, 1]), codes[0])
    image.set_sform(np.diag([-2.0, 3, 4, 1]), codes[1])
    nibabel.save(image, tmp_path / "in.nii")
    volume = nifti.open_volume(tmp_path / "in.nii")
    nifti.write(tmp_path / "out.nii", np.ones((3, 4, 5), np.float32), volume)
    written, expected = (nibabel.load(tmp_path / name) for name in ("out.nii", "in.nii"))
    assert (written.header["qform_code"], written.header["sform_code"]) == codes
    assert_array_equal(written.affine, expected.affine)
    assert written.get_data_dtype() == np.float32


@given(
    dtype=st.sampled_from([np.uint8, np.int16, np.int32, np.float32, np.float64]),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    order=st.sampled_from(["<", ">"]),
)
def test_arrays_survive(
    tmp_path_factory: pytest.TempPathFactory, dtype: type, shape: list[int], order: str
) -> None:
    folder = tmp_path_factory.mktemp("volume")
    data = np.random.default_rng(1).integers(0, 120, shape).astype(np.dtype(dtype))
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4), header), folder / "in.nii.gz")
    volume = nifti.open_volume(folder / "in.nii.gz")
    assert volume.read().dtype == np.dtype(dtype)
    assert_array_equal(volume.read(), data)
    nifti.write(folder / "out.nii.gz", volume.read(), volume)
    written = nibabel.load(folder / "out.nii.gz")
    assert_array_equal(np.asanyarray(written.dataobj), data)


def test_a_channel_axis_can_be_added(tmp_path: Path) -> None:
    volume = nifti.open_volume(save(tmp_path / "in.nii", np.ones((3, 4, 5), np.uint8), OBLIQUE))
    nifti.write(tmp_path / "out.nii.gz", np.ones((3, 4, 5, 2), np.float32), volume)
    written = nibabel.load(tmp_path / "out.nii.gz")
    assert written.shape == (3, 4, 5, 2)
    np.testing.assert_allclose(written.affine, OBLIQUE, atol=1e-6)
    np.testing.assert_allclose(written.header.get_zooms(), [0.7, 1.3, 2.5, 1.0], rtol=1e-6)


def test_spacing_is_in_millimetres(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.diag([-500, 250, 1000, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "in.nii")
    assert nifti.open_volume(tmp_path / "in.nii").spacing == (0.5, 0.25, 1.0)


def contradicting(path: Path, unit: str = "mm", shape: tuple[int, ...] = (4, 5, 6)) -> Path:
    """Save a label whose pixdim says another voxel size than its oblique sform."""
    label = np.zeros(shape, np.uint8)
    label[1:3, 2:4] = 1
    image = nibabel.Nifti1Image(label, OBLIQUE)
    image.set_sform(OBLIQUE, 1)
    image.set_qform(None, 0)
    image.header.set_xyzt_units(unit)
    image.header["pixdim"][1:4] = 3.0
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[76 + 4 : 76 + 16] = np.full(3, 3.0, "<f4").tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("unit", "millimetres"), [("mm", 1.0), ("meter", 1e3), ("micron", 1e-3)])
def test_the_voxel_size_is_that_of_the_affine_for_all_readers(
    tmp_path: Path, unit: str, millimetres: float
) -> None:
    path = contradicting(tmp_path / "in.nii", unit)
    assert nibabel.load(path).header.get_zooms() == (3, 3, 3)
    expected = np.array([0.7, 1.3, 2.5]) * millimetres
    np.testing.assert_allclose(nifti.open_volume(path).spacing, expected, rtol=1e-6)
    for read in (reading.read_volume, reading.read_label):
        np.testing.assert_allclose(read(path)[1], expected, rtol=1e-6)
    plane = contradicting(tmp_path / "plane.nii", unit, (4, 5))
    np.testing.assert_allclose(nifti.open_volume(plane).spacing, expected[:2], rtol=1e-6)


def test_without_an_affine_the_voxel_size_is_the_pixdim(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((2, 3, 4), np.uint8), None)
    image.header.set_zooms((0.5, 1.5, 4.0))
    nibabel.save(image, tmp_path / "in.nii")
    assert nifti.open_volume(tmp_path / "in.nii").spacing == (0.5, 1.5, 4.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.float32, np.float64])
def test_labels_of_any_dtype(tmp_path: Path, dtype: type) -> None:
    data = np.array([[0, 1], [2, 100]], dtype)
    label = read_label(save(tmp_path / "in.nii.gz", data))
    assert label.data.dtype == np.uint8
    assert_array_equal(label.data, data)


def test_scaled_labels_are_read_scaled(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.array([[0, 2], [4, 6]], np.uint8), np.eye(4))
    image.header.set_slope_inter(0.5, 1.0)
    nibabel.save(image, tmp_path / "in.nii")
    expected = nibabel.load(tmp_path / "in.nii").get_fdata()
    assert_array_equal(read_label(tmp_path / "in.nii").data, expected)


def test_large_labels_take_a_wider_dtype(tmp_path: Path) -> None:
    wide = read_label(save(tmp_path / "a.nii", np.array([0, 14175], np.float32)))
    assert wide.data.dtype == np.int16
    wider = read_label(save(tmp_path / "b.nii", np.array([0, 2**31 - 1], np.float64)))
    assert wider.data.dtype == np.int32
    assert wider.data.max() == 2**31 - 1


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e12])
def test_what_is_no_label_is_refused(tmp_path: Path, value: float) -> None:
    path = save(tmp_path / "in.nii", np.array([0, 1, value]))
    with pytest.raises(ValueError, match="labels"):
        read_label(path)


@pytest.mark.parametrize("name", ["in.nii", "in.nii.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, name: str, kept: float) -> None:
    data = np.random.default_rng(0).integers(0, 9, (20, 20, 20), np.int16)
    path = save(tmp_path / name, data)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match="expected a whole"):
        nifti.open_volume(path).read()


def test_a_flipped_bit_in_a_compressed_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "in.nii.gz", np.zeros((20, 20, 20), np.int16))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected a whole"):
        nifti.open_volume(path).read()


@pytest.mark.parametrize("content", [b"hello, world", b"\x1f\x8bnonsense", b"\0" * 1000])
def test_what_is_no_nifti_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.nii.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"in\.nii\.gz: expected a whole"):
        nifti.open_volume(path).read()


@given(place=st.integers(0, 347), value=st.integers(0, 255))
def test_a_damaged_header_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "in.nii"
    content = bytearray(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_bytes())
    content[place] = value
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert nifti.open_volume(path).read().size


def test_colours_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ValueError, match="real numbers"):
        nifti.open_volume(save(tmp_path / "in.nii", rgb)).read()


def test_missing_files_are_oserrors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        nifti.open_volume(tmp_path / "none.nii").read()
    with pytest.raises(IsADirectoryError):
        nifti.open_volume(tmp_path).read()


@pytest.mark.parametrize("name", ["out.txt", ".nii.gz", "out", "out.nii.bz2"])
def test_output_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.nii or \.nii\.gz"):
        nifti.check_output(tmp_path / name)


def test_output_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="existing folder"):
        nifti.check_output(tmp_path / "none" / "out.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(IsADirectoryError):
        nifti.check_output(tmp_path / "folder.nii")
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError):
            nifti.check_output(tmp_path / "out.nii")
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    volume = nifti.open_volume(save(tmp_path / name, np.ones((3, 4, 5), np.uint8)))
    before = (tmp_path / name).read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 50), np.uint8)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            nifti.write(tmp_path / name, noise, volume)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    volume = nifti.open_volume(save(tmp_path / "in.nii.gz", np.ones((3, 4, 5), np.uint8)))
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write(tmp_path / name, volume.read(), volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    with gzip.open(tmp_path / "a.nii.gz") as file:
        assert len(file.read()) == 352 + 60


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    volume = nifti.open_volume(save(tmp_path / "target.nii", np.ones((3, 4, 5), np.uint8)))
    (tmp_path / "link.nii").symlink_to(tmp_path / "target.nii")
    nifti.write(tmp_path / "link.nii", np.zeros((3, 4, 5), np.uint8), volume)
    assert (tmp_path / "link.nii").is_symlink()
    assert not nibabel.load(tmp_path / "target.nii").get_fdata().any()


@given(
    dtype=st.sampled_from(["<u1", "<i2", ">f4", "<f8"]),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    piece=st.integers(8, 200),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    data=st.data(),
)
def test_pieces_are_the_values_in_the_file_s_order(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    shape: list[int],
    piece: int,
    suffix: str,
    data: st.DataObject,
) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    header = nibabel.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(np.dtype(dtype))
    path = tmp_path_factory.mktemp("pieces") / f"in{suffix}"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4), header), path)
    flat = values.ravel(order="F")
    begin = data.draw(st.integers(0, flat.size - 1))
    end = data.draw(st.integers(begin + 1, flat.size))
    file = nifti.open_volume(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voxels, "PIECE", piece)
        found = [part.copy() for part in file.pieces(begin, end)]
        assert_array_equal(file.read(), values)
    assert_array_equal(np.concatenate(found), flat[begin:end])
    assert file.read().flags.f_contiguous


def test_what_is_not_compressed_is_mapped(tmp_path: Path) -> None:
    path = save(tmp_path / "in.nii", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    before = path.read_bytes()
    data = nifti.open_volume(path).read()
    assert isinstance(data.base, np.memmap) or isinstance(data, np.memmap)
    data[0, 0, 0] = 7
    del data
    assert path.read_bytes() == before
