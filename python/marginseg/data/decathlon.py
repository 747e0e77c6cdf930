"""Data sets laid out like those of the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from marginseg.data.cache import Source, prepare
from marginseg.data.dataset import CaseProgress, Dataset
from marginseg.data.intensity import IntensityScale
from marginseg.data.patches import as_patch_shape, as_spacing
from marginseg.data.reading import as_largest_cut, prepare_case, rule

ALL = "all"
"""The structure that unites every foreground label."""


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
    """The training cases of a Medical Segmentation Decathlon task.

    Of an image with several channels (4-D) the first is used. A CT, by the modality in
    ``dataset.json``, is windowed (`CT_WINDOW` to [−1, 1]); anything else is clipped at its 0.5th
    and 99.5th percentile and standardised, case by case. Orientation is kept as stored. A case that
    cannot be used is skipped, and named in `Dataset.skipped`.

    Args:
        directory: holds ``dataset.json`` and the files that its ``training`` list names.
        structure: a foreground label's name in ``dataset.json``, or ``"all"`` for their union.
        patch_shape: voxels, three axes, around the structure's centre of mass.
        spacing: millimetres to resample to; None keeps each case's own.
        max_cases: the first so many usable cases, in the order of ``dataset.json``.
        largest_cut: of the structure's voxels, the largest share that may lie on the faces of the
            volume, in its outermost planes: more says that the scan ends within the structure.
            With it, the patch also has to have 27 voxels of the structure. None: one is enough.
        cache_dir: where prepared cases are kept; None is `default_cache_dir`.
        progress: called with each case in turn: how many were looked at, are usable, are wanted.

    Raises:
        ValueError: folder or ``dataset.json`` is missing or wrong, or has no such structure.
        EmptyDatasetError: no case can be used.

    """
    root = Path(directory)
    content = _read_description(root)
    values = _label_values(root, content)
    if structure != ALL and structure not in values:
        raise ValueError(
            f"structure must be one of {decathlon_structures(root)} in {root}, got {structure!r}"
        )
    shape, target = as_patch_shape(patch_shape), as_spacing(spacing)
    allowed = as_largest_cut(largest_cut)
    chosen = sorted(values.values()) if structure == ALL else [values[structure]]
    modality = _first_modality(content)
    intensity = IntensityScale.ct if modality == "CT" else IntensityScale.standardised
    parameters = {"values": chosen, "modality": modality, "largest_cut": allowed}
    sources = []
    for image_file, label_file in _training_files(root, content):
        name = image_file.name.removesuffix(".gz").removesuffix(".nii")
        sources.append(
            Source(
                name,
                (image_file, label_file),
                {"patch_shape": shape, "spacing": target, **parameters},
                partial(
                    prepare_case,
                    name,
                    image_file,
                    label_file,
                    values=chosen,
                    patch_shape=shape,
                    spacing=target,
                    largest_cut=allowed,
                    intensity=intensity,
                ),
            )
        )
    return prepare(
        structure,
        sources,
        patch_shape=shape,
        spacing=target,
        max_cases=max_cases,
        cache_dir=cache_dir,
        root=root,
        parameters={"data": "decathlon", **parameters},
        rule=rule(allowed),
        progress=progress,
    )


def decathlon_structures(directory: str | os.PathLike[str]) -> list[str]:
    """The foreground labels of ``dataset.json`` by value, then ``"all"`` where there are several.

    Raises:
        ValueError: folder or ``dataset.json`` is missing or wrong.

    """
    root = Path(directory)
    values = _label_values(root, _read_description(root))
    names = sorted(values, key=values.__getitem__)
    return names if len(names) == 1 else [*names, ALL]


def _read_description(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise ValueError(f"directory: no such folder: {root}")
    path = root / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"directory: no dataset.json in {root}") from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"directory: cannot read {path} ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"directory: {path} must hold a JSON object")
    return content


def _label_values(root: Path, content: dict[str, Any]) -> dict[str, int]:
    """Foreground names and values of ``"labels": {"0": "background", "1": name, …}``."""
    try:
        values = {str(name): int(value) for value, name in content["labels"].items()}
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f'directory: {root / "dataset.json"} must have "labels" like '
            '{"0": "background", "1": "liver"}'
        ) from error
    foreground = {name: value for name, value in values.items() if value != 0}
    if not foreground:
        raise ValueError(f"directory: {root / 'dataset.json'} names no foreground label")
    return foreground


def _training_files(root: Path, content: dict[str, Any]) -> list[tuple[Path, Path]]:
    try:
        return [(root / item["image"], root / item["label"]) for item in content["training"]]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'directory: {root / "dataset.json"} must have "training" like '
            '[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]'
        ) from error


def _first_modality(content: dict[str, Any]) -> str:
    modalities = content.get("modality")
    return str(modalities.get("0", "")).upper() if isinstance(modalities, dict) else ""
