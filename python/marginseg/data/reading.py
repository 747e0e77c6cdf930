"""NIfTI files as arrays. Whatever is wrong with one becomes the reason why a case is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marginseg.data.dataset import UnusableCaseError
from marginseg.files.nifti import open_volume

#: Millimetres a voxel along the three axes.
Spacing = tuple[float, float, float]


def read_volume(path: Path) -> tuple[NDArray[np.float32], Spacing]:
    """Read the intensities of a volume. The orientation is kept as stored.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file of three axes, or of two: one plane. A fourth axis
            holds channels, and the first channel is taken.

    Returns:
        The array, float32 of three axes, with the header's slope and intercept applied; and
        millimetres a voxel, by its affine and its unit of length
        (:attr:`marginseg.files.nifti.VolumeFile.voxel_size`).

    Raises:
        UnusableCaseError: The file is unreadable, has one axis or more than four, no voxels, or a
            spacing that is not positive; or a voxel is NaN or infinite.

    Example:
        >>> import nibabel, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "scan.nii.gz")
        ...     scan = nibabel.Nifti1Image(np.ones((4, 5, 6), np.int16), np.diag([1, 2, 3, 1]))
        ...     nibabel.save(scan, path)
        ...     volume, spacing = read_volume(path)
        >>> volume.dtype, volume.shape, spacing
        (dtype('float32'), (4, 5, 6), (1.0, 2.0, 3.0))

    """
    data, spacing = _read(path, np.float32)
    return np.asarray(data, np.float32), spacing


def read_label(path: Path) -> tuple[NDArray[Any], Spacing]:
    """Read the values of a label map, as :func:`read_volume` reads intensities.

    Args:
        path: As for :func:`read_volume`.

    Returns:
        The array, of three axes and of the dtype that the file is stored in, floats rounded to
        whole numbers; and millimetres a voxel.

    Raises:
        UnusableCaseError: As for :func:`read_volume`.

    """
    data, spacing = _read(path, None)
    return (np.rint(data) if data.dtype.kind == "f" else data), spacing


def _read(path: Path, dtype: type[np.float32] | None) -> tuple[NDArray[Any], Spacing]:
    """Read three axes; without a dtype the array has the one that the file stores."""
    try:
        file = open_volume(path)
        shape = file.shape
        spacing = file.voxel_size
        if len(shape) in (2, 3):
            data = file.read(dtype=dtype).reshape(*shape, *(1,) * (3 - len(shape)))
        elif len(shape) == 4:
            data = file.read(channels=1, dtype=dtype)[..., 0]
    except (OSError, ValueError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UnusableCaseError(
            "a file is unreadable", f"{path.name} ({text.replace(f'{path}: ', '')[:120]})"
        ) from error
    if len(shape) not in (2, 3, 4):
        raise UnusableCaseError(
            "a file is no volume",
            f"{path.name}: expected 2 or 3 axes, or 4 with channels last, got {shape}",
        )
    if not np.isfinite(spacing).all() or min(spacing) <= 0:
        raise UnusableCaseError("a file has no spacing", f"{path.name} has {spacing}")
    if data.dtype.kind == "f":
        # One pass without a temporary array: a sum is finite only if every term is.
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(data.sum(dtype=np.float64))
        if not finite:
            count = data.size - np.count_nonzero(np.isfinite(data))
            raise UnusableCaseError("voxels are NaN or infinite", f"{count} in {path.name}")
    return data, spacing
