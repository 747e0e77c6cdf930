"""Data sets laid out like those of the Medical Segmentation Decathlon."""

from __future__ import annotations

import os
import reprlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marginseg.data.dataset import CaseProgress, Dataset
from marginseg.data.pairs import Pair, prepare_pairs
from marginseg.files.numbers import is_number, parse_integer
from marginseg.files.records import parse_json

#: The file that describes a task, in its folder.
DESCRIPTION = "dataset.json"

#: Of a label map's values; those of more than 32 bits can't be read.
LARGEST_LABEL = 2**31 - 1

#: The structure that unites every foreground label.
ALL = "all"


def decathlon(
    directory: str | os.PathLike[str],
    structure: str,
    *,
    patch_shape: Sequence[int],
    spacing: float | Sequence[float] | None = None,
    max_cases: int | None = None,
    largest_cut: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: CaseProgress | None = None,
) -> Dataset:
    """Return the training cases of a Medical Segmentation Decathlon task.

    Of an image with several channels (4-D) the first is used. A CT, by the modality in
    ``dataset.json``, is windowed (``CT_WINDOW`` to [−1, 1]); anything else is clipped at its 0.5th
    and 99.5th percentile and standardised, case by case. Orientation is kept as stored. A case that
    cannot be used is skipped, and named in ``Dataset.skipped``.

    Args:
        directory: Holds ``dataset.json`` and the files that its ``training`` list names.
        structure: A foreground label's name in ``dataset.json``, or ``"all"`` for their union.
        patch_shape: Voxels along each axis, around the structure's centre of mass. Two numbers:
            of a plane across the volume's last axis, the one that holds most of the structure.
        spacing: Millimetres a voxel to resample to; None keeps each case's own.
        max_cases: The first so many usable cases, in the order of ``dataset.json``.
        largest_cut: Leaves out cases whose scan ends within the structure, see
            :mod:`marginseg.data`.
        cache_dir: Where prepared cases are kept; None is :func:`default_cache_dir`.
        progress: Called with each case in turn: how many were looked at, are usable, are wanted.

    Raises:
        ValueError: Folder or ``dataset.json`` is missing or wrong, or has no such structure; or an
            argument is out of its range.
        EmptyDatasetError: No case can be used.

    Example:
        >>> import json, nibabel, numpy as np, tempfile
        >>> label = np.zeros((9, 9, 9), np.uint8); label[3:6, 3:6, 3:6] = 1
        >>> task = {
        ...     "modality": {"0": "MRI"},
        ...     "labels": {"0": "background", "1": "cube"},
        ...     "training": [{"image": "a.nii.gz", "label": "a-label.nii.gz"}],
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nibabel.save(nibabel.Nifti1Image(9 * label, np.eye(4)), f"{folder}/a.nii.gz")
        ...     nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), f"{folder}/a-label.nii.gz")
        ...     _ = Path(folder, "dataset.json").write_text(json.dumps(task))
        ...     data = decathlon(folder, "cube", patch_shape=(5, 5, 5), cache_dir=f"{folder}/cache")
        ...     data[0].name, data[0].image.shape, int(data[0].label.sum())
        ('a', (5, 5, 5), 27)

    """
    root = Path(directory)
    content = _read_description(root)
    values = _label_values(root, content)
    if structure != ALL and structure not in values:
        known = ", ".join(decathlon_structures(root))
        raise ValueError(f"structure: expected one of {known} in {root}, got {structure!r}")
    return prepare_pairs(
        "decathlon",
        root,
        structure,
        _training_pairs(root, content),
        values=sorted(values.values()) if structure == ALL else [values[structure]],
        modality=_first_modality(content),
        patch_shape=patch_shape,
        spacing=spacing,
        max_cases=max_cases,
        largest_cut=largest_cut,
        cache_dir=cache_dir,
        progress=progress,
    )


