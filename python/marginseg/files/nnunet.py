"""The probability maps of nnU-Net v2, as `nnUNetv2_predict` and `nnUNetv2_train` write them.

Beside each segmentation, CASE.nii.gz, stands CASE.npz, whose array `probabilities` is the map
(channels, z, y, x) on the grid of the segmentation, and a pickle, which is not read.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from nibabel import orientations as untyped_orientations
from numpy.typing import NDArray

from marginseg.classes import Classes
from marginseg.files.label_names import read_label_names
from marginseg.files.labels import read_label
from marginseg.files.nifti import SUFFIXES, VolumeFile, open_volume
from marginseg.files.npz import ArchivedArray, keys, open_array
from marginseg.files.predicted_case import PredictedCase, Predictions, check_names
from marginseg.files.records import read_json

orientations: Any = untyped_orientations

KEY: Final = "probabilities"

#: What has nnU-Net write maps at all.
HOW: Final = "nnUNetv2_predict --save_probabilities and nnUNetv2_train --val --npz write it"

#: The orientation that images are turned to before the network sees them, if its reader turns them.
CANONICAL: Final = "RAS"


@dataclass(frozen=True)
class NNUNetCase(PredictedCase):
    """A case of nnU-Net.

    Attributes:
        array: The map as it is stored.
        turned: Whether the segmentation has been turned back to the image's orientation, and the
            map has not.

    """

    array: ArchivedArray
    turned: bool

    def probabilities(self) -> NDArray[Any]:
        """Return a view of what is stored."""
        array = self.array.read()
        stored = array.transpose(0, *range(array.ndim - 1, 0, -1))
        return _on_grid(stored, self.geometry, self.turned).reshape(self.channels, *self.shape)

    def segmentation(self) -> NDArray[Any]:
        """Return the label map beside the map, whose grid is the map's."""
        return read_label(self.geometry.path).data.reshape(self.shape, order="F")


def is_nnunet(folder: Path) -> bool:
    """Return whether a folder looks like one of nnU-Net's, with maps or without."""
    return bool(
        _named(folder, "*.npz")
        or _named(folder, "fold_*/validation")
        or _models(folder)
        or (folder / "validation").is_dir()
        or ((folder / "plans.json").is_file() and (folder / "dataset.json").is_file())
    )


def open_nnunet(
    folder: Path, dataset: Path | None = None, classes: Classes | None = None
) -> Predictions:
    """Open what nnU-Net wrote.

    Args:
        folder: The output of a prediction; or a trained model (``TRAINER__PLANS__CONFIGURATION``)
            or one of its folds, whose validation cases are taken. The names of folders say what
            they are, so it is no ``.``, which ``marginseg.files.predictions`` makes absolute.
        dataset: The ``dataset.json``; the default is the one beside the maps, or of the model.
        classes: What the channels stand for where there is no such file.

    Raises:
        OSError: A file or folder is missing or cannot be read.
        ValueError: A file is not what nnU-Net writes; or there are no maps.

    """
    folds = _named(folder, "fold_*/validation")
    left_out: list[str] = []
    models = _models(folder)
    if _named(folder, "*.npz"):
        places = [folder]
    elif folds:
        places, left_out = _folds_with_maps(folder, folds)
    elif (folder / "validation").is_dir():
        places, left_out = _folds_with_maps(folder, [folder / "validation"])
    elif len(models) == 1:
        return open_nnunet(models[0], dataset, classes)
    elif models:
        found = ", ".join(model.name for model in models)
        raise ValueError(f"{folder}: expected the folder of one model, got {found:.300}")
    else:
        told = " (find_best_configuration copies no maps: give the folder above it)"
        where = told if folder.name.startswith("crossval_results") else ""
        raise ValueError(f"{folder}: expected CASE.npz, got no maps: {HOW}{where}")
    sources = [path for place in places for path in _named(place, "*.npz")]
    grids = [_grid(path) for path in sources]
    described = dataset or _beside("dataset.json", places[0])
    if described is not None:
        described = described / "dataset.json" if described.is_dir() else described
        classes = read_label_names(described).nnunet_classes()
    elif classes is None:
        raise FileNotFoundError(
            f"{places[0] / 'dataset.json'}: expected the file that names the labels, got no such "
            "file; put it there, or give evaluate its --dataset"
        )
    reorients = _reorients(places[0])
    cases = [
        _open_case(source, grid, classes, described)
        for source, grid in zip(sources, grids, strict=True)
    ]
    check_names(cases)
    if reorients is None:
        reorients = _seems_turned(cases, classes)
    cases = [_fitting(replace(case, turned=reorients)) for case in cases]
    return Predictions(
        classes,
        sorted(cases, key=lambda case: case.name),
        ", ".join([*_layout(places, left_out, classes), *_without_maps(places, sources)]),
    )


