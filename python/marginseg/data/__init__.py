"""Images with labels: phantoms, the Medical Segmentation Decathlon, TotalSegmentator.

Every source ends in a `Dataset` of `Case` patches of one size around one structure, normalised,
prepared once and kept on disk.
"""

from __future__ import annotations

import os

from marginseg.data.cache import default_cache_dir
from marginseg.data.dataset import Case, CaseProgress, Dataset, EmptyDatasetError, by_reason
from marginseg.data.decathlon import decathlon, decathlon_structures
from marginseg.data.folds import folds
from marginseg.data.manifest import manifests, read_manifest, verify
from marginseg.data.phantom import PHANTOM_STRUCTURES, phantom
from marginseg.data.totalsegmentator import totalsegmentator, totalsegmentator_structures

DATA_KINDS = ("phantom", "decathlon", "totalsegmentator")
"""The names by which `structures_of` knows the sources."""


def structures_of(kind: str, directory: str | os.PathLike[str] | None = None) -> list[str]:
    """What can be segmented in a source: ``kind`` is one of `DATA_KINDS`.

    ``directory`` is the data set's folder; phantoms need none.

    Raises:
        ValueError: ``kind`` is unknown, or the folder is missing or not of that kind.

    Example:
        >>> structures_of("phantom")
        ['kidney', 'tube', 'thin_tube']

    """
    if kind == "phantom":
        return list(PHANTOM_STRUCTURES)
    if kind not in DATA_KINDS:
        raise ValueError(f"kind must be one of {list(DATA_KINDS)}, got {kind!r}")
    if directory is None:
        raise ValueError(f"directory must name the data set's folder for {kind}, got None")
    if kind == "decathlon":
        return decathlon_structures(directory)
    return totalsegmentator_structures(directory)


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
    "manifests",
    "phantom",
    "read_manifest",
    "structures_of",
    "totalsegmentator",
    "verify",
]
