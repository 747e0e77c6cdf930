"""The probability maps of trained networks, in the layouts that people have on their disks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from marginseg.classes import Classes
from marginseg.files.case_labels import CaseLabel, open_labels
from marginseg.files.nifti_maps import classes_of_map, open_nifti_map, open_nifti_maps
from marginseg.files.nnunet import is_nnunet, open_nnunet
from marginseg.files.predicted_case import PredictedCase, Predictions

__all__ = [
    "CaseLabel",
    "PredictedCase",
    "Predictions",
    "classes_of",
    "open_labels",
    "open_predictions",
    "open_predictions_of",
]


def open_predictions(
    folder: Path,
    *,
    dataset: Path | None = None,
    names: Sequence[str] | None = None,
    exclusive: bool | None = None,
) -> Predictions:
    """Open a folder of probability maps; no map is kept in memory.

    Args:
        folder: What nnU-Net v2 wrote (the output of a prediction, the validation of a fold, or a
            trained model with its folds), or NIfTI files: one a case, a folder a case, or one a
            class.
        dataset: The ``dataset.json`` that names the labels, or its folder, where it is not with the
            maps.
        names: Of NIfTI files, the classes in the order of their channels, without the background;
            their label values are 1, 2, ...
        exclusive: Of NIfTI files, whether a voxel has one class at most, as a softmax says. The
            default tells it from the first map, whose channels sum to 1 or do not.

    Raises:
        OSError: A file or folder is missing or cannot be read.
        ValueError: The folder holds no maps, or they do not make sense; the message names the file.

    Example:
        >>> import nibabel, numpy as np, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     image = nibabel.Nifti1Image(np.full((4, 4, 4, 2), 0.5, np.float32), np.eye(4))
        ...     nibabel.save(image, f"{folder}/case.nii.gz")
        ...     opened = open_predictions(Path(folder), names=["tumour"])
        ...     opened.classes.names, opened.cases[0].probabilities().shape
        (('tumour',), (2, 4, 4, 4))

    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: expected a folder of probability maps, got {kind}")
    folder = _absolute(folder)
    if is_nnunet(folder):
        if names is not None or exclusive is not None:
            raise ValueError(
                f"{folder}: expected no names and no kind of classes, which nnU-Net's dataset.json "
                "tells, got some"
            )
        return open_nnunet(folder, dataset)
    return open_nifti_maps(folder, dataset, names, exclusive)


def open_predictions_of(paths: Sequence[Path], classes: Classes) -> list[PredictedCase]:
    """Open maps of classes that are known, as a rule knows them.

    Args:
        paths: A folder, as for :func:`open_predictions`; or NIfTI files, 4-D with a channel a
            class, or 3-D for one.
        classes: What their channels stand for.

    Raises:
        OSError: A file or folder is missing or cannot be read.
        ValueError: There are no maps, or they are of other classes; the message names the file.

    """
    cases: list[PredictedCase] = []
    for given in paths:
        path = _absolute(given) if given.is_dir() else given
        if path.is_dir() and is_nnunet(path):
            opened = open_nnunet(path, classes=classes)
            if _told(opened.classes) != _told(classes):
                raise ValueError(
                    f"{path}: expected maps of {_named(classes)}, got {_named(opened.classes)}"
                )
            cases += opened.cases
        elif path.is_dir():
            cases += open_nifti_maps(path, None, classes.names, classes.exclusive).cases
        else:
            cases.append(open_nifti_map(path))
    for case in cases:
        if case.channels != classes.channel_count:
            raise ValueError(
                f"{case.source}: expected {classes.channel_count} channels, for "
                f"{_named(classes)}, got {case.channels}"
            )
    return cases


def classes_of(
    path: Path,
    *,
    names: Sequence[str] | None = None,
    exclusive: bool | None = None,
    painted: Sequence[int] | None = None,
) -> Classes:
    """Return what the channels of maps stand for that nobody has a rule for.

    Args:
        path: A folder, as for :func:`open_predictions`, or a NIfTI file.
        names: The classes, in the order of the channels, without the background. The default is
            what stands beside the maps; and numbers, from 0 in the order of the channels where
            classes may overlap.
        exclusive: Whether they exclude each other.
        painted: The values of a label map, of classes that may overlap; without, they have none.

    Raises:
        OSError: A file or folder is missing or cannot be read.
        ValueError: The maps do not have so many channels; or ``painted`` is given for classes that
            exclude each other, or not one for each.

    """
    if path.is_dir():
        classes = open_predictions(path, names=names, exclusive=exclusive).classes
    else:
        classes = classes_of_map(open_nifti_map(path), names, bool(exclusive))
    if classes.exclusive:
        if painted is not None:
            raise ValueError("paint: expected with classes that may overlap alone")
        return classes
    if painted is None and (is_nnunet(path) or names is not None):
        return classes
    return replace(classes, painted=None if painted is None else tuple(painted))


def _absolute(folder: Path) -> Path:
    """Return a folder by its name and those above it, which tell what it is.

    A link stays what it is called, but what ``..`` leads to only the disk knows.
    """
    return folder.resolve() if ".." in folder.parts else folder.absolute()


def _told(classes: Classes) -> Classes:
    """Return the classes without what says nothing of the channels."""
    return replace(classes, ignored=None)


def _named(classes: Classes) -> str:
    kind = "classes that exclude each other" if classes.exclusive else "classes that may overlap"
    return f"{', '.join(classes.names)} ({kind})"