def _models(folder: Path) -> list[Path]:
    """Return the trained models in a data set's folder of results, or in that of all results."""
    folds = _named(folder, "*__*__*/fold_*") + _named(folder, "*/*__*__*/fold_*")
    return sorted({fold.parent for fold in folds})


def _folds_with_maps(folder: Path, folds: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the validation folders that have maps, and the names of folds that are left out."""
    places = [fold for fold in folds if _named(fold, "*.npz")]
    if not places:
        raise ValueError(f"{folds[0]}: expected CASE.npz, got no maps: {HOW}")
    held_out = [fold for fold in places if fold.parent.name != "fold_all"]
    # What was trained on all cases has seen those that it predicts.
    kept = held_out or places
    return kept, [fold.parent.name for fold in folds if fold not in kept]


def _layout(places: list[Path], left_out: list[str], classes: Classes) -> list[str]:
    count = len(places)
    if places[0].name != "validation":
        said = ["nnU-Net v2, predictions"]
    elif places[0].parent.name == "fold_all":
        said = ["nnU-Net v2, fold_all, whose network was trained on these cases"]
    elif count == 1:
        said = [f"nnU-Net v2, validation of {places[0].parent.name}"]
    else:
        said = [f"nnU-Net v2, {count} folds of cross-validation"]
    if left_out:
        said.append(f"without {', '.join(left_out)}")
    return [*said, "softmax" if classes.exclusive else "sigmoid of regions"]


def _without_maps(places: list[Path], sources: list[Path]) -> list[str]:
    """Say of how many segmentations there are no maps."""
    found = {
        path.with_name(f"{path.name.removesuffix(suffix)}.npz")
        for place in places
        for suffix in SUFFIXES
        for path in _named(place, f"*{suffix}")
    }
    count = len(found.difference(sources))
    if count == 0:
        return []
    return [f"{count} segmentation{'s' * (count > 1)} without a map left out"]


def _grid(source: Path) -> Path:
    """Return the segmentation beside a map."""
    for suffix in reversed(SUFFIXES):
        path = source.with_name(source.stem + suffix)
        if path.is_file():
            return path
    others = sorted(source.parent.glob(f"{glob.escape(source.stem)}.*"))
    if got := [path.name for path in others if path.suffix not in (".npz", ".pkl")]:
        raise ValueError(
            f"{source}: expected a segmentation in NIfTI beside it, got {got[0]}, which is not read"
        )
    raise FileNotFoundError(
        f"{source.with_suffix('.nii.gz')}: expected the segmentation beside {source.name}, "
        "which has the map's grid, got no such file; TotalSegmentator's --save_probabilities "
        "writes maps on a resampled grid of its own, and no file that tells where that is"
    )


def _open_case(source: Path, grid: Path, classes: Classes, described: Path | None) -> NNUNetCase:
    if KEY not in (there := keys(source)) and "softmax" in there:
        raise ValueError(f"{source}: expected nnU-Net v2's {KEY!r}, got v1's cropped 'softmax'")
    array = open_array(source, KEY)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ValueError(f"{source}: expected float16, 32 or 64, got {array.dtype}")
    geometry = open_volume(grid)
    if len(array.shape) not in (3, 4) or any(length > 1 for length in geometry.shape[3:]):
        raise ValueError(
            f"{source}: expected a channel axis and up to 3 of space, got shape {array.shape} with "
            f"{grid.name} of shape {geometry.shape}"
        )
    if array.shape[0] != classes.channel_count:
        raise ValueError(
            f"{source}: expected {classes.channel_count} channels, "
            + (f"which {described} describes" if described else f"for {', '.join(classes.names)}")
            + f", got {array.shape[0]}"
        )
    fold = source.parent.parent.name if source.parent.name == "validation" else None
    shape = geometry.shape[:3]
    return NNUNetCase(source.stem, source, fold, array.shape[0], shape, geometry, array, False)


def _fitting(case: NNUNetCase) -> NNUNetCase:
    if not _fits(case):
        found = case.array.shape[:0:-1]
        raise ValueError(
            f"{case.source}: expected the shape of {case.geometry.path.name}, {case.shape}, got "
            f"{found}"
        )
    return case


def _fits(case: NNUNetCase) -> bool:
    """Return whether the map has the shape of the segmentation, turned or not."""
    stored = (*case.array.shape[:0:-1], 1)[:3]
    wanted = (*case.shape, 1)[:3]
    if case.turned:
        axes = orientations.io_orientation(case.geometry.affine)[:, 0]
        if len(case.shape) != 3 or np.isnan(axes).any():
            return False
        wanted = tuple(wanted[int(axis)] for axis in np.argsort(axes))
    return stored == wanted


def _on_grid(stored: NDArray[Any], geometry: VolumeFile, turned: bool) -> NDArray[Any]:
    """Return a map (channels, x, y, z) in the orientation of its segmentation: a view."""
    if not turned:
        return stored
    back = orientations.ornt_transform(
        orientations.axcodes2ornt(CANONICAL), orientations.io_orientation(geometry.affine)
    )
    view = orientations.apply_orientation(np.moveaxis(stored, 0, -1), back)
    return np.moveaxis(view, -1, 0)


def _seems_turned(cases: Sequence[NNUNetCase], classes: Classes) -> bool:
    """Tell from shapes and segmentations whether the maps are turned, where no plans say it.

    Raises:
        ValueError: They do not tell it, as segmentations that are empty don't, and it matters.

    """
    undecided: list[NNUNetCase] = []
    for case in cases:
        plain, other = _fits(case), _fits(turned := replace(case, turned=True))
        if plain != other:
            return other
        if not plain or orientations.aff2axcodes(case.geometry.affine) == tuple(CANONICAL):
            continue
        own = case.segmentation()
        agreeing = [
            np.count_nonzero(at_half(classes, which.probabilities()) == own)
            for which in (case, turned)
        ]
        if agreeing[0] != agreeing[1]:
            return bool(agreeing[1] > agreeing[0])
        if not np.array_equal(case.probabilities(), turned.probabilities()):
            undecided.append(case)
    if undecided:
        raise ValueError(
            f"{undecided[0].source.with_name('plans.json')}: expected the plans, which tell "
            "whether maps were turned, got no such file; the segmentation of "
            f"{undecided[0].name} does not tell it"
        )
    return False


def at_half(classes: Classes, probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return the label map that nnU-Net makes of a map (channels, *spatial).

    Example:
        >>> at_half(Classes.softmax(["organ"]), np.array([[0.5, 0.4], [0.5, 0.6]])).tolist()
        [0, 1]

    """
    if classes.exclusive:
        return np.asarray(probabilities.argmax(0))
    return classes.paint(probabilities[list(classes.channels)] > 0.5)


def _reorients(folder: Path) -> bool | None:
    """Return whether the plans name a reader that turns images; None without plans."""
    for place in (folder, folder.parent, folder.parent.parent):
        plans = read_json(place / "plans.json")
        if isinstance(plans, dict) and isinstance(plans.get("image_reader_writer"), str):
            return plans["image_reader_writer"].endswith("WithReorient")
    return None


def _beside(name: str, folder: Path) -> Path | None:
    places = [folder]
    if folder.name == "validation":
        places += [folder.parent, folder.parent.parent]
    return next((place / name for place in places if (place / name).is_file()), None)


def _named(folder: Path, pattern: str) -> list[Path]:
    """Return what matches, in the order of names and numbers, without hidden files."""
    found = [path for path in folder.glob(pattern) if not path.name.startswith(".")]
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[Any]:
    parts = re.split(r"([0-9]+)", str(path))
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]
