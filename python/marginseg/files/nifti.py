"""NIfTI files in and out: affine, spacing and header are kept, and no file is ever half-written."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from marginseg.files.atomic import replacing

SUFFIXES: Final = (".nii", ".nii.gz")

#: A NIfTI header begins with its own size, which tells the two versions of the format apart.
HEADER_SIZES: Final = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}

MILLIMETRES: Final = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}

LABEL_DTYPES: Final = (np.uint8, np.int16, np.int32)


@dataclass(frozen=True)
class Volume:
    """What a NIfTI file holds.

    Attributes:
        path: Where it was read.
        data: The array as stored, in native byte order, scaled by the header's slope and intercept.
        affine: (4, 4) float64, from voxel indices to the header's world coordinates.
        header: nibabel's header (NIfTI-1 or NIfTI-2), extensions included.

    """

    path: Path
    data: NDArray[Any]
    affine: NDArray[np.float64]
    header: Any

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in millimetres along the first axes, up to three of them."""
        zooms = self.header.get_zooms()[:3]
        millimetres = MILLIMETRES[self.header.get_xyzt_units()[0]]
        return tuple(float(zoom) * millimetres for zoom in zooms)


def read(path: str | os.PathLike[str]) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file whole, its checksum included.

    Args:
        path: The file. Whether it is compressed is told from its content.

    Returns:
        The volume; integers stay integers unless the header scales them.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is truncated, damaged, no NIfTI file, or does not hold real numbers.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "label.nii.gz")
        ...     nibabel.save(nibabel.Nifti1Image(np.eye(3, dtype=np.uint8), np.eye(4)), path)
        ...     int(read(path).data.sum())
        3

    """
    path = Path(path)
    content = path.read_bytes()
    try:
        # The whole file is decompressed: then one that has lost its end, or a bit, fails its
        # checksum.
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        size = content[:4]
        kind = HEADER_SIZES.get(int.from_bytes(size, "little")) or HEADER_SIZES.get(
            int.from_bytes(size, "big")
        )
        if kind is None:
            raise ValueError("it has no NIfTI header")
        image = cast(Any, kind).from_bytes(content)
        data = np.asanyarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
    except Exception as error:
        # nibabel, gzip, zlib and NumPy have a dozen ways to say that bytes are no NIfTI file.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path}: expected a whole .nii or .nii.gz file, but {reason[:200]}"
        ) from error
    if data.dtype.kind not in "buif":
        raise ValueError(f"{path}: expected real numbers, got voxels of type {data.dtype}")
    if data.size == 0:
        raise ValueError(f"{path}: expected voxels, got shape {data.shape}")
    native = data.dtype.newbyteorder("=")
    if native.kind == "f" and native.itemsize not in (4, 8):  # long doubles, say
        native = np.dtype(np.float64)
    # The data are copied: the copy is writable, and the file's bytes can be freed.
    return Volume(path, np.array(data, dtype=native, order="C"), affine, image.header)


def read_label(path: str | os.PathLike[str]) -> Volume:
    """Read a label map: integer values, whatever the dtype that they are stored in.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file of 1 to 3 axes, not counting axes of one voxel that
            follow (a slice stored as (X, Y, 1) is kept in that shape).

    Returns:
        The volume; ``data`` is uint8, or int16 or int32 where the values need it.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: See :func:`read`; or a value is no integer, or there are more than three axes.

    """
    volume = read(path)
    data = volume.data
    if data.ndim > 3 and any(size > 1 for size in data.shape[3:]):
        raise ValueError(f"{path}: expected a label map of up to 3 axes, got shape {data.shape}")
    if data.dtype.kind == "f":
        # NaN fails this comparison; infinity fails the range below.
        fractional = np.count_nonzero(np.rint(data) != data)
        if fractional:
            raise ValueError(
                f"{path}: expected integer labels, got other values at {fractional} voxels"
            )
    low, high = data.min(), data.max()
    for dtype in LABEL_DTYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return Volume(volume.path, data.astype(dtype), volume.affine, volume.header)
    raise ValueError(f"{path}: expected labels of up to 32 bits, got values from {low} to {high}")


def read_probabilities(path: str | os.PathLike[str]) -> Volume:
    """Read a probability map.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file: up to 3 axes, or one channel per class along the
            fourth (or along the fifth, the fourth being of size 1, as ITK stores vectors).

    Returns:
        The volume; ``data`` is float32, or float64 where the file's voxels are.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: See :func:`read`; or a value is NaN or outside [0, 1], or there are more axes.

    """
    volume = read(path)
    data = volume.data
    if data.ndim > 5 or (data.ndim == 5 and data.shape[3] != 1):
        raise ValueError(
            f"{path}: expected 3 axes, or 4 with a channel per class, got shape {data.shape}"
        )
    if data.dtype != np.float64:
        data = data.astype(np.float32)
    wrong = data.size - np.count_nonzero((data >= 0) & (data <= 1))
    if wrong:
        nan = np.count_nonzero(np.isnan(data))
        found = f"{nan} NaN" if nan else f"values from {data.min():g} to {data.max():g}"
        raise ValueError(
            f"{path}: expected probabilities within [0, 1], got {found} ({wrong} voxels are wrong)"
        )
    return Volume(volume.path, data, volume.affine, volume.header)


def check_output(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a NIfTI file can be written there; an existing file will be replaced.

    Raises:
        ValueError: The name does not end in ``.nii`` or ``.nii.gz``.
        OSError: The folder is missing or not writable, or ``path`` is a folder.

    """
    path = Path(path)
    if not path.name.endswith(SUFFIXES) or path.name in SUFFIXES:
        raise ValueError(f"{path}: expected an output name that ends in .nii or .nii.gz")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a file to write, got a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: expected an existing folder for {path.name}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path.parent}: no permission to write here")
    return path


def write(path: str | os.PathLike[str], data: NDArray[Any], like: Volume) -> None:
    """Write ``data`` with the affine, spacing, header and extensions of ``like``.

    The file appears whole under its name, or not at all. The same data give the same bytes.

    Args:
        path: Ends in ``.nii`` or ``.nii.gz``; an existing file is replaced.
        data: bool (written as uint8), uint8, int16, int32, float32 or float64: this becomes the
            header's data type, unscaled. The spatial shape is that of ``like``; a channel axis may
            follow it.
        like: Where the geometry comes from.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
        ValueError: See :func:`check_output`.

    """
    path = check_output(path)
    path = path.resolve()  # a link stays, its target is replaced
    stored = data.astype(np.uint8) if data.dtype == np.bool_ else data
    header = like.header.copy()
    header.set_data_dtype(stored.dtype)
    header["cal_min"] = header["cal_max"] = 0  # display range of the values that were there
    zooms = header.get_zooms()
    header.set_data_shape(stored.shape)
    # An axis that `like` does not have gets voxels of size 1.
    header.set_zooms((zooms + (1.0,) * stored.ndim)[: stored.ndim])
    kind = nibabel.Nifti2Image if header["sizeof_hdr"] == 540 else nibabel.Nifti1Image
    image = cast(Any, kind)(stored, like.affine, header)
    with replacing(path, fsync=False) as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile("", "wb", 1, file, mtime=0) as stream:
                image.to_stream(stream)
        else:
            image.to_stream(file)
