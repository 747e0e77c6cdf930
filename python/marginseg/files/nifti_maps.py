"""Folders of probability maps in NIfTI files, as MONAI and people's own code write them.

A case is a file, or a folder of its own with a file: 3-D for one class, 4-D with a channel a class.
Or it is a file for each class: CASE/CLASS.nii.gz, or CASE_CLASS.nii.gz where the classes are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marginseg.classes import Classes
from marginseg.files.label_names import BACKGROUND, LabelNames, read_label_names
from marginseg.files.labels import read_label, refuse_other_labels
from marginseg.files.names import printable, shortened
from marginseg.files.nifti import SUFFIXES, VolumeFile, open_volume
from marginseg.files.predicted_case import PredictedCase, Predictions, check_names
from marginseg.files.probabilities import ProbabilityFile, open_probabilities
from marginseg.files.sums_of_channels import exclusive_by_sums

#: Where the classes of a folder may be named.
NAMES: Final = ("classes.json", "dataset.json")

#: What the one class of a 3-D map is called where nothing names it.
ONLY: Final = "foreground"


@dataclass(frozen=True)
class NiftiCase(PredictedCase):
    """A case in NIfTI files.

    Attributes:
        files: The file of the map, or one for each channel.
        own: The network's own segmentation, if it is there.
        classes: Those that it has labels of, where that is known.

    """

    files: tuple[ProbabilityFile, ...]
    own: Path | None
    classes: Classes | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files of the map."""
        return tuple(file.volume.path for file in self.files)

    def probabilities(self) -> NDArray[Any]:
        """Return a view of what was read: Fortran's order, channels last in memory."""
        dtype = np.result_type(*(file.dtype for file in self.files))
        if len(self.files) == 1:
            whole = self.files[0].volume.read(dtype=dtype)
            stored = whole.reshape((*self.shape, self.channels), order="F")
        else:
            stored = np.empty((*self.shape, self.channels), dtype, order="F")
            for channel, file in enumerate(self.files):
                values = file.volume.read(dtype=dtype)
                stored[..., channel] = values.reshape(self.shape, order="F")
        return np.moveaxis(stored, -1, 0)

    def segmentation(self) -> NDArray[Any] | None:
        """Return the label map in the case's own folder."""
        if self.own is None:
            return None
        if self.classes is None:
            raise ValueError(
                f"{self.own}: expected a classes.json or --names beside a label map, to tell which "
                "label each class has, got none"
            )
        found = read_label(self.own)
        if found.data.size != np.prod(self.shape) or found.file.shape[: len(self.shape)] != (
            self.shape
        ):
            raise ValueError(
                f"{self.own}: expected the map's shape {self.shape}, got {found.file.shape}"
            )
        place = " in the network's own segmentation, which is what stands beside a map"
        refuse_other_labels(self.own, found.data, self.classes, place)
        return found.data.reshape(self.shape, order="F")


@dataclass(frozen=True)
class _Files:
    """The files of a case, before it is known what its channels stand for."""

    name: str
    source: Path
    maps: tuple[ProbabilityFile, ...]
    own: Path | None
    classes: tuple[str, ...] | None  # of a file per class

    @property
    def channels(self) -> int:
        return len(self.maps) if self.classes else self.maps[0].channels

    def case(self) -> NiftiCase:
        geometry = self.maps[0].volume
        shape = geometry.shape[:3]
        for other in self.maps[1:]:
            if other.volume.shape[:3] != shape:
                raise ValueError(
                    f"{other.volume.path}: expected the shape of {geometry.path.name}, {shape}, "
                    f"got {other.volume.shape}"
                )
        return NiftiCase(
            self.name, self.source, None, self.channels, shape, geometry, self.maps, self.own
        )


