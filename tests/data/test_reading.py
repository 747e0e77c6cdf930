"""A volume is read as it was written, or its file is named with what is wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from marginseg.data.dataset import UnusableCaseError, by_reason
from marginseg.data.reading import read_label, read_volume


def save(path: Path, array: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 1.5, 1])), path)
    return path


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


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_a_label_keeps_its_dtype_and_has_whole_numbers(
    tmp_path: Path, dtype: type[np.generic]
) -> None:
    values = np.random.default_rng(0).integers(0, 9, (4, 5, 6))
    stored = values.astype(dtype)
    if stored.dtype.kind == "f":
        stored += dtype(0.3)
    data, spacing = read_label(save(tmp_path / "a.nii.gz", stored))
    assert data.dtype == dtype
    np.testing.assert_array_equal(data, values)
    assert spacing == (1.5, 1.5, 1.5)


@pytest.mark.parametrize("read", [read_volume, read_label])
def test_an_image_of_two_axes_is_a_plane(
    tmp_path: Path, read: Callable[[Path], tuple[np.ndarray, object]]
) -> None:
    values = np.arange(30, dtype=np.int16).reshape(5, 6)
    data, spacing = read(save(tmp_path / "a.nii", values))
    np.testing.assert_array_equal(data, values[..., None])
    assert spacing == (1.5, 1.5, 1.5)


@pytest.mark.parametrize("read", [read_volume, read_label])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 5, 2, 2)])
def test_other_numbers_of_axes_are_refused(
    tmp_path: Path, shape: tuple[int, ...], read: Callable[[Path], object]
) -> None:
    path = save(tmp_path / "a.nii", np.zeros(shape, np.uint8))
    with pytest.raises(UnusableCaseError) as error:
        read(path)
    assert str(error.value) == (
        f"a file is no volume: a.nii: expected 2 or 3 axes, or 4 with channels last, got {shape}"
    )
    ((name, details),) = by_reason([("a case", str(error.value))])["a file is no volume"]
    assert (name, details.partition(":")[0]) == ("a case", "a.nii")


def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.complex64))
    with pytest.raises(UnusableCaseError, match=r"^a file is unreadable: a\.nii .*complex64"):
        read_label(path)
