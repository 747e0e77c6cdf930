"""The voxels of a NIfTI file as a stream, whatever it holds and however it ends."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from marginseg.files.gzipped import DAMAGED, open_gzip

#: Bytes that are read at a time.
PIECE: Final = 1 << 24

#: So much may stand before the voxels (extensions of the header), and after them.
LARGEST_MARGIN: Final = 1 << 26


@dataclass(frozen=True)
class Stored:
    """Where the voxels of a file are, and how they are stored.

    Attributes:
        path: The file.
        stored: The dtype, byte order included.
        slope: What stored values are multiplied with, or None.
        intercept: What is then added, or None.
        offset: Where in the (decompressed) file the voxels begin.
        compressed: Whether it is a gzip file.

    """

    path: Path
    stored: np.dtype[Any]
    slope: float | None
    intercept: float | None
    offset: int
    compressed: bool


class VoxelStream:
    """Voxels in the file's order."""

    def __init__(self, file: Stored, stream: BinaryIO) -> None:
        self._file = file
        self._stream = stream

    def fill(self, target: NDArray[Any]) -> None:
        """Read as many voxels as a contiguous array has, scaled as the header says.

        Raises:
            ValueError: The file ends before.

        """
        file = self._file
        if file.slope is None and file.stored == target.dtype:
            self._fill_bytes(target)
            return
        count = max(1, PIECE // 8)  # as float64, while they are scaled
        buffer = np.empty(min(count, target.size), file.stored)
        for begin in range(0, target.size, count):
            part = target[begin : begin + count]
            stored = buffer[: part.size]
            self._fill_bytes(stored)
            part[:] = self._scaled(stored)

    def pieces(self, size: int, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Yield the next ``size`` voxels, some at a time; a thread reads the next piece meanwhile.

        A piece keeps its values until the next is asked for.
        """
        count = max(1, min(size, PIECE // dtype.itemsize))
        sizes = [min(count, size - start) for start in range(0, size, count)]
        buffers = itertools.cycle([np.empty(count, dtype), np.empty(count, dtype)])

        def read(size: int) -> NDArray[Any]:
            piece = next(buffers)[:size]
            self.fill(piece)
            return piece

        with ThreadPoolExecutor(1) as reader:
            pending = reader.submit(read, sizes[0])
            for following in (*sizes[1:], 0):
                piece = pending.result()
                if following:
                    pending = reader.submit(read, following)
                yield piece

    def finish(self, voxels_left: int) -> None:
        """Read to the end of a gzip file: its checksum stands there.

        Raises:
            ValueError: The file goes on after its voxels.

        """
        if not self._file.compressed:
            return
        skip(self._stream, voxels_left * self._file.stored.itemsize)
        left = LARGEST_MARGIN
        while taken := len(self._stream.read(1 << 16)):
            left -= taken
            if left < 0:
                raise broken(self._file.path, "it goes on after its last voxel")

    def _fill_bytes(self, target: NDArray[Any]) -> None:
        view = memoryview(cast(Any, target)).cast("B")
        while len(view):
            count = self._stream.readinto(view[:PIECE])  # type: ignore[attr-defined]
            if not count:
                raise broken(self._file.path, "it ends before its last voxel")
            view = view[count:]

    def _scaled(self, stored: NDArray[Any]) -> NDArray[Any]:
        if self._file.slope is None:
            return stored
        values = stored.astype(np.float64)
        values *= self._file.slope
        if self._file.intercept:
            values += self._file.intercept
        return values


@contextmanager
def opened(file: Stored, voxel: int = 0) -> Iterator[VoxelStream]:
    """Open a file at a voxel; what is wrong with its bytes becomes one line."""
    position = file.offset + voxel * file.stored.itemsize
    with open_gzip(file.path) if file.compressed else file.path.open("rb", 0) as stream:
        try:
            if file.compressed:
                skip(stream, position)
            else:
                stream.seek(position)
            yield VoxelStream(file, stream)
        except DAMAGED as error:
            raise broken(file.path, error) from error


def skip(stream: BinaryIO, count: int) -> None:
    """Read some bytes and forget them."""
    while count:
        taken = len(stream.read(min(count, 1 << 20)))
        if not taken:
            raise EOFError("it ends before its last voxel")
        count -= taken


def broken(path: str | os.PathLike[str], reason: object) -> ValueError:
    """Return the error of a file that is no whole NIfTI file."""
    said = " ".join(str(reason).split()) or type(reason).__name__
    return ValueError(f"{Path(path)}: expected a whole .nii or .nii.gz file, but {said[:200]}")
