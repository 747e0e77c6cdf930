"""Arrays of .npz archives are what NumPy reads, or one line says what is wrong."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from marginseg.files.npz import keys, open_array


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", "<i2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_what_was_saved(tmp_path: Path, dtype: str, order: Any, save: Any) -> None:
    values = np.random.default_rng(0).normal(size=(3, 40, 50, 60))
    wanted = np.asarray(values * 100, dtype, order=order)
    save(tmp_path / "a.npz", other=np.zeros(3), probabilities=wanted)
    found = open_array(tmp_path / "a.npz", "probabilities")
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    read = found.read()
    assert read.dtype == wanted.dtype.newbyteorder("=")
    assert_array_equal(read, wanted)
    assert keys(tmp_path / "a.npz") == ["other", "probabilities"]


def test_what_is_smaller_than_a_piece_or_empty_is_read(tmp_path: Path) -> None:
    for shape in ((), (0,), (1,), (2, 0, 3)):
        np.savez(tmp_path / "a.npz", a=np.ones(shape))
        assert_array_equal(open_array(tmp_path / "a.npz", "a").read(), np.ones(shape))


class Shout:
    """What would be called by whoever unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was read",))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", probabilities=np.array([Shout()], dtype=object))
    with pytest.raises(ValueError, match=r"a\.npz: expected numbers .* got Python objects"):
        open_array(tmp_path / "a.npz", "probabilities")


def _refused(path: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        open_array(path, "a").read()
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _archive(path: Path, member: bytes, way: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", way) as archive:
        archive.writestr("a.npy", member)
    return path


def test_damaged_archives_are_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    whole = _archive(path, _npy(np.arange(10000.0))).read_bytes()
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        _refused(path, "whole .npz file")
    changed = bytearray(_archive(path, _npy(np.arange(10000.0)), zipfile.ZIP_STORED).read_bytes())
    changed[5000] ^= 1
    path.write_bytes(changed)
    _refused(path, "CRC")


def test_an_archive_whose_header_lies_is_refused_before_anything_is_allocated(
    tmp_path: Path,
) -> None:
    content = _npy(np.zeros(64, np.float32))
    # The header is padded: it keeps its length, which stands before it.
    more = content.replace(b"(64,), }" + b" " * 8, b"(64000000000,)}" + b" ")
    assert (len(more), more != content) == (len(content), True)
    negative = content.replace(b"(64,), }" + b" " * 8, b"(-8, -8,), }" + b" " * 4)
    for wrong in (more, negative, content[:-4], content + b"more"):
        _refused(_archive(tmp_path / "a.npz", wrong), "shape")


def test_a_directory_that_promises_more_than_deflate_can_give_is_refused(tmp_path: Path) -> None:
    shape = (1 << 29,)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    path = _archive(tmp_path / "a.npz", head.getvalue() + bytes(4096))
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, len(head.getvalue()) + 4 * shape[0])
    path.write_bytes(content)
    _refused(path, "can't be of shape")


def test_other_compressions_and_passwords_are_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "a.npz", _npy(np.ones(5)), zipfile.ZIP_LZMA)
    _refused(path, "deflate")
    content = bytearray(_archive(path, _npy(np.ones(5))).read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rfind(signature) + at] |= 1
    path.write_bytes(content)
    _refused(path, "encrypted")


def test_a_missing_array_and_a_missing_file_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", softmax=np.ones(3))
    _refused(tmp_path / "a.npz", re.escape("expected an array 'a', got 'softmax'"))
    with pytest.raises(FileNotFoundError, match=r"b\.npz"):
        open_array(tmp_path / "b.npz", "a")
