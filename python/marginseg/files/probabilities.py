"""Probability maps in NIfTI files, gone through channel by channel without holding them whole.

A file stores its channels one after another, so a channel is a run of voxels. t* needs sums and
counts over them, in any order, and some passes. What is not compressed is read again for each pass;
a compressed channel is kept in memory, unless it has no room there: then it is decompressed again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from marginseg.files.nifti import VolumeFile, open_volume
from marginseg.files.voxels import PIECE, VoxelStream, opened

#: So many voxels are held, or left out because they are 0, together.
BLOCK: Final = 1 << 16


class Pieces(Protocol):
    """The values of a channel, floats of one axis at a time; they can be gone through again."""

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the pieces; each keeps its values until the next is asked for."""
        ...


@dataclass(frozen=True)
class ProbabilityFile:
    """A probability map that has been opened, not read.

    Attributes:
        volume: The file.
        channels: How many classes it has.
        size: The voxels of one channel.

    """

    volume: VolumeFile
    channels: int
    size: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 of what is stored so, else float32.

        What the header scales is stored in few bits, and its slope has float32's: 255 steps of
        1/255 make 1 in float32, and a little more in float64.
        """
        stored = self.volume.stored
        return np.dtype(np.float64 if (stored.kind, stored.itemsize) == ("f", 8) else np.float32)

    def each(self, room: int) -> Iterator[Pieces]:
        """Yield the channels in turn; each is gone through, once or more, before the next.

        Args:
            room: So many bytes may be held.

        """
        dtype = self.dtype
        if not self.volume.compressed or self.size * dtype.itemsize > room:
            for channel in range(self.channels):
                yield _Reread(self.volume, dtype, channel * self.size, (channel + 1) * self.size)
            return
        step = PIECE // dtype.itemsize
        with opened(self.volume) as stream:
            for _ in range(self.channels):
                values = _held(stream, self.size, dtype)
                yield [values[begin : begin + step] for begin in range(0, self.size, step)]
            stream.finish(0)


def _held(stream: VoxelStream, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the next voxels; what is 0 takes no memory.

    Memory that is asked for as zeros is the system's one page of zeros until it is written to.
    """
    values = np.zeros(size, dtype)
    position = 0
    for piece in stream.pieces(size, dtype):
        target = values[position : position + len(piece)]
        for begin in range(0, len(piece), BLOCK):
            block = piece[begin : begin + BLOCK]
            if block.view(f"u{dtype.itemsize}").max():
                target[begin : begin + BLOCK] = block
        position += len(piece)
    return values


def open_probabilities(path: str | os.PathLike[str]) -> ProbabilityFile:
    """Open a probability map; whether its values are probabilities shows when they are read.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file: up to 3 axes, or one channel per class along the
            fourth (or along the fifth, the fourth being of size 1, as ITK stores vectors).

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: See :func:`marginseg.files.nifti.open_volume`; or there are more axes.

    Example:
        >>> import nibabel, tempfile
        >>> half = np.full((2, 3, 4, 5), 0.5, np.float32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nibabel.save(nibabel.Nifti1Image(half, np.eye(4)), f"{folder}/p.nii.gz")
        ...     file = open_probabilities(f"{folder}/p.nii.gz")
        ...     [sum(float(piece.sum()) for piece in channel) for channel in file.each(room=1000)]
        [12.0, 12.0, 12.0, 12.0, 12.0]

    """
    volume = open_volume(Path(path))
    shape = volume.shape
    if len(shape) > 5 or (len(shape) == 5 and shape[3] != 1):
        raise ValueError(
            f"{path}: expected 3 axes, or 4 with a channel per class, got shape {shape}"
        )
    return ProbabilityFile(volume, math.prod(shape[3:]), math.prod(shape[:3]))


@dataclass(frozen=True)
class _Reread:
    """A channel that is read anew each time."""

    volume: VolumeFile
    dtype: np.dtype[Any]
    begin: int
    end: int

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for piece in self.volume.pieces(self.begin, self.end):
            yield piece.astype(self.dtype, copy=False)
