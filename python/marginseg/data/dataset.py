"""What a data set is: cases that are ready for training, and cases that could not be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class EmptyDatasetError(ValueError):
    """No case of the data set can be used; the message names the structure and says why.

    Attributes:
        skipped: ``(name, reason)`` of every case.

    """

    def __init__(self, message: str, skipped: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.skipped = list(skipped)


class UnusableCaseError(Exception):
    """A case cannot be used; the message is the reason, one line.

    Args:
        what: What is wrong, in the same words for every case: cases are counted by it.
        details: What is wrong with this case.

    Example:
        >>> str(UnusableCaseError("the structure is empty", "no voxel in aorta.nii.gz"))
        'the structure is empty: no voxel in aorta.nii.gz'

    """

    def __init__(self, what: str, details: str) -> None:
        super().__init__(f"{what}: {details}")


class RejectedCaseError(UnusableCaseError):
    """A case whose files can be read and say that it cannot be used: so they will next time."""


#: Called with each case in turn: how many were looked at, are usable, and are wanted at most.
CaseProgress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Case:
    """One image with its label.

    Attributes:
        name: Unique within the data set.
        image: float32 array of shape (*spatial), normalised.
        label: uint8 array of the same shape, 0 and 1.
        spacing: Millimetres a voxel along each axis.
        voxels: Of the structure in the whole volume as it is stored, or in the plane of it that
            the patch lies in; None where only the patch is known.
        cut: Which share of them lies in the outermost planes of that volume, or on the edges of
            that plane; None where only the patch is known.

    """

    name: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    spacing: tuple[float, ...]
    voxels: int | None = None
    cut: float | None = None


@dataclass(frozen=True)
class Dataset:
    """The usable cases of one structure, and the others with the reason why they are not.

    Attributes:
        structure: What label 1 is.
        cases: A sequence; indexing it maps one case from the disk cache into memory. It can be
            sent to another process: it carries file names, no arrays.
        skipped: ``(name, reason)`` of every case that was looked at and left out.
        patch_shape: Voxels of every image and label.
        spacing: Millimetres a voxel, or None where each case has kept its own.
        manifest: The file that lists the prepared cases with their checksums, or None.

    """

    structure: str
    cases: Sequence[Case]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    patch_shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    manifest: Path | None = None

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Case:
        return self.cases[index]


def by_reason(skipped: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Group cases that were left out by what is wrong with them.

    Args:
        skipped: ``(name, reason)`` of each case, as in ``Dataset.skipped``.

    Returns:
        For each thing that is wrong, in the order in which they occur, the cases with their
        details.

    Example:
        >>> by_reason([("a", "a file is missing: a.nii"), ("b", "a file is missing: b.nii")])
        {'a file is missing': [('a', 'a.nii'), ('b', 'b.nii')]}

    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in skipped:
        what, _, details = reason.partition(": ")
        groups.setdefault(what, []).append((name, details))
    return groups
