"""The probability maps of trained networks, in the layouts that people have on their disks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from marginseg.files.case_labels import CaseLabel, open_labels
from marginseg.files.nifti_maps import open_nifti_maps
from marginseg.files.nnunet import is_nnunet, open_nnunet
from marginseg.files.predicted_case import PredictedCase, Predictions

__all__ = ["CaseLabel", "PredictedCase", "Predictions", "open_labels", "open_predictions"]


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
    if is_nnunet(folder):
        if names is not None or exclusive is not None:
            raise ValueError(
                f"{folder}: expected no names and no kind of classes, which nnU-Net's dataset.json "
                "tells, got some"
            )
        return open_nnunet(folder, dataset)
    return open_nifti_maps(folder, dataset, names, exclusive)