def open_nifti_maps(
    folder: Path,
    dataset: Path | None = None,
    names: Sequence[str] | None = None,
    exclusive: bool | None = None,
) -> Predictions:
    """Open a folder of maps in NIfTI files.

    Args:
        folder: The folder of the files, or of a folder for each case.
        dataset: JSON whose ``labels`` name the classes; the default is a ``classes.json`` or
            ``dataset.json`` in the folder.
        names: The classes' names in the order of the channels, in place of such a file. Their label
            values are 1, 2, ...
        exclusive: Whether a voxel has one class at most. The default tells it from the first map
            that is not 0, of which the channels sum to 1 or do not.

    Raises:
        OSError: A file or folder is missing or cannot be read.
        ValueError: The files do not make sense together.

    """
    if names is not None and dataset is not None:
        raise ValueError(f"{dataset}: expected with no names beside it, got {_listed(names)}")
    known = None if names is not None else _known(folder, dataset)
    called = _called(names, known)
    found, kind = _find(folder, called)
    first = found[0]
    for files in found[1:]:
        if files.classes != first.classes or files.channels != first.channels:
            raise ValueError(
                f"{files.source}: expected what {first.source.name} has, {_said(first)}, got "
                f"{_said(files)}"
            )
    if first.classes and known and set(known.values) - set(first.classes):
        missing = sorted(set(known.values) - set(first.classes))
        raise ValueError(f"{first.source}: expected a map of {missing[0]!r}, got none")
    # Classes that files alone name are in the order of the alphabet, which says nothing of labels.
    numbered = not first.classes or called is not None
    if first.classes and not called:
        called = [name for name in first.classes if name != BACKGROUND]
        numbered = len(called) == 1
    cases = [files.case() for files in found]
    check_names(cases)
    sums, how = _exclusive(cases, known, exclusive)
    classes = _classes(cases[0], called, known, sums, first.classes)
    if cases[0].channels == 1:
        how = "one class"
    known_to_cases = classes if numbered else None
    return Predictions(
        classes,
        [replace(case, classes=known_to_cases) for case in cases],
        f"NIfTI, {kind}, {how}",
        numbered,
    )


def open_nifti_map(path: Path) -> PredictedCase:
    """Open one map in a NIfTI file: 3-D for one class, or 4-D with a channel a class.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is no map; the message names it.

    """
    opened = open_probabilities(path)
    return _Files(_stem(path), path, (opened,), None, None).case()


def classes_of_map(case: PredictedCase, names: Sequence[str] | None, exclusive: bool) -> Classes:
    """Return what the channels of a map stand for, beside which nothing says it.

    Classes that may overlap and have no names are numbered from 0, as their channels are.

    Raises:
        ValueError: It has another number of channels.

    """
    called = None if names is None else list(names)
    if called is None and not exclusive:
        called = [str(channel) for channel in range(case.channels)]
    return _classes(case, called, None, exclusive, None)


def _known(folder: Path, dataset: Path | None) -> LabelNames | None:
    if dataset is not None:
        inside = [dataset / name for name in NAMES if (dataset / name).is_file()]
        return read_label_names(inside[0] if inside else dataset)
    for name in NAMES:
        if (folder / name).is_file():
            return read_label_names(folder / name)
    return None


def _called(names: Sequence[str] | None, known: LabelNames | None) -> list[str] | None:
    """Return the foreground's names in the order of their channels; None where they have none."""
    if names is not None:
        return [name for name in names if name != BACKGROUND]
    if known is None:
        return None
    if known.regions:
        return list(known.values)
    # The channels of labels are in the order of their values, whatever the order in the file.
    return sorted(known.values, key=lambda name: known.values[name])


def _said(files: _Files) -> str:
    if files.classes:
        return f"maps of {_listed(files.classes)}"
    return f"{files.channels} channels" if files.channels > 1 else "one channel"


def _find(folder: Path, names: list[str] | None) -> tuple[list[_Files], str]:
    """Return the cases of a folder, and what they are made of."""
    maps, labels = _sorted_out(folder)
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and _shown(path)]
    if maps:
        for other in inside:
            if _has_maps(other):
                raise ValueError(
                    f"{folder}: expected maps, or a folder of maps for each case, got both, "
                    f"{_listed([maps[0].volume.path.name, other.name])}"
                )
        together = _by_class(maps, names) if names and len(names) > 1 else None
        if together:
            return together, "one file a class"
        found = [
            _Files(_stem(path), path, (each,), None, None)
            for each in maps
            for path in (each.volume.path,)
        ]
        kind = "a channel a class" if found[0].channels > 1 else "one file a case"
        if labels:
            left_out = "one file" if len(labels) == 1 else f"{len(labels)} files"
            kind += f", {left_out} of integers left out"
        return found, kind
    if labels:
        raise ValueError(
            f"{labels[0].path}: expected probabilities, of a floating type or scaled by the header,"
            f" got {labels[0].dtype}: a segmentation?"
        )
    found = [_of_folder(path, names) for path in inside]
    if not found:
        raise ValueError(f"{folder}: expected probability maps (.nii.gz, .nii, .npz), got none")
    return found, "a folder a case, " + (
        "one file a class" if found[0].classes else "a channel a class"
    )


