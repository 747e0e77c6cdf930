"""Arrays in .npz archives: read into the memory that they need, and never as pickles."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from marginseg.files.gzipped import LARGEST_EXPANSION

#: Bytes that are inflated at a time.
PIECE: Final = 1 << 20

#: What NumPy itself writes; others need libraries that a Python may lack.
KINDS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class ArchivedArray:
    """An array of an archive whose header has been read, and whose values have not.

    Attributes:
        path: The archive.
        key: The array's name in it.
        shape: The array's shape.
        dtype: Its dtype as stored, byte order included.
        fortran: Whether its first axis is the fastest.
        offset: Where its values begin within the member.

    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    def read(self) -> NDArray[Any]:
        """Return the values in the machine's byte order, in the order of axes that is stored.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is truncated or damaged; its checksum has been compared.

        """
        values: NDArray[Any] = np.empty(math.prod(self.shape), self.dtype)
        view = memoryview(cast(Any, values.view(np.uint8)))
        with _member(self.path, self.key) as member:
            _skip(member, self.offset)
            while view:
                piece = member.read(min(PIECE, len(view)))
                if not piece:
                    raise EOFError("it ends before its last value")
                view[: len(piece)] = piece
                view = view[len(piece) :]
        native = values.astype(self.dtype.newbyteorder("="), copy=False)
        return native.reshape(self.shape, order="F" if self.fortran else "C")


def keys(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of an archive's arrays, in its order.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is no archive.

    """
    with _archive(Path(path)) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def open_array(path: str | os.PathLike[str], key: str) -> ArchivedArray:
    """Read the header of an array in an ``.npz`` file, as NumPy's savez and savez_compressed write.

    What its bytes cannot hold is refused at once, before anything is allocated.

    Args:
        path: The archive.
        key: The array's name.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is no archive, damaged or encrypted, has no such array, or the array is made
            of Python objects: those would have to be unpickled, which runs what a file says.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez_compressed(f"{folder}/a.npz", probabilities=np.ones((2, 3), np.float32))
        ...     array = open_array(f"{folder}/a.npz", "probabilities")
        ...     array.shape, array.dtype.name, float(array.read().sum())
        ((2, 3), 'float32', 6.0)

    """
    path = Path(path)
    found = keys(path)
    if key not in found:
        there = ", ".join(repr(name) for name in found[:5]) or "none"
        raise ValueError(f"{path}: expected an array {key!r}, got {there:.200}")
    with _member(path, key) as member:
        version = npy.read_magic(member)
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(member)
        else:
            shape, fortran, dtype = npy.read_array_header_2_0(member)
        offset = member.tell()
    if dtype.hasobject:
        raise ValueError(
            f"{path}: expected numbers in {key!r}, got Python objects, which are never unpickled"
        )
    with _archive(path) as archive:
        info = archive.getinfo(f"{key}.npy")
    if min(shape, default=0) < 0:
        raise _broken(path, f"its {key!r} has the shape {shape}")
    promised = offset + math.prod(shape) * dtype.itemsize
    held = info.compress_size
    if info.compress_type == zipfile.ZIP_DEFLATED:
        held *= LARGEST_EXPANSION
    if promised != info.file_size or promised > held:
        raise _broken(path, f"its {info.file_size} bytes of {key!r} can't be of shape {shape}")
    return ArchivedArray(path, key, tuple(shape), dtype, bool(fortran), offset)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; what is wrong with its bytes becomes one line."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                if sum(info.compress_size for info in archive.infolist()) > size:
                    raise zipfile.BadZipFile("its members are longer than the file")
                yield archive
        except ValueError as error:
            if str(error).startswith(f"{path}: "):
                raise
            raise _broken(path, error) from error
        except OSError as error:
            if error.filename is not None:
                raise
            raise _broken(path, error) from error
        except Exception as error:
            # zipfile, zlib and NumPy have a dozen ways to say that bytes are no such archive.
            raise _broken(path, error) from error


@contextmanager
def _member(path: Path, key: str) -> Iterator[IO[bytes]]:
    with _archive(path) as archive:
        info = archive.getinfo(f"{key}.npy")
        if info.compress_type not in KINDS:
            raise ValueError(f"{path}: expected deflate or no compression, got another in {key!r}")
        with archive.open(info) as member:
            yield member


def _skip(member: IO[bytes], count: int) -> None:
    while count:
        taken = len(member.read(min(count, PIECE)))
        if not taken:
            raise EOFError("it ends before its first value")
        count -= taken


def _broken(path: Path, reason: object) -> ValueError:
    said = " ".join(str(reason).split()) or type(reason).__name__
    return ValueError(f"{path}: expected a whole .npz file, but {said[:200]}")
