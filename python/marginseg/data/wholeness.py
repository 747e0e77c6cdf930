"""How much of a structure a case has to show: a scan may end within it, and a patch miss it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from marginseg.data.dataset import RejectedCaseError

#: Where a share for the cut is set, a patch has so much of its structure: a cube or a square of 3.
LEAST_EDGE = 3


def cut_share(mask: NDArray[np.bool_]) -> float:
    """Return which share of a structure's voxels lies in the outermost planes of the volume.

    A structure that ends within the scan has none there. One that crosses a long scan has its two
    cross-sections, 2 % in 100 planes; one that the scan cuts near its tip has a large share.

    Args:
        mask: bool array of any number of axes, true in the structure.

    Returns:
        A share from 0 to 1; 0 for an empty mask.

    Example:
        >>> mask = np.zeros((9, 9, 9), bool)
        >>> mask[3:5, 3:5, 5:] = True
        >>> cut_share(mask)
        0.25

    """
    voxels = int(np.count_nonzero(mask))
    inner = int(np.count_nonzero(mask[(slice(1, -1),) * mask.ndim]))
    return (voxels - inner) / voxels if voxels else 0.0


def as_largest_cut(largest_cut: float | None) -> float | None:
    """Return the share as a float, None for None.

    Raises:
        ValueError: It is no number from 0 to 1.

    Example:
        >>> as_largest_cut(1)
        1.0

    """
    if largest_cut is None:
        return None
    if not isinstance(largest_cut, (int, float)) or not 0 <= largest_cut <= 1:
        raise ValueError(f"largest_cut: expected a share from 0 to 1, or None, got {largest_cut!r}")
    return float(largest_cut)


def rule(largest_cut: float | None, axes: int) -> str:
    """Say in words which cases :func:`check_volume` and :func:`check_patch` let pass.

    Args:
        largest_cut: As for both.
        axes: Of a patch; 2: it lies in a plane of the volume.

    Example:
        >>> rule(None, 3)
        'The volume and the patch have a voxel of the structure.'

    """
    if largest_cut is None:
        return "The volume and the patch have a voxel of the structure."
    outermost = "on the edges of its plane" if axes == 2 else "in the volume's outermost planes"
    return (
        f"At most {_percent(largest_cut)} of the structure's voxels lie {outermost}, and at least "
        f"{LEAST_EDGE**axes} voxels of the patch belong to it."
    )


def check_volume(
    mask: NDArray[np.bool_], largest_cut: float | None, file_name: str
) -> tuple[int, float]:
    """Measure a structure in the whole volume or plane, and refuse an empty or much cut one.

    Args:
        mask: bool array, true in the structure.
        largest_cut: The largest :func:`cut_share` that is allowed; None allows any.
        file_name: Of the label map, for the reason.

    Returns:
        How many voxels the structure has, and its :func:`cut_share`.

    Raises:
        RejectedCaseError: There is none, or too much of it lies on the scan's faces.

    Example:
        >>> check_volume(np.ones((2, 2, 2), bool), None, "mask.nii.gz")
        (8, 1.0)

    """
    voxels, cut = int(np.count_nonzero(mask)), cut_share(mask)
    if not voxels:
        raise RejectedCaseError("the structure is empty", f"no voxel in {file_name}")
    if largest_cut is not None and cut > largest_cut:
        raise RejectedCaseError(
            "the scan ends within the structure",
            f"{_percent(cut)} of its voxels lie on the scan's faces, at most "
            f"{_percent(largest_cut)} are allowed",
        )
    return voxels, cut


def check_patch(label: NDArray[Any], largest_cut: float | None) -> None:
    """Refuse a patch that shows too little of the structure.

    Args:
        label: The patch's, 0 and 1.
        largest_cut: With it the patch needs a cube, or a square, of ``LEAST_EDGE`` voxels of the
            structure; with None only one voxel.

    Raises:
        RejectedCaseError: The patch has fewer.

    """
    found, least = int(label.sum()), 1 if largest_cut is None else LEAST_EDGE**label.ndim
    if found < least:
        raise RejectedCaseError(
            "too little of the structure is in the patch",
            f"{found} of its voxels, at least {least} needed, in a patch of {label.shape}",
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
