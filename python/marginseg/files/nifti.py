"""NIfTI files in and out: affine, spacing and header are kept, and no file is ever half-written.

A file stores its first axis fastest and its channels, the last axis, slowest. What is read piece by
piece, and what is written, comes in that order; an array that is read whole has the file's shape
and its order in memory (Fortran's), so that nothing is moved.
"""

from __future__ import annotations

import io
import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from marginseg.files.atomic import refuse_circle, replacing
from marginseg.files.gzipped import DAMAGED, LARGEST_EXPANSION, MAGIC, GzipWriter, open_gzip
from marginseg.files.sparse import SparseWriter
from marginseg.files.voxels import LARGEST_MARGIN, Stored, broken, opened

SUFFIXES: Final = (".nii", ".nii.gz")

#: A NIfTI header begins with its own size, which tells the two versions of the format apart.
HEADER_SIZES: Final = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}

#: Of a header's unit of length, by its code; 0 says that the unit is not known.
MILLIMETRES: Final = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


#: nibabel tells of what it mends in a header, and prints it, in lines that name no file.
_UNHEARD: Final = logging.Logger("marginseg.unheard", logging.CRITICAL + 1)


class Sink(Protocol):
    """Where voxels are written."""

    def write(self, content: Any, /) -> Any:
        """Add the bytes of a contiguous array."""
        ...


