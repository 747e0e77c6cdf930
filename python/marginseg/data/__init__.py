"""Images with labels: phantoms, the Medical Segmentation Decathlon, TotalSegmentator.

Every source ends in a :class:`Dataset` of :class:`Case` patches of one size around one structure,
normalised, prepared once and kept on disk.

A real scan may end within a structure. Where it does, the structure has voxels in the scan's
outermost planes, on its faces: a few where a vessel crosses a long scan, many where the scan cuts
an organ near its tip. ``largest_cut`` is the largest share of the structure's voxels, from 0 to 1,
that may lie there; a case with more is left out, and so is one whose patch has fewer than 27 voxels
of the structure. Without a ``largest_cut`` the scan may end anywhere, and one voxel is enough.
"""

from __future__ import annotations

import os
from pathlib import Path

from marginseg.data.cache import default_cache_dir
from marginseg.data.dataset import Case, CaseProgress, Dataset, EmptyDatasetError, by_reason
from marginseg.data.decathlon import DESCRIPTION, decathlon, decathlon_structures
from marginseg.data.folds import folds
from marginseg.data.manifest import manifests, read_manifest, verify
from marginseg.data.phantom import PHANTOM_STRUCTURES, phantom
from marginseg.data.totalsegmentator import (
    IMAGE,
    MASKS,
    is_subject,
    totalsegmentator,
    totalsegmentator_structures,
)

#: The names by which :func:`structures_of` knows the sources.
DATA_KINDS = ("phantom", "decathlon", "totalsegmentator")


def structures_of(kind: str, directory: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of the structures that can be segmented in a source.

    Args:
        kind: One of ``DATA_KINDS``.
        directory: The data set's folder; phantoms need none.

    Raises:
        ValueError: ``kind`` is unknown, or the folder is missing or not of that kind.

    Example:
        >>> structures_of("phantom")
        ['kidney', 'tube', 'thin_tube']

    """
    if kind == "phantom":
        return list(PHANTOM_STRUCTURES)
    if kind not in DATA_KINDS:
        raise ValueError(f"kind: expected one of {', '.join(DATA_KINDS)}, got {kind!r}")
    if directory is None:
        raise ValueError(f"directory: expected the data set's folder for {kind}, got None")
    if kind == "decathlon":
        return decathlon_structures(directory)
    return totalsegmentator_structures(directory)


def kind_of(directory: str | os.PathLike[str]) -> str:
    """Tell from what lies in a data set's folder which of the sources reads it.

    Args:
        directory: The folder.

    Returns:
        ``"decathlon"`` or ``"totalsegmentator"``.

    Raises:
        ValueError: It is none of either kind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "s0000", "segmentations").mkdir(parents=True)
        ...     kind_of(folder)
        'totalsegmentator'

    """
    root = Path(directory)
    if (root / DESCRIPTION).is_file():
        return "decathlon"
    if root.is_dir() and any(map(is_subject, root.iterdir())):
        return "totalsegmentator"
    raise ValueError(
        f"directory: expected {DESCRIPTION}, or folders with {IMAGE} and {MASKS}, in {root}, "
        "got neither"
    )


__all__ = [
    "DATA_KINDS",
    "PHANTOM_STRUCTURES",
    "Case",
    "CaseProgress",
    "Dataset",
    "EmptyDatasetError",
    "by_reason",
    "decathlon",
    "default_cache_dir",
    "folds",
    "kind_of",
    "manifests",
    "phantom",
    "read_manifest",
    "structures_of",
    "totalsegmentator",
    "verify",
]
