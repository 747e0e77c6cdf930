"""What is written, Python's own gzip reads; what is read, Python's own gzip has written."""

from __future__ import annotations

import gzip
import importlib
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(params=["fastest", "python"])
def gzipped(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module, with the library that is here and without it."""
    name = "marginseg.files.gzipped"
    before = importlib.import_module(name)
    if request.param == "fastest":
        yield before
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "isal", None)
        patch.delitem(sys.modules, name)
        yield importlib.import_module(name)
    assert sys.modules[name] is before


@pytest.mark.parametrize("block", [7, 1 << 20])
@given(parts=st.lists(st.binary(max_size=40), max_size=6))
def test_what_is_written_is_one_member(parts: list[bytes], block: int) -> None:
    module = importlib.import_module("marginseg.files.gzipped")
    content = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        file = io.BytesIO()
        with module.GzipWriter(file) as stream:
            for part in parts:
                stream.write(part)
    written = file.getvalue()
    decompressor = zlib.decompressobj(31)
    assert decompressor.decompress(written) == content
    assert decompressor.eof
    assert decompressor.unused_data == b""


def test_many_blocks(gzipped: ModuleType, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4, 5_000_000, np.uint8)
    contents = []
    for pieces in (1, 3):
        file = io.BytesIO()
        with gzipped.GzipWriter(file) as stream:
            for piece in np.array_split(values, pieces):
                stream.write(piece)
        contents.append(file.getvalue())
    assert contents[0] == contents[1]
    assert gzip.decompress(contents[0]) == values.tobytes()
    path = tmp_path / "a.gz"
    path.write_bytes(contents[0])
    with gzipped.open_gzip(path) as stream:
        assert stream.read() == values.tobytes()


def test_an_error_ends_the_threads_and_not_the_stream(gzipped: ModuleType) -> None:
    file = io.BytesIO()

    def write() -> None:
        with gzipped.GzipWriter(file) as stream:
            stream.write(bytes(3_000_000))
            raise KeyError

    with pytest.raises(KeyError):
        write()
    with pytest.raises(EOFError):
        gzip.decompress(file.getvalue())


def test_what_is_damaged_is_found(gzipped: ModuleType, tmp_path: Path) -> None:
    content = bytearray(gzip.compress(bytes(range(256)) * 1000))
    path = tmp_path / "a.gz"
    for damaged in (content[:-3], content[:200], content[:5], b"\x1f\x8b\x08garbage at the end"):
        path.write_bytes(damaged)
        with gzipped.open_gzip(path) as stream, pytest.raises(gzipped.DAMAGED):
            stream.read()
    content[-6] ^= 1
    path.write_bytes(content)
    with gzipped.open_gzip(path) as stream, pytest.raises(gzipped.DAMAGED):
        stream.read()