def decathlon_structures(directory: str | os.PathLike[str]) -> list[str]:
    """Return the foreground labels of ``dataset.json``, and ``"all"`` where there are several.

    Args:
        directory: The task's folder.

    Returns:
        The labels' names by value, then ``"all"``.

    Raises:
        ValueError: Folder or ``dataset.json`` is missing or wrong.

    Example:
        >>> import json, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     labels = {"0": "background", "2": "tumour", "1": "liver"}
        ...     _ = Path(folder, "dataset.json").write_text(json.dumps({"labels": labels}))
        ...     decathlon_structures(folder)
        ['liver', 'tumour', 'all']

    """
    root = Path(directory)
    values = _label_values(root, _read_description(root))
    names = sorted(values, key=values.__getitem__)
    return names if len(names) == 1 else [*names, ALL]


def _read_description(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise ValueError(f"directory: expected an existing folder, got {root}")
    path = root / DESCRIPTION
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"directory: expected a {DESCRIPTION} in {root}, got none") from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"directory: cannot read {path} ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"directory: expected a JSON object in {path}, got {reprlib.repr(content)}"
        )
    return content


def _label_values(root: Path, content: dict[str, Any]) -> dict[str, int]:
    """Return the foreground's names and values.

    The decathlon writes ``{"0": "background", "1": "liver"}``, nnU-Net writes
    ``{"background": 0, "liver": 1}``.
    """
    labels = content.get("labels")
    example = '{"0": "background", "1": "liver"} or {"background": 0, "liver": 1}'
    try:
        named = _named_values(labels)
    except ValueError as error:
        raise _unlike(root, "labels", example, labels) from error
    foreground = [(name, value) for name, value in named if value != 0]
    if not foreground or not all(name.strip() for name, _ in foreground):
        raise _unlike(root, "labels", example, labels)
    _each_once(root, "labels", [name for name, _ in foreground])
    return dict(foreground)


def _named_values(labels: object) -> list[tuple[str, int]]:
    """Return names with values, in whichever direction they are written.

    Raises:
        ValueError: They are written in neither.

    """
    if not isinstance(labels, dict):
        raise ValueError("no object")
    if all(isinstance(name, str) for name in labels.values()):
        named = [(name, parse_integer(value)) for value, name in labels.items()]
    else:
        named = list(labels.items())
    if not all(isinstance(v, int) and is_number(v, 0, LARGEST_LABEL) for _, v in named):
        raise ValueError("a value is none of a label map")
    return named


def _training_pairs(root: Path, content: dict[str, Any]) -> list[Pair]:
    listed = content.get("training")
    example = '[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]'
    if not isinstance(listed, list):
        raise _unlike(root, "training", example, listed)
    pairs = []
    for item in listed:
        try:
            image, label = root / item["image"], root / item["label"]
        except (KeyError, TypeError) as error:
            raise _unlike(root, "training", example, [item]) from error
        pairs.append(Pair(image.name.removesuffix(".gz").removesuffix(".nii"), image, label))
    # A case that is listed twice would be trained on in one fold and tested in the same.
    _each_once(root, "training", [pair.name for pair in pairs])
    _each_once(root, "training", [_place(pair.image) for pair in pairs])
    return pairs


def _place(path: Path) -> str:
    """Return where a file is, links followed; of what can't be a file's name, the name."""
    try:
        return os.path.realpath(path)
    except ValueError:
        return str(path)


def _each_once(root: Path, key: str, names: Sequence[str]) -> None:
    """Refuse a part of the description that names something twice."""
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(
                f'directory: expected each once in "{key}" of {root / DESCRIPTION}, '
                f"got {reprlib.repr(name)} {count} times"
            )


def _first_modality(content: dict[str, Any]) -> str:
    modalities = content.get("modality")
    return str(modalities.get("0", "")).upper() if isinstance(modalities, dict) else ""


def _unlike(root: Path, key: str, example: str, found: object) -> ValueError:
    """Say what a part of the description should look like."""
    return ValueError(
        f'directory: expected "{key}" like {example} in {root / DESCRIPTION}, '
        f"got {reprlib.repr(found)}"
    )
