"""From a pair of NIfTI files to a case. Whatever is wrong with them ends in `UnusableCaseError`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from marginseg.data.dataset import Case, UnusableCaseError
from marginseg.data.intensity import IntensityScale
from marginseg.data.patches import Patch, centre_of_mass

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
)
"""What nibabel and zlib raise on files that are missing, truncated or no NIfTI."""

Spacing = tuple[float, float, float]


def read_volume(path: Path) -> tuple[NDArray[np.float32], Spacing]:
    """The first three axes of a NIfTI file as float32 in stored order, and millimetres a voxel.

    A fourth axis holds channels; the first channel is taken. Intensities have the header's slope
    and intercept applied. The orientation is kept as stored.

    Raises:
        UnusableCaseError: the file is unreadable, has fewer than three or more than four axes, no
            voxels, or a spacing that is not positive; or a voxel is NaN or infinite.

    """
    try:
        image = nibabel.load(path)
        shape = image.shape  # type: ignore[attr-defined]
        spacing = tuple(float(s) for s in voxel_sizes(image.affine))  # type: ignore[attr-defined,no-untyped-call]
        if len(shape) in (3, 4) and 0 not in shape:
            proxy = image.dataobj  # type: ignore[attr-defined]
            data = np.asarray(proxy if len(shape) == 3 else proxy[..., 0], dtype=np.float32)
    except UNREADABLE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UnusableCaseError(f"{path.name} is unreadable: {text[:120]}") from error
    if len(shape) not in (3, 4) or 0 in shape:
        raise UnusableCaseError(
            f"{path.name} must have 3 axes, or 4 with channels last, got {shape}"
        )
    if len(spacing) != 3 or not np.isfinite(spacing).all() or min(spacing) <= 0:
        raise UnusableCaseError(f"{path.name} has the voxel spacing {spacing}")
    # One pass without a temporary array: a sum is finite only if every term is.
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(data.sum(dtype=np.float64))
    if not finite:
        count = data.size - np.count_nonzero(np.isfinite(data))
        raise UnusableCaseError(f"{path.name} is NaN or infinite at {count} voxels")
    return data, (spacing[0], spacing[1], spacing[2])


def prepare_case(
    name: str,
    image_file: Path,
    label_file: Path,
    *,
    values: Sequence[int] | None,
    patch_shape: tuple[int, int, int],
    spacing: Spacing | None,
    intensity: Callable[[NDArray[np.float32]], IntensityScale],
) -> Case:
    """Read a case and cut the patch around the structure's centre of mass.

    The structure is where the label is one of ``values`` (None: anywhere but 0). Where the patch
    leaves the volume, the image is the volume's minimum and the label 0. The label is read first:
    a case without the structure costs no image.

    Raises:
        UnusableCaseError: see `read_volume`; or image and label differ in shape or spacing, or the
            structure is empty, in the volume or in the patch.

    """
    label, label_spacing = read_volume(label_file)
    label = np.rint(label)
    mask = label != 0 if values is None else np.isin(label, np.asarray(values, np.float32))
    if not mask.any():
        raise UnusableCaseError(f"the structure is empty in {label_file.name}")
    image, image_spacing = read_volume(image_file)
    if image.shape != mask.shape:
        raise UnusableCaseError(
            f"image and label have different shapes: {image.shape} and {mask.shape}"
        )
    if not np.allclose(image_spacing, label_spacing, rtol=1e-2):
        raise UnusableCaseError(
            f"image and label have different spacings: {image_spacing} and {label_spacing}"
        )
    scale = intensity(image)
    patch = Patch.around(
        centre_of_mass(mask),
        patch_shape,
        source_shape=image.shape,
        spacing=image_spacing,
        target_spacing=spacing,
    )
    cut = patch.label(mask)
    if not cut.any():
        raise UnusableCaseError(
            f"no voxel of the structure is in the patch of {patch_shape} voxels"
        )
    return Case(
        name,
        scale(patch.image(image, float(image.min()))),
        cut,
        image_spacing if spacing is None else spacing,
    )
