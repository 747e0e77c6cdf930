"""What a data set is: cases that are ready for training, and cases that could not be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


class EmptyDatasetError(ValueError):
    """No case of the data set can be used; the message names the structure and says why."""


class UnusableCaseError(Exception):
    """A case cannot be used; the message is the reason, one line."""


@dataclass(frozen=True)
class Case:
    """One image with its label.

    Attributes:
        name: unique within the data set.
        image: float32, ``(*spatial)``, normalised.
        label: uint8, 0 or 1, same shape.
        spacing: millimetres a voxel along each axis.

    """

    name: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Dataset:
    """The usable cases of one structure, and the others with the reason why they are not.

    Attributes:
        structure: what label 1 is.
        cases: a sequence; indexing it maps one case from the disk cache into memory. It can be
            sent to another process: it carries file names, no arrays.
        skipped: ``(name, reason)`` of every case that was looked at and left out.
        patch_shape: voxels of every image and label.
        spacing: millimetres a voxel, or None where each case has kept its own.

    """

    structure: str
    cases: Sequence[Case]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    patch_shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Case:
        return self.cases[index]
