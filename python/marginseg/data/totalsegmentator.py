"""Data sets laid out like TotalSegmentator's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from marginseg.data.cache import Source, prepare
from marginseg.data.dataset import CaseProgress, Dataset
from marginseg.data.intensity import IntensityScale
from marginseg.data.patches import as_patch_shape, as_spacing
from marginseg.data.reading import as_largest_cut, prepare_case, rule

IMAGE = "ct.nii.gz"
MASKS = "segmentations"


def totalsegmentator(
    directory: str | os.PathLike[str],
    structure: str,
    *,
    patch_shape: Sequence[int],
    spacing: float | Sequence[float] | None = None,
    max_cases: int | None = None,
    largest_cut: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: CaseProgress | None = None,
) -> Dataset:
    """The subjects of a TotalSegmentator folder.

    A subject whose mask is missing or empty is skipped, and named in `Dataset.skipped`; so is one
    that has not enough of the structure, by ``largest_cut``. Hounsfield units in `CT_WINDOW` become
    [−1, 1]. Orientation is kept as stored.

    Args:
        directory: holds ``s0000/ct.nii.gz`` and ``s0000/segmentations/NAME.nii.gz``, and so on.
        structure: a mask's file name without ``.nii.gz``.
        patch_shape: voxels, three axes, around the structure's centre of mass.
        spacing: millimetres to resample to; None keeps each subject's own.
        max_cases: the first so many usable subjects, by name.
        largest_cut: of the structure's voxels, the largest share that may lie on the faces of the
            volume, in its outermost planes: more says that the scan ends within the structure.
            With it, the patch also has to have 27 voxels of the structure. None: one is enough.
        cache_dir: where prepared cases are kept; None is `default_cache_dir`.
        progress: called with each case in turn: how many were looked at, are usable, are wanted.

    Raises:
        ValueError: the folder is missing, has no subject, or no subject has such a mask.
        EmptyDatasetError: no case can be used.

    """
    root = Path(directory)
    subjects = _subjects(root)
    mask_name = f"{structure}.nii.gz"
    if not any((subject / MASKS / mask_name).is_file() for subject in subjects):
        raise ValueError(
            f"structure must be one of {totalsegmentator_structures(root)} in {root}, "
            f"got {structure!r}"
        )
    shape, target = as_patch_shape(patch_shape), as_spacing(spacing)
    allowed = as_largest_cut(largest_cut)
    parameters = {"modality": "CT", "largest_cut": allowed}
    sources = [
        Source(
            subject.name,
            (subject / IMAGE, subject / MASKS / mask_name),
            {"patch_shape": shape, "spacing": target, **parameters},
            partial(
                prepare_case,
                subject.name,
                subject / IMAGE,
                subject / MASKS / mask_name,
                values=None,
                patch_shape=shape,
                spacing=target,
                largest_cut=allowed,
                intensity=IntensityScale.ct,
            ),
        )
        for subject in subjects
    ]
    return prepare(
        structure,
        sources,
        patch_shape=shape,
        spacing=target,
        max_cases=max_cases,
        cache_dir=cache_dir,
        root=root,
        parameters={"data": "totalsegmentator", **parameters},
        rule=rule(allowed),
        progress=progress,
    )


def totalsegmentator_structures(directory: str | os.PathLike[str]) -> list[str]:
    """The names of the masks that any subject has, sorted.

    Raises:
        ValueError: the folder is missing or has no subject.

    """
    return sorted(
        {
            mask.name.removesuffix(".nii.gz")
            for subject in _subjects(Path(directory))
            for mask in (subject / MASKS).glob("*.nii.gz")
        }
    )


def _subjects(root: Path) -> list[Path]:
    """Folders that have a scan or masks, by name; a subject that lacks one is skipped later."""
    if not root.is_dir():
        raise ValueError(f"directory: no such folder: {root}")
    subjects = sorted(
        path for path in root.iterdir() if (path / IMAGE).is_file() or (path / MASKS).is_dir()
    )
    if not subjects:
        raise ValueError(f"directory: no subject folder with {IMAGE} in {root}")
    return subjects