@dataclass(frozen=True)
class VolumeFile(Stored):
    """A NIfTI file whose header has been read, and whose voxels have not.

    Attributes:
        header: nibabel's header (NIfTI-1 or NIfTI-2), extensions included.
        affine: (4, 4) float64, from voxel indices to the header's world coordinates.
        shape: The sizes of its axes, as the header has them.

    """

    header: Any
    affine: NDArray[np.float64]
    shape: tuple[int, ...]

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Millimetres a voxel along the first three axes, by the affine and the header's unit.

        The affine is that of the sform, else of the qform, else of the pixdim: a pixdim that says
        something else than the sform is no voxel size.
        """
        millimetres = MILLIMETRES[_unit_code(self.header)]
        x, y, z = np.sqrt(np.square(self.affine[:3, :3]).sum(axis=0)) * millimetres
        return float(x), float(y), float(z)

    @property
    def spacing(self) -> tuple[float, ...]:
        """The voxel size along the axes that there are, up to three of them."""
        return self.voxel_size[: len(self.shape)]

    @property
    def size(self) -> int:
        """How many voxels there are, of all channels."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The native dtype of the values: float64 where the header scales them."""
        native = self.stored.newbyteorder("=")
        if self.slope is not None or (native.kind == "f" and native.itemsize not in (4, 8)):
            return np.dtype(np.float64)
        return native

    def pieces(self, begin: int = 0, end: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the values in the file's order, some at a time, in arrays of one axis.

        A thread reads the next piece meanwhile. A piece keeps its values until the next is asked
        for. With the last one of the file its checksum has been compared.

        Args:
            begin: The first voxel.
            end: The voxel before which it ends; the default is all.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is truncated or damaged, or goes on after its voxels.

        """
        end = self.size if end is None else end
        with opened(self, begin) as stream:
            yield from stream.pieces(end - begin, self.dtype)
            if end == self.size:
                stream.finish(0)

    def read(self, channels: int | None = None, dtype: Any = None) -> NDArray[Any]:
        """Return the values as an array in Fortran's order.

        One that is stored as it is wanted, and not compressed, is mapped into memory; writing to it
        leaves the file alone.

        Args:
            channels: Read so many of the last axis only.
            dtype: Of the array; the default is that of the values.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is truncated or damaged, or goes on after its voxels.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = Path(folder, "label.nii.gz")
            ...     nibabel.save(nibabel.Nifti1Image(np.eye(3, dtype=np.uint8), np.eye(4)), path)
            ...     int(open_volume(path).read().sum())
            3

        """
        shape = self.shape if channels is None else (*self.shape[:-1], channels)
        wanted = np.dtype(self.dtype if dtype is None else dtype)
        as_stored = self.slope is None and self.stored == wanted
        if as_stored and not self.compressed and self.offset % self.stored.itemsize == 0:
            return np.memmap(self.path, self.stored, "c", self.offset, shape, "F")
        values = np.empty(math.prod(shape), wanted)
        with opened(self) as stream:
            stream.fill(values)
            stream.finish(self.size - values.size)
        return values.reshape(shape, order="F")


def open_volume(path: str | os.PathLike[str]) -> VolumeFile:
    """Read the header of a ``.nii`` or ``.nii.gz`` file.

    A file that is shorter than its header says is refused at once, before anything is allocated.

    Args:
        path: The file. Whether it is compressed is told from its content.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is truncated, damaged, no NIfTI file, or does not hold real numbers; or its
            header doesn't say where and how large its voxels are.

    """
    path = Path(path)
    with path.open("rb") as file:
        compressed = file.read(2) == MAGIC
        size = os.fstat(file.fileno()).st_size
    try:
        with open_gzip(path) if compressed else path.open("rb") as stream:
            header = _read_header(stream)
        shape = tuple(int(length) for length in header.get_data_shape())
        stored = header.get_data_dtype()
        offset = int(header.get_data_offset())
        slope, intercept = header.get_slope_inter()
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        geometry = _geometry(header)
    except OSError as error:
        if isinstance(error, DAMAGED):
            raise broken(path, error) from error
        raise
    except Exception as error:
        # nibabel and NumPy have a dozen ways to say that bytes are no NIfTI header.
        raise broken(path, error) from error
    for name, numbers in geometry.items():
        if not np.isfinite(numbers).all():
            found = "NaN" if np.isnan(numbers).any() else "infinity"
            raise ValueError(f"{path}: expected finite numbers in its {name}, got {found}")
    if _unit_code(header) not in MILLIMETRES:
        raise ValueError(f"{path}: expected a unit of length, got the code {_unit_code(header)}")
    if slope == 1 and not intercept:
        slope = intercept = None
    if stored.kind not in "buif":
        raise ValueError(f"{path}: expected real numbers, got voxels of type {stored}")
    count = math.prod(shape)
    if not shape or min(shape) < 1:
        raise ValueError(f"{path}: expected voxels, got shape {shape}")
    promised = offset + count * stored.itemsize
    if promised > size * (LARGEST_EXPANSION if compressed else 1):
        raise broken(path, f"its {size} bytes can't hold the {promised} that its header promises")
    return VolumeFile(path, stored, slope, intercept, offset, compressed, header, affine, shape)


def check_output(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a NIfTI file can be written there; an existing file will be replaced.

    Raises:
        ValueError: The name does not end in ``.nii`` or ``.nii.gz``.
        OSError: The folder is missing or not writable, or ``path`` is a folder, or a link that
            leads round in a circle.

    """
    path = Path(path)
    if not path.name.endswith(SUFFIXES) or path.name in SUFFIXES:
        raise ValueError(f"{path}: expected an output name that ends in .nii or .nii.gz")
    refuse_circle(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a file to write, got a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: expected an existing folder for {path.name}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path.parent}: no permission to write here")
    return path


@contextmanager
def writing(
    path: str | os.PathLike[str],
    like: VolumeFile,
    shape: tuple[int, ...],
    dtype: Any,
    *,
    description: str | None = None,
    same_kind: bool = False,
) -> Iterator[Sink]:
    """Write a file with the affine, spacing, header and extensions of ``like`` as its voxels come.

    The file appears whole under its name, or not at all. The same data give the same bytes.

    Args:
        path: Ends in ``.nii`` or ``.nii.gz``; an existing file is replaced.
        like: Where the geometry comes from.
        shape: The spatial shape is that of ``like``; a channel axis may follow it.
        dtype: uint8, int16, int32, float32 or float64: the header's data type, unscaled.
        description: What the header says of the file, of which it has room for 79 characters; the
            default is what it says of ``like``.
        same_kind: Whether the voxels mean what those of ``like`` do: then the header keeps its
            intent and the name of its lookup table, which are of labels.

    Yields:
        What takes the voxels, in the file's order.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
        ValueError: See :func:`check_output`.

    """
    path = check_output(path)
    header = like.header.as_byteswapped(sys.byteorder)
    header.extensions = like.header.extensions
    if description is not None:
        header["descrip"] = description.encode("ascii", "replace")[:79]
    if not same_kind:
        header["intent_code"] = header["intent_p1"] = header["intent_p2"] = header["intent_p3"] = 0
        header["intent_name"] = header["aux_file"] = b""
    head = _header_bytes(header, shape, np.dtype(dtype))
    # A link stays, and its target is replaced; the name that was asked for says what it is.
    with replacing(path.resolve(), fsync=False) as file:
        if path.name.endswith(".gz"):
            with GzipWriter(file) as stream:
                stream.write(head)
                yield stream
        else:
            file.write(head)
            plain = SparseWriter(file)
            yield plain
            plain.finish()


def write(path: str | os.PathLike[str], data: NDArray[Any], like: VolumeFile) -> None:
    """Write a whole array as :func:`writing` does; bools become uint8.

    An array in Fortran's order is written as it lies.
    """
    stored = data.view(np.uint8) if data.dtype == np.bool_ else data
    with writing(path, like, data.shape, stored.dtype) as file:
        file.write(stored.reshape(-1, order="F"))


def _read_header(stream: BinaryIO) -> Any:
    """Read all that stands before the voxels."""
    head = stream.read(max(HEADER_SIZES) + 4)
    size = head[:4]
    kind = HEADER_SIZES.get(int.from_bytes(size, "little")) or HEADER_SIZES.get(
        int.from_bytes(size, "big")
    )
    if kind is None:
        raise ValueError("it has no NIfTI header")
    header_class = cast(Any, kind).header_class
    length = header_class.template_dtype.itemsize
    if len(head) < length:
        raise ValueError("it ends within its header")
    offset = header_class(head[:length], check=False).get_data_offset()
    if not offset <= LARGEST_MARGIN:
        raise ValueError(f"its header puts the first voxel at byte {offset}")
    head += stream.read(max(0, int(offset) - len(head)))
    header = header_class.from_fileobj(io.BytesIO(head), check=False)
    header.check_fix(_UNHEARD)
    return header


def _geometry(header: Any) -> dict[str, NDArray[np.float64]]:
    """Return all that a header says of where and how large the voxels are.

    What a reader makes of NaN is a matter of chance, and whatever is written with such a header has
    it too.
    """
    parts = {
        "sform": header.get_sform(coded=True)[0],
        "qform": header.get_qform(coded=True)[0],
        "voxel size": header.get_zooms()[:3],
    }
    return {name: np.asarray(part, float) for name, part in parts.items() if part is not None}


def _unit_code(header: Any) -> int:
    """Return the code of the unit of length; the unit of time stands in the same byte."""
    return int(header["xyzt_units"]) & 7


def _header_bytes(header: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return what stands before voxels of that shape and dtype; the header is changed."""
    header.set_data_dtype(dtype)
    header["cal_min"] = header["cal_max"] = 0  # display range of the values that were there
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = 0  # write_to() sets what the extensions ask for
    zooms = header.get_zooms()
    header.set_data_shape(shape)
    # An axis that `like` does not have gets voxels of size 1.
    header.set_zooms((zooms + (1.0,) * len(shape))[: len(shape)])
    content = io.BytesIO()
    header.write_to(content)
    return content.getvalue()