def _of_folder(folder: Path, names: list[str] | None) -> _Files:
    """Return the case of a folder: its one 4-D map or only file, or a file for each class."""
    maps, labels = _sorted_out(folder)
    several = [each for each in maps if each.channels > 1]
    single = [each for each in maps if each.channels == 1]
    own = labels[0].path if len(labels) == 1 else None
    if len(several) == 1:
        # MONAI stores segmentations as floats too.
        if own is None and len(single) == 1:
            own = single[0].volume.path
        return _Files(folder.name, several[0].volume.path, (several[0],), own, None)
    if several or not single:
        got = f"{len(several)} such maps" if several else "none"
        raise ValueError(
            f"{folder}: expected one map with a channel a class, or a map for each class, got {got}"
        )
    if len(single) == 1 and (names is None or len(names) == 1):
        return _Files(folder.name, single[0].volume.path, (single[0],), own, None)
    begin = f"{folder.name}_"
    stems = [_stem(each.volume.path) for each in single]
    if names is None and all(stem.startswith(begin) for stem in stems):
        # MONAI calls a map and a segmentation so, which are no classes.
        raise ValueError(
            f"{folder}: expected one map, or names of the classes, got {_listed(stems)}"
        )
    called = dict(zip([stem.removeprefix(begin) for stem in stems], single, strict=True))
    order = _order(list(called), names)
    return _Files(folder.name, folder, tuple(called[name] for name in order), own, tuple(order))


def _order(called: list[str], names: list[str] | None) -> list[str]:
    """Return the classes in the order of their channels: the background's first."""
    rest = sorted(name for name in called if name != BACKGROUND)
    if names:
        rest.sort(key=lambda name: names.index(name) if name in names else len(names))
    return [name for name in called if name == BACKGROUND] + rest


def _by_class(maps: list[ProbabilityFile], names: list[str]) -> list[_Files] | None:
    """Return the cases of files CASE_CLASS; None where the files are not called so."""
    cases: dict[str, dict[str, ProbabilityFile]] = {}
    for each in maps:
        stem = _stem(each.volume.path)
        fitting = [name for name in [*names, BACKGROUND] if stem.endswith(f"_{name}")]
        if not fitting:
            return None
        name = max(fitting, key=len)  # of names that end alike the longer one is meant
        cases.setdefault(stem.removesuffix(f"_{name}"), {})[name] = each
    found = []
    for case, files in cases.items():
        source = next(iter(files.values())).volume.path
        for name in names:
            if name not in files:
                path = source.with_name(f"{case}_{name}.nii.gz")
                raise FileNotFoundError(f"{path}: expected a map of each class, got no such file")
        order = _order(list(files), names)
        found.append(_Files(case, source, tuple(files[name] for name in order), None, tuple(order)))
    return found


def _sorted_out(folder: Path) -> tuple[list[ProbabilityFile], list[VolumeFile]]:
    """Return the NIfTI files of a folder that can be probabilities, and those of integers."""
    maps, labels = [], []
    for path in sorted(folder.iterdir()):
        if path.name.endswith(SUFFIXES) and _shown(path) and path.is_file():
            volume = open_volume(path)
            if volume.stored.kind == "f" or volume.slope is not None:
                maps.append(open_probabilities(path))
            else:
                labels.append(volume)
    return maps, labels


def _has_maps(folder: Path) -> bool:
    try:
        return bool(_sorted_out(folder)[0])
    except (ValueError, OSError):
        return False  # it is another's, and nothing of it is read


def _exclusive(
    cases: Sequence[NiftiCase], known: LabelNames | None, exclusive: bool | None
) -> tuple[bool, str]:
    if exclusive is not None:
        return exclusive, "softmax" if exclusive else "sigmoid"
    if known is not None and known.regions:
        return False, "sigmoid of regions"
    if cases[0].channels == 1:
        return False, "one class"
    return exclusive_by_sums(cases)


def _classes(
    case: PredictedCase,
    called: list[str] | None,
    known: LabelNames | None,
    exclusive: bool,
    files: tuple[str, ...] | None,
) -> Classes:
    """Return what the channels stand for."""
    count = case.channels
    if called is None:
        if count == 1:
            called = [ONLY]
        else:
            called = [str(number) for number in range(1, count + (0 if exclusive else 1))]
    if count not in (len(called), len(called) + 1):
        raise ValueError(
            f"{case.source}: expected {len(called)} channels, or one more of the background, for "
            f"{_listed(called)}, got {count}"
        )
    behind = count - len(called)
    if files is not None and [*files][behind:] != called:
        raise ValueError(f"{case.source}: expected maps of {_listed(called)}, got {_listed(files)}")
    values = (
        {name: known.values[name] for name in called}
        if known
        else {name: (number,) for number, name in enumerate(called, 1)}
    )
    painted: tuple[int, ...] | None = None
    if known and known.regions:
        painted = known.order
    elif all(len(value) == 1 for value in values.values()):
        painted = tuple(value[0] for value in values.values())
    return Classes(
        tuple(called),
        tuple(range(behind, count)),
        tuple(values.values()),
        exclusive,
        0 if exclusive and behind else None,
        painted,
        known.ignored if known else None,
    )


def _listed(names: Sequence[str]) -> str:
    return shortened(printable(", ".join(names)), 200)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _shown(path: Path) -> bool:
    return not path.name.startswith(".")
