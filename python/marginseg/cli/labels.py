"""What the commands on label maps share: options, the labels of a map, and where they are."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marginseg.files.nifti import VolumeFile

#: Voxels that are compared and counted at a time, in a cache.
BLOCK = 1 << 18

#: Above this fraction of the extent, a number was most likely meant in other units.
LARGEST_UNNAMED = 0.5

#: Comparing with each of so many values is faster than counting by them.
MOST_COMPARED = 8


class Units(StrEnum):
    """What std and length scale are measured in."""

    extent = "extent"
    mm = "mm"
    voxel = "voxel"


LabelFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="LABEL...",
        help="Label maps, NIfTI, 2-D or 3-D: integer values in any data type; or folders of them.",
    ),
]
Std = Annotated[
    list[float],
    typer.Option(
        "--std",
        metavar="A...",
        help="How far borders move: the standard deviation of the displacement, >= 0, in --units. "
        "One number, or one for each axis: `--std 2 2 4`.",
    ),
]
UnitsOption = Annotated[
    Units | None,
    typer.Option(
        "--units",
        help="Of lengths: extent (fractions of that along each axis, the default), mm, or voxel.",
    ),
]
LabelOption = Annotated[
    int | None,
    typer.Option("--label", metavar="N", help="Use this label only, as a binary mask."),
]


def checked_units(units: Units | None, std: list[float]) -> Units:
    """Return the units; none that were named are those of the extent, where that can be meant.

    Raises:
        ValueError: By such a standard deviation borders would leave the volume.

    """
    if units is None and max(std) > LARGEST_UNNAMED:
        raise ValueError(
            f"--std: {max(std):g} of the extent moves borders out of the volume; "
            "say --units voxel or mm, or --units extent if that is meant"
        )
    return units or Units.extent


def structures(path: Path, only: int | None) -> tuple[VolumeFile, NDArray[Any], dict[int, int]]:
    """Read a label map, as it lies, and count the voxels of each label other than 0.

    Args:
        path: The file.
        only: The one label that is asked for; others stand in the map, and are not counted.

    Returns:
        The file; the values in one axis, in its order; and the counts, by label in ascending order.

    Raises:
        OSError: The file cannot be read.
        ValueError: See :func:`marginseg.files.labels.read_label`; or there is no such label.

    """
    from marginseg.files.labels import read_label

    volume = read_label(path)
    flat = volume.data.reshape(-1, order="F")
    counts = counts_of(flat)
    if not counts:
        raise ValueError(f"{path}: the label map is empty: every voxel is 0")
    if only is not None and only not in counts:
        raise ValueError(f"{path}: no voxel has label {only}; it has {listed(list(counts))}")
    return volume.file, flat, counts if only is None else {only: counts[only]}


def remove_others(flat: NDArray[Any], label: int) -> None:
    """Set a map to 0 where it has another label.

    Example:
        >>> import numpy as np
        >>> values = np.array([0, 3, 1, 3])
        >>> remove_others(values, 3)
        >>> values.tolist()
        [0, 3, 0, 3]

    """
    for begin in range(0, flat.size, BLOCK):
        part = flat[begin : begin + BLOCK]
        if part.any():
            part *= part == label


def counts_of(flat: NDArray[Any]) -> dict[int, int]:
    """Count the voxels of each label other than 0.

    Example:
        >>> import numpy as np
        >>> counts_of(np.array([0, 3, 3, 1, 0]))
        {1: 1, 3: 2}

    """
    import numpy as np

    pairs: Iterable[tuple[int, int]]
    counts: dict[int, int] = {}
    for begin in range(0, flat.size, BLOCK):
        part = flat[begin : begin + BLOCK]
        low, high = int(part.min()), int(part.max())
        if low == high == 0:
            continue
        if high - low <= MOST_COMPARED:
            found = [int(np.count_nonzero(part == value)) for value in range(low, high + 1)]
            pairs = zip(range(low, high + 1), found, strict=True)
        elif high - low < BLOCK:
            pairs = enumerate(np.bincount(part.astype(np.intp) - low).tolist(), low)
        else:
            values, times = np.unique(part, return_counts=True)
            pairs = zip(values.tolist(), times.tolist(), strict=True)
        for value, count in pairs:
            if count:
                counts[value] = counts.get(value, 0) + count
    counts.pop(0, None)
    return dict(sorted(counts.items()))


def deformed_axes(file: VolumeFile) -> tuple[list[int], tuple[float, ...]]:
    """Return the sizes of the axes of more than one voxel, and the millimetres a voxel of each."""
    axes = [axis for axis, size in enumerate(file.shape[:3]) if size > 1] or [0]
    return [file.shape[axis] for axis in axes], tuple(file.spacing[axis] for axis in axes)


def one_or_several(numbers: list[float]) -> float | list[float]:
    """Return a single number as itself."""
    return numbers[0] if len(numbers) == 1 else numbers


def listed(values: list[int]) -> str:
    """Name labels, up to eight of them."""
    shown = ", ".join(map(str, values[:8]))
    return shown if len(values) <= 8 else f"{shown}, ... ({len(values)} labels)"


def listed_numbers(numbers: float | list[float]) -> str:
    """Write one number, or several.

    Example:
        >>> listed_numbers(0.02), listed_numbers([2.0, 2.0, 4.5])
        ('0.02', '2, 2, 4.5')

    """
    several = numbers if isinstance(numbers, list) else [numbers]
    return ", ".join(f"{number:g}" for number in several)
