"""The labels that predictions are compared with: for each case a label map, or a mask a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from nibabel import orientations as untyped_orientations
from numpy.typing import NDArray

from marginseg.classes import Classes
from marginseg.files.labels import read_label, refuse_other_labels
from marginseg.files.nifti import SUFFIXES, VolumeFile
from marginseg.files.predicted_case import PredictedCase, Predictions

orientations: Any = untyped_orientations

#: What nnU-Net's images have at the end of their names, and labels have not.
FIRST_CHANNEL: Final = "_0000"

#: Voxel sizes that differ by more of themselves are those of two grids; less is rounding.
OTHER_SIZE: Final = 0.01


@dataclass(frozen=True)
class CaseLabel:
    """The label of a case: found, not read.

    Attributes:
        name: The case's name.
        paths: The label map; or a file for each class, whose voxels are the class where not 0.
        shape: The shape that it has to have: that of the case's map.
        geometry: The file whose orientation and voxel size it has to have.
        classes: The classes of the predictions.
        masks: Whether it is a file for each class, and be there one class.

    """

    name: str
    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    geometry: VolumeFile
    classes: Classes
    masks: bool

    def targets(self) -> NDArray[np.bool_]:
        """Return where each class is: (classes, *spatial).

        Raises:
            OSError: A file cannot be read.
            ValueError: A file is damaged, has another shape, orientation or voxel size than the
                map, or values that are no label of any class.

        """
        return self.read()[0]

    def read(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Return what :meth:`targets` does, and which voxels somebody labelled, if not all.

        Raises:
            OSError: See :meth:`targets`.
            ValueError: See :meth:`targets`.

        """
        if self.masks:
            masks = [self._mask(path) for path in self.paths]
            return np.stack(masks), None
        label = self._label(self.paths[0])
        refuse_other_labels(self.paths[0], label, self.classes)
        return self.classes.targets(label), self.classes.labelled(label)

    def _mask(self, path: Path) -> NDArray[np.bool_]:
        label = self._label(path)
        found = np.unique(label)
        if len(found) > 2 or (len(found) == 2 and found[0] != 0):
            raise ValueError(f"{path}: expected a mask of one class, got {len(found)} values")
        return label != 0

    def _label(self, path: Path) -> NDArray[Any]:
        found = read_label(path)
        own, wanted = (_without_ones(shape) for shape in (found.file.shape, self.shape))
        if own != wanted:
            raise ValueError(
                f"{path}: expected the shape of the map of {self.name}, {self.shape}, got "
                f"{found.file.shape}"
            )
        oriented, map_oriented = _oriented(found.file.affine), _oriented(self.geometry.affine)
        if len(wanted) == 3 and oriented != map_oriented:
            raise ValueError(
                f"{path}: expected the orientation of the map of {self.name}, {map_oriented}, got "
                f"{oriented}"
            )
        spacing, map_spacing = found.file.spacing[: len(wanted)], self.geometry.spacing
        if not np.allclose(spacing, map_spacing[: len(wanted)], rtol=OTHER_SIZE, atol=0):
            raise ValueError(
                f"{path}: expected the voxel size of the map of {self.name}, {_mm(map_spacing)}, "
                f"got {_mm(spacing)}"
            )
        return found.data.reshape(self.shape, order="F")


