"""Cases from pairs of NIfTI files, a scan and its label map: what the sources on disk share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marginseg.data.cache import Source, prepare
from marginseg.data.dataset import Case, CaseProgress, Dataset, RejectedCaseError
from marginseg.data.intensity import IntensityScale
from marginseg.data.patches import (
    Patch,
    as_patch_shape,
    as_spacing,
    centre_of_mass,
    largest_plane,
)
from marginseg.data.reading import read_label, read_volume
from marginseg.data.wholeness import as_largest_cut, check_patch, check_volume, rule


class Pair(NamedTuple):
    """The two files that a case is read from, and the case's name."""

    name: str
    image: Path
    label: Path


def prepare_pairs(
    kind: str,
    root: Path,
    structure: str,
    pairs: Iterable[Pair],
    *,
    values: Sequence[int] | None,
    modality: str,
    patch_shape: Sequence[int],
    spacing: float | Sequence[float] | None,
    max_cases: int | None,
    largest_cut: float | None,
    cache_dir: str | os.PathLike[str] | None,
    progress: CaseProgress | None,
) -> Dataset:
    """Return the data set of one structure: a case from each pair of files that can be used.

    Args:
        kind: Which source this is, for the manifest.
        root: The data set's folder, which the manifest names files relative to.
        structure: What the label shows.
        pairs: In the order in which they are wanted.
        values: The structure is where the label map has one of these; None: anywhere but 0.
        modality: Of the scans. A ``"CT"`` is windowed by :meth:`IntensityScale.ct`, anything else
            becomes :meth:`IntensityScale.standardised`, case by case.
        patch_shape: Voxels along each axis, around the structure's centre of mass. Two numbers:
            of a plane across the volume's last axis, the one that holds most of the structure.
        spacing: Millimetres a voxel to resample to, a number for each of these axes or one for
            all; None keeps each case's own.
        max_cases: The first so many usable cases; None: all of them.
        largest_cut: The largest share of a structure's voxels that may lie in the outermost planes
            of its volume, or on the edges of its plane; None: any. See
            :mod:`marginseg.data.wholeness`.
        cache_dir: Where prepared cases are kept; None is :func:`default_cache_dir`.
        progress: Called with each case in turn.

    Raises:
        ValueError: An argument is out of its range, or the cache cannot be written.
        EmptyDatasetError: No pair can be used.

    """
    shape = as_patch_shape(patch_shape)
    target = as_spacing(spacing, len(shape))
    allowed = as_largest_cut(largest_cut)
    # The cache's keys and the manifest are made from these, in this order.
    facts: dict[str, object] = {} if values is None else {"values": values}
    facts |= {"modality": modality, "largest_cut": allowed}
    make = partial(
        prepare_case,
        values=values,
        patch_shape=shape,
        spacing=target,
        largest_cut=allowed,
        intensity=IntensityScale.ct if modality == "CT" else IntensityScale.standardised,
    )
    sources = [
        Source(
            pair.name,
            (pair.image, pair.label),
            {"patch_shape": shape, "spacing": target, **facts},
            partial(make, *pair),
        )
        for pair in pairs
    ]
    return prepare(
        structure,
        sources,
        patch_shape=shape,
        spacing=target,
        max_cases=max_cases,
        cache_dir=cache_dir,
        root=root,
        parameters={"data": kind, **facts},
        rule=rule(allowed, len(shape)),
        progress=progress,
    )


def prepare_case(
    name: str,
    image_file: Path,
    label_file: Path,
    *,
    values: Sequence[int] | None,
    patch_shape: tuple[int, ...],
    spacing: tuple[float, ...] | None,
    largest_cut: float | None,
    intensity: Callable[[NDArray[np.float32]], IntensityScale],
) -> Case:
    """Read a case and cut the patch around the structure's centre of mass.

    Where the patch leaves the volume, the image is the volume's minimum and the label 0. The label
    is read first: a case without the structure, or without enough of it, costs no image.

    Args:
        name: Of the case.
        image_file: The scan.
        label_file: The label map, of the same shape and spacing.
        values: The structure is where the label map has one of these; None: anywhere but 0.
        patch_shape: Voxels of the patch, along three axes or along the two of a plane.
        spacing: Millimetres a voxel along them to resample to; None keeps the scan's own.
        largest_cut: With a share, the structure has to be whole enough for
            :func:`~marginseg.data.wholeness.check_volume` and
            :func:`~marginseg.data.wholeness.check_patch`; with None a voxel of it is enough.
        intensity: Gives the map of intensities that suits a volume.

    Raises:
        UnusableCaseError: A file is unreadable, see :func:`read_volume`; or image and label differ
            in shape or spacing; or the structure is empty, in the volume or in the patch, or not
            whole enough.

    """
    label, label_spacing = read_label(label_file)
    mask = label != 0 if values is None else np.isin(label, np.asarray(values))
    del label
    axes = len(patch_shape)
    # A patch of two axes lies in one plane of the volume, and all that follows is about this plane.
    shown: Any = ... if axes == mask.ndim else (..., largest_plane(mask))
    structure = mask[shown]
    voxels, cut = check_volume(structure, largest_cut, label_file.name)
    patch = Patch.around(
        centre_of_mass(structure),
        patch_shape,
        source_shape=structure.shape,
        spacing=label_spacing[:axes],
        target_spacing=spacing,
    )
    inside = patch.label(structure)
    check_patch(inside, largest_cut)
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
        intensity(image)(patch.image(image[shown], float(image.min()))),
        inside,
        image_spacing[:axes] if spacing is None else spacing,
        voxels,
        cut,
    )
