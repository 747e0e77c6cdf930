"""Options that commands share: where the cases come from, and what their texts mean."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marginseg.files.numbers import parse_integer, parse_number

if TYPE_CHECKING:
    from marginseg.study.configuration import StudyConfig


class Data(StrEnum):
    """Where the cases come from."""

    phantom = "phantom"
    decathlon = "decathlon"
    totalsegmentator = "totalsegmentator"


class Preset(StrEnum):
    """The settings to start from."""

    quick = "quick"
    paper = "paper"


DataOption = Annotated[
    Data,
    typer.Option(
        help="phantom: made on the fly. decathlon: imagesTr, labelsTr and dataset.json in --dir. "
        "totalsegmentator: CASE/ct.nii.gz and CASE/segmentations/NAME.nii.gz in --dir."
    ),
]
DirectoryOption = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="The data set's folder; phantoms need none."),
]
StructureOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME...",
        help="What to segment, each by itself. phantom: kidney, tube, thin_tube (default: these "
        "three). decathlon: a label's name, or all, for every label as one (the default). "
        "totalsegmentator: names of masks (needed).",
    ),
]
PatchOption = Annotated[
    str | None,
    typer.Option(
        metavar="IxJ[xK]",
        help="Voxels around the structure's centre of mass: 32x48x32; each a multiple of 2 to the "
        "power of the U-Net's levels - 1. Two numbers, 64x64: of each volume the plane across its "
        "last axis that holds most of the structure.",
    ),
]
SpacingOption = Annotated[
    str | None,
    typer.Option(
        metavar="IxJ[xK]",
        help="Resample to millimetres a voxel, 1.5x1.5x1.5; one number is for every axis.",
    ),
]
MaxCasesOption = Annotated[
    int | None, typer.Option(metavar="N", help="The first N usable cases only.")
]
LargestCutOption = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        help="Leave a case out when more than this share of the structure's voxels lies on the "
        "faces of the scan, in its outermost planes: the scan ends within it. 0 to 1.",
    ),
]


def configured(preset: Preset, settings: dict[str, Any]) -> StudyConfig:
    """Return the preset with the settings that were given."""
    from marginseg.study.presets import preset as preset_of

    given = {name: value for name, value in settings.items() if value is not None}
    return preset_of(preset.value, **given).resolved()


def check(data: Data, directory: Path | None, settings: dict[str, Any]) -> None:
    """Refuse what no data set can make right, before anything heavy is imported."""
    if data is Data.phantom and directory is not None:
        raise ValueError("--dir: phantoms are made on the fly; name the --data that it holds")
    if data is not Data.phantom and directory is None:
        raise ValueError(f"--dir: needed with --data {data.value}")
    if data is Data.phantom and settings["structures"]:
        from marginseg.data import PHANTOM_STRUCTURES

        for name in settings["structures"]:
            if name not in PHANTOM_STRUCTURES:
                known = ", ".join(PHANTOM_STRUCTURES)
                raise ValueError(f"--structure: expected one of {known}, got {name!r}")
    if directory is not None and not directory.is_dir():
        raise NotADirectoryError(f"--dir: expected a folder, {directory} is none")
    if data is Data.totalsegmentator and not settings["structures"]:
        raise ValueError("--structure: needed with --data totalsegmentator, such as kidney_right")
    for name, least in (
        ("folds", 2),
        ("repeats", 1),
        ("epochs", 1),
        ("max_cases", 1),
        ("workers", 1),
    ):
        if settings.get(name) is not None and settings[name] < least:
            option = name.replace("_", "-")
            raise ValueError(f"--{option}: expected at least {least}, got {settings[name]}")
    folds, largest_cut = settings.get("folds"), settings["largest_cut"]
    if folds and settings["max_cases"] and folds > settings["max_cases"]:
        raise ValueError(
            f"--folds: expected at most --max-cases {settings['max_cases']}, got {folds}"
        )
    if largest_cut is not None and not 0 <= largest_cut <= 1:
        raise ValueError(f"--largest-cut: expected a share from 0 to 1, got {largest_cut}")
    for level in settings.get("std") or ():
        if not 0 <= level < float("inf"):
            raise ValueError(f"--std: expected finite numbers >= 0, got {level}")
    for name in ("length_scale", "learning_rate"):
        if settings.get(name) is not None and not 0 < settings[name] < float("inf"):
            option = name.replace("_", "-")
            raise ValueError(f"--{option}: expected a finite number > 0, got {settings[name]}")


def numbers(option: str, text: str | None, separator: str) -> tuple[float, ...] | None:
    """Parse ``1.5x1.5x3``."""
    if text is None:
        return None
    try:
        found = tuple(parse_number(part) for part in text.split(separator))
    except ValueError:
        found = ()
    if not found or not all(0 < number < float("inf") for number in found):
        raise ValueError(f"{option}: expected numbers > 0 joined by {separator}, got {text!r}")
    return found


def integers(option: str, text: str | None, separator: str) -> tuple[int, ...] | None:
    """Parse ``8-16-32-64`` or ``32x48x32``."""
    if text is None:
        return None
    try:
        found = tuple(parse_integer(part) for part in text.split(separator))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ValueError(f"{option}: expected integers > 0 joined by {separator}, got {text!r}")
    return found
