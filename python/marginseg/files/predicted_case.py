"""What a trained network says of cases: a probability map each, and what its channels stand for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from marginseg.classes import Classes
from marginseg.files.nifti import VolumeFile


@dataclass(frozen=True)
class PredictedCase(ABC):
    """The probability map of a case: opened, not read.

    Attributes:
        name: What the case is called; different for each.
        source: The map's file; of one file a class the folder that they are in.
        fold: The folder of the fold whose network made it (``fold_0``), where that is known.
        channels: The channels of the map.
        shape: The spatial shape: the axes that the map has after its channels.
        geometry: A NIfTI file on the map's grid, as ``marginseg.files.nifti.writing`` takes it for
            masks and label maps of that ``shape``.

    """

    name: str
    source: Path
    fold: str | None
    channels: int
    shape: tuple[int, ...]
    geometry: VolumeFile

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in millimetres along each axis of ``shape``."""
        return self.geometry.spacing[: len(self.shape)]

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files of the map and of its grid."""
        return (self.source, self.geometry.path)

    @abstractmethod
    def probabilities(self) -> NDArray[Any]:
        """Read the map: (channels, *shape), the axes as in the NIfTI file; float16, 32 or 64.

        Whether the values are probabilities is for the caller to see. The array may have any order
        in memory: nothing is moved after it has been read.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file is truncated or damaged.

        """

    @abstractmethod
    def segmentation(self) -> NDArray[Any] | None:
        """Read the label map (*shape) that the network's own software wrote; None without one.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is truncated or damaged, or holds other values than the classes' labels.

        """


@dataclass(frozen=True)
class Predictions:
    """The cases of a folder.

    Attributes:
        classes: What the channels of all maps stand for.
        cases: In the order of their names.
        layout: What the folder was taken for, in words.
        numbered: Whether it is known which label values the classes have. They are not where only
            the names of files tell the classes.

    """

    classes: Classes
    cases: list[PredictedCase]
    layout: str
    numbered: bool = True


def check_names(cases: Sequence[PredictedCase]) -> None:
    """Refuse cases of the same name.

    Raises:
        ValueError: There are some; the message names the files.

    """
    seen: dict[str, Path] = {}
    for case in cases:
        if case.name in seen:
            raise ValueError(f"{case.source}: expected each case once, got {seen[case.name]} too")
        seen[case.name] = case.source
