"""From a pair of NIfTI files to a case. Whatever is wrong with them ends in `UnusableCaseError`."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from marginseg.data.dataset import Case, RejectedCaseError, UnusableCaseError
from marginseg.data.intensity import IntensityScale
from marginseg.data.patches import Patch, centre_of_mass

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
)
"""What nibabel and zlib raise on files that are missing, truncated or no NIfTI."""

LEAST_VOXELS = 27
"""Of a structure in its patch, where a share for the cut is set: as many as a cube of 3 has."""

NIFTI2 = (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
"""How a NIfTI-2 file begins: 540, little or big end first."""

Spacing = tuple[float, float, float]


def read_volume(path: Path) -> tuple[NDArray[np.float32], Spacing]:
    """The first three axes of a NIfTI file as float32 in stored order, and millimetres a voxel.

    A fourth axis holds channels; the first channel is taken. Intensities have the header's slope
    and intercept applied. The orientation is kept as stored.

    Raises:
        UnusableCaseError: the file is unreadable, has fewer than three or more than four axes, no
            voxels, or a spacing that is not positive; or a voxel is NaN or infinite.

    """
    data, spacing = _read(path, np.float32)
    return np.asarray(data, np.float32), spacing


def _read(path: Path, dtype: type[np.float32] | None) -> tuple[NDArray[Any], Spacing]:
    """As `read_volume`; without a dtype the array has the one that the file is stored in."""
    try:
        image = _load(path)
        shape = image.shape
        spacing = tuple(float(s) for s in voxel_sizes(image.affine))  # type: ignore[no-untyped-call]
        if len(shape) in (3, 4) and 0 not in shape:
            proxy = image.dataobj
            data = np.asarray(proxy if len(shape) == 3 else proxy[..., 0], dtype=dtype)
    except UNREADABLE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UnusableCaseError(
            "a file is unreadable", f"{path.name} ({text.replace(str(path), path.name)[:120]})"
        ) from error
    if len(shape) not in (3, 4) or 0 in shape:
        raise UnusableCaseError(
            "a file is no volume",
            f"{path.name} must have 3 axes, or 4 with channels last, got {shape}",
        )
    if len(spacing) != 3 or not np.isfinite(spacing).all() or min(spacing) <= 0:
        raise UnusableCaseError("a file has no spacing", f"{path.name} has {spacing}")
    if data.dtype.kind not in "iufb":
        raise UnusableCaseError("a file is no volume", f"{path.name} holds {data.dtype}")
    if data.dtype.kind == "f":
        # One pass without a temporary array: a sum is finite only if every term is.
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(data.sum(dtype=np.float64))
        if not finite:
            count = data.size - np.count_nonzero(np.isfinite(data))
            raise UnusableCaseError("voxels are NaN or infinite", f"{count} in {path.name}")
    return data, (spacing[0], spacing[1], spacing[2])


def _load(path: Path) -> Any:
    """Open a volume. One that is compressed is decompressed at once, not a few KB at a time.

    zlib then runs without the interpreter's lock all the while, and threads don't wait for it.
    """
    if not path.name.endswith(".nii.gz"):
        return nibabel.load(path)
    content = gzip.decompress(path.read_bytes())
    kind = nibabel.Nifti2Image if content[:4] in NIFTI2 else nibabel.Nifti1Image
    return kind.from_bytes(content)


def cut_share(mask: NDArray[np.bool_]) -> float:
    """Which share of the mask's voxels lies in the outermost planes of the volume.

    A structure that ends within the scan has none there. One that crosses a long scan has its two
    cross-sections, 2 % in 100 planes; one that the scan cuts near its tip has a large share.

    >>> mask = np.zeros((9, 9, 9), bool)
    >>> mask[3:5, 3:5, 5:] = True
    >>> cut_share(mask)
    0.25
    """
    voxels = int(np.count_nonzero(mask))
    inner = int(np.count_nonzero(mask[(slice(1, -1),) * mask.ndim]))
    return (voxels - inner) / voxels if voxels else 0.0


def as_largest_cut(largest_cut: float | None) -> float | None:
    """A share, None for None, or a ValueError."""
    if largest_cut is None:
        return None
    if not isinstance(largest_cut, (int, float)) or not 0 <= largest_cut <= 1:
        raise ValueError(f"largest_cut must be between 0 and 1, or None, got {largest_cut!r}")
    return float(largest_cut)


def rule(largest_cut: float | None) -> str:
    """Which cases `prepare_case` keeps, in words."""
    if largest_cut is None:
        return "The volume and the patch have a voxel of the structure."
    return (
        f"At most {_percent(largest_cut)} of the structure's voxels lie in the volume's outermost "
        f"planes, and at least {LEAST_VOXELS} voxels of the patch belong to it."
    )


def prepare_case(
    name: str,
    image_file: Path,
    label_file: Path,
    *,
    values: Sequence[int] | None,
    patch_shape: tuple[int, int, int],
    spacing: Spacing | None,
    largest_cut: float | None,
    intensity: Callable[[NDArray[np.float32]], IntensityScale],
) -> Case:
    """Read a case and cut the patch around the structure's centre of mass.

    The structure is where the label is one of ``values`` (None: anywhere but 0). Where the patch
    leaves the volume, the image is the volume's minimum and the label 0. The label is read first:
    a case without the structure, or without enough of it, costs no image.

    With a ``largest_cut``, the structure has to be whole enough: its `cut_share` in the volume as
    it is stored is at most that, and the patch has at least `LEAST_VOXELS` of it.

    Raises:
        UnusableCaseError: see `read_volume`; or image and label differ in shape or spacing, or the
            structure is empty, in the volume or in the patch, or is not whole enough.

    """
    label, label_spacing = _read(label_file, None)
    if label.dtype.kind == "f":
        label = np.rint(label)
    mask = label != 0 if values is None else np.isin(label, np.asarray(values))
    del label
    voxels, cut = int(np.count_nonzero(mask)), cut_share(mask)
    if not voxels:
        raise RejectedCaseError("the structure is empty", f"no voxel in {label_file.name}")
    if largest_cut is not None and cut > largest_cut:
        raise RejectedCaseError(
            "the scan ends within the structure",
            f"{_percent(cut)} of its voxels lie on the scan's faces, at most "
            f"{_percent(largest_cut)} are allowed",
        )
    patch = Patch.around(
        centre_of_mass(mask),
        patch_shape,
        source_shape=mask.shape,
        spacing=label_spacing,
        target_spacing=spacing,
    )
    inside = patch.label(mask)
    found, least = int(inside.sum()), 1 if largest_cut is None else LEAST_VOXELS
    if found < least:
        raise RejectedCaseError(
            "too little of the structure is in the patch",
            f"{found} of its voxels, at least {least} needed, in a patch of {patch_shape}",
        )
    image, image_spacing = read_volume(image_file)
    if image.shape != mask.shape:
        raise RejectedCaseError(
            "image and label have different shapes", f"{image.shape} and {mask.shape}"
        )
    if not np.allclose(image_spacing, label_spacing, rtol=1e-2):
        raise RejectedCaseError(
            "image and label have different spacings", f"{image_spacing} and {label_spacing}"
        )
    return Case(
        name,
        intensity(image)(patch.image(image, float(image.min()))),
        inside,
        image_spacing if spacing is None else spacing,
        voxels,
        cut,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
