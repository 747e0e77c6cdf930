"""Label maps in NIfTI files: integers, whatever the dtype that they are stored in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marginseg.classes import Classes
from marginseg.files.nifti import VolumeFile, open_volume

#: What a label map is held in: the first that has room for its values.
LABEL_DTYPES: Final = (np.uint8, np.int16, np.int32)


@dataclass(frozen=True)
class LabelMap:
    """What a NIfTI file holds, in Fortran's order.

    Attributes:
        file: Where it was read; shape, affine and header stand there.
        data: The labels, scaled by the header's slope and intercept.

    """

    file: VolumeFile
    data: NDArray[Any]


def read_label(path: str | os.PathLike[str]) -> LabelMap:
    """Read a label map: integer values, whatever the dtype that they are stored in.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file of 1 to 3 axes, not counting axes of one voxel that
            follow (a slice stored as (X, Y, 1) is kept in that shape).

    Returns:
        The volume; ``data`` is uint8, or int16 or int32 where the values need it.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: See :func:`marginseg.files.nifti.open_volume`; or a value is no integer, or
            there are more than three axes.

    """
    file = open_volume(path)
    if len(file.shape) > 3 and any(size > 1 for size in file.shape[3:]):
        raise ValueError(f"{path}: expected a label map of up to 3 axes, got shape {file.shape}")
    if file.dtype == np.uint8:
        return LabelMap(file, file.read())
    data: NDArray[Any] = np.empty(file.size, LABEL_DTYPES[0])
    begin, fractional = 0, 0
    for piece in file.pieces():
        if piece.dtype.kind == "f":
            # NaN fails this comparison; infinity fails the range below.
            fractional += int(np.count_nonzero(np.rint(piece) != piece))
        if fractional:
            continue
        low, high = piece.min(), piece.max()
        wide_enough = _label_dtype(low, high)
        if wide_enough is None:
            raise ValueError(
                f"{path}: expected labels of up to 32 bits, got values from {low} to {high}"
            )
        data = data.astype(np.promote_types(data.dtype, wide_enough), copy=False)
        data[begin : begin + piece.size] = piece
        begin += piece.size
    if fractional:
        raise ValueError(
            f"{path}: expected integer labels, got other values at {fractional} voxels"
        )
    return LabelMap(file, data.reshape(file.shape, order="F"))


def refuse_other_labels(path: Path, label: NDArray[Any], classes: Classes, where: str = "") -> None:
    """Refuse a label map with values that are not 0, of a class, or of what nobody labelled.

    Args:
        path: Its file.
        label: What was read.
        classes: Those that it may have.
        where: What the message says of the file beyond its name.

    Raises:
        ValueError: It has some; the message names one.

    """
    known = {0, *(value for values in classes.values for value in values)}
    if classes.ignored is not None:
        known.add(classes.ignored)
    strange = np.ones(label.shape, np.bool_, order="F")
    for value in known:  # some comparisons take less time than a search
        strange &= label != value
    if strange.any():
        raise ValueError(
            f"{path}: expected the labels {', '.join(map(str, sorted(known))):.200}{where}, "
            f"got {label[strange][0]}"
        )


def _label_dtype(low: Any, high: Any) -> type[np.integer[Any]] | None:
    for dtype in LABEL_DTYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return None