def open_labels(folder: Path, predictions: Predictions) -> dict[str, CaseLabel]:
    """Find the label of each case.

    Args:
        folder: The labels: CASE.nii.gz; or masks of the classes, CASE/CLASS.nii.gz or
            CASE_CLASS.nii.gz. Maps may have more at the end of their names, all of them the same
            (``_probabilities``, or the ``_0000`` of nnU-Net's images).
        predictions: The cases.

    Returns:
        By the name of the case.

    Raises:
        OSError: The folder is missing.
        ValueError: A case has no label, or no mask of one of the classes; the message names the
            first of them. Or it has a label map, and nothing tells the classes' labels.

    Example:
        >>> import nibabel, tempfile
        >>> from marginseg.files.predictions import open_predictions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for kind, dtype in (("maps", np.float32), ("labels", np.uint8)):
        ...         Path(folder, kind).mkdir()
        ...         image = nibabel.Nifti1Image(np.ones((4, 4, 4), dtype), np.eye(4))
        ...         nibabel.save(image, f"{folder}/{kind}/case.nii.gz")
        ...     predictions = open_predictions(Path(folder, "maps"))
        ...     labels = open_labels(Path(folder, "labels"), predictions)
        ...     labels["case"].targets().shape
        (1, 4, 4, 4)

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder of the labels, got none")
    cases, names = predictions.cases, predictions.classes.names
    found = {case.name: _files(folder, case.name, names) for case in cases}
    for end in _common_ends(cases):
        if all(files.paths for files in found.values()):
            break
        shorter = {case.name: _files(folder, case.name.removesuffix(end), names) for case in cases}
        # Masks of some classes say that the labels are called so.
        if all(files.paths or files.missing for files in shorter.values()):
            found = shorter
    labels = {}
    for case in cases:
        files = found[case.name]
        if files.missing:
            raise ValueError(f"{files.missing}: expected a mask of each class, got no such file")
        if not files.paths:
            raise ValueError(
                f"{folder / case.name}.nii.gz: expected a label of each case, got none"
            )
        if not (files.masks or predictions.numbered):
            raise ValueError(
                f"{files.paths[0]}: expected a mask of each class; or a classes.json beside the "
                "maps or --names, which tell the labels of classes that only files are named after"
            )
        labels[case.name] = CaseLabel(
            case.name, files.paths, case.shape, case.geometry, predictions.classes, files.masks
        )
    return labels


@dataclass(frozen=True)
class _Files:
    """What there is of a case: a label map, masks, nothing, or masks of some classes only."""

    paths: tuple[Path, ...] = ()
    masks: bool = False
    missing: Path | None = None


def _files(folder: Path, name: str, classes: Sequence[str]) -> _Files:
    """Return the label map of a case, or the masks of its classes."""
    if whole := _volume(folder, name):
        return _Files((whole,))
    partly = _Files()
    for begin in (f"{name}/", f"{name}/{name}_", f"{name}_"):
        masks = {each: _volume(folder, begin + each) for each in classes}
        present = tuple(mask for mask in masks.values() if mask is not None)
        if len(present) == len(classes):
            return _Files(present, masks=True)
        if present and not partly.missing:
            missing = next(each for each, mask in masks.items() if mask is None)
            partly = _Files(missing=folder / f"{begin}{missing}.nii.gz")
    inside = folder / name
    if inside.is_dir() and not partly.missing:
        alone = [path for path in sorted(inside.iterdir()) if _is_volume(path)]
        if len(alone) == 1:
            return _Files((alone[0],))
    return partly


def _volume(folder: Path, name: str) -> Path | None:
    for suffix in reversed(SUFFIXES):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    return None


def _is_volume(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file()


def _common_ends(cases: Sequence[PredictedCase]) -> list[str]:
    """Return what all names end with, from some underscore on; not what only numbers the cases."""
    first = cases[0].name
    ends = [first[at:] for at in range(len(first) - 1, 0, -1) if first[at] == "_"]
    return [
        end
        for end in ends
        if (end == FIRST_CHANNEL or any(letter.isalpha() for letter in end))
        and all(case.name.endswith(end) for case in cases)
        and len(cases[0].name) > len(end)
    ]


def _oriented(affine: NDArray[np.float64]) -> str:
    """Return where the axes lead, such as LPS: to the left, to posterior and to superior."""
    return "".join(axis or "?" for axis in orientations.aff2axcodes(affine))


def _mm(spacing: Sequence[float]) -> str:
    return " × ".join(f"{size:.4g}" for size in spacing) + " mm"


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the axes of one voxel at its end."""
    kept = len(shape)
    while kept > 1 and shape[kept - 1] == 1:
        kept -= 1
    return shape[:kept]
