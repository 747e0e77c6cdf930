"""The command that tells what label noise leaves to reach, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marginseg.cli.cases import preparing, report_cases
from marginseg.cli.labels import Units, UnitsOption, checked_units
from marginseg.cli.options import (
    Data,
    LargestCutOption,
    MaxCasesOption,
    PatchOption,
    Preset,
    SpacingOption,
    check,
    configured,
    integers,
    numbers,
)
from marginseg.cli.tables import show

if TYPE_CHECKING:
    from marginseg.data import CaseProgress
    from marginseg.study.configuration import StudyConfig

#: The file of a data set in its folder, which may be named in the folder's place.
DESCRIPTION = "dataset.json"


class Picture(StrEnum):
    """The format of the figure."""

    png = "png"
    pdf = "pdf"
    svg = "svg"


def ceiling(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="phantom: made on the fly (the default). Or a data set's folder: one with "
            "dataset.json, or that file itself (Medical Segmentation Decathlon), or one with "
            "CASE/ct.nii.gz and CASE/segmentations/NAME.nii.gz (TotalSegmentator).",
            show_default=False,
        ),
    ] = "phantom",
    std: Annotated[
        list[float] | None,
        typer.Option(
            metavar="A...",
            help="Noise levels, in --units: --std 0 0.01 0.02 0.03. Default: those of the preset.",
        ),
    ] = None,
    units: UnitsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for the CSV file of all cases, the JSON record and the figure; made if "
            "new. Without it there is the table alone.",
        ),
    ] = None,
    picture: Annotated[
        Picture | None, typer.Option("--format", help="Of the figure; needs -o.  [default: png]")
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME...",
            help="Each by itself. Default: the three phantoms; every label of dataset.json, and "
            "all, for every label as one. TotalSegmentator: names of masks (needed).",
        ),
    ] = None,
    preset: Annotated[
        Preset,
        typer.Option(
            help="Settings that the other options change, as of `marginseg study`. quick: --std 0 "
            "0.06, patches of 24x24x24. paper: --std 0 0.01 0.02 0.03, patches of 64x64x64, "
            "TotalSegmentator's at 3 mm."
        ),
    ] = Preset.quick,
    patch: PatchOption = None,
    spacing: SpacingOption = None,
    max_cases: MaxCasesOption = None,
    largest_cut: LargestCutOption = None,
    seed: Annotated[int | None, typer.Option(help="Of phantoms.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Of prepared cases, as `marginseg prepare` makes; else OUT/cache, which a study "
            "in OUT finds too.",
        ),
    ] = None,
) -> None:
    """Tell what label noise leaves for any network to reach, and where t* will matter.

    No network is trained. Of each case the marginals of the noise, the best map there is, are cut
    at t* and at 1/2. Prints means over cases for every structure and noise level: sup D, the
    largest Dice that any segmentation can expect; the Dice of the cut at 1/2, and what t* gains
    over it; t* itself; and the volumes |s| of both cuts beside the label's |l|.

    The cases, and the extent that --std is a fraction of, are those of `marginseg study` with the
    same settings: one patch around the structure. A case that cannot be used, or lacks the
    structure, is named and left out.

    `marginseg ceiling Task04_Hippocampus --std 0 0.01 0.02 0.03 --patch 32x48x32 -o ceilings`

    Exit status: 0; 2 for bad input; 130 after Ctrl-C.
    """
    unit = checked_units(units, std or [0.0])
    if unit is not Units.extent and not std:
        raise ValueError(f"--std: needed with --units {unit.value}; a preset's are fractions")
    if output is None and picture is not None:
        raise ValueError("--format: needs --output, a folder for the figure")
    if output is not None and output.exists() and not output.is_dir():
        raise NotADirectoryError(f"--output: expected a folder, {output} is a file")
    data, directory = _source(source)
    if data is Data.phantom and max_cases == 1:
        raise ValueError("--max-cases: expected at least 2 phantoms, as a study has, got 1")
    if structure is None and data is not Data.phantom:
        structure = _all_structures(data, directory)
    settings = {
        "data": data.value,
        "directory": directory,
        "structures": structure,
        "std": std,
        "patch_shape": integers("--patch", patch, "x"),
        "spacing": numbers("--spacing", spacing, "x"),
        "max_cases": max_cases,
        "largest_cut": largest_cut,
        "seed": seed,
        # Of any network: the shallowest has two levels.
        "features": (1, 1),
        "folds": 2,
    }
    check(data, directory, settings)
    _tell(configured(preset, settings), unit, output, cache, picture or Picture.png)


def _source(source: str) -> tuple[Data, Path | None]:
    """Return what kind of data is meant, and the folder that holds them."""
    if source == Data.phantom.value:
        return Data.phantom, None
    directory = Path(source)
    if directory.name == DESCRIPTION and directory.is_file():
        directory = directory.parent
    if not directory.is_dir():
        raise NotADirectoryError(
            f"DATA: expected phantom, a data set's folder or its {DESCRIPTION}, got {source}"
        )
    from marginseg.data import kind_of

    return Data(kind_of(directory)), directory


def _all_structures(data: Data, directory: Path | None) -> list[str]:
    """Return every structure of a data set; TotalSegmentator's are too many to be meant."""
    from marginseg.data import structures_of

    known = structures_of(data.value, directory)
    if data is Data.totalsegmentator:
        raise ValueError(f"--structure: needed, one or several of {', '.join(known)}")
    return known


def _tell(
    config: StudyConfig, units: Units, output: Path | None, cache: Path | None, picture: Picture
) -> None:
    """Find the ceilings of all structures, print them, and write them."""
    from marginseg.data import EmptyDatasetError
    from marginseg.report.ceilings import summarise_ceilings, write_ceilings
    from marginseg.report.terminal import ceilings_table
    from marginseg.study.ceiling import CaseCeiling, ceilings

    found: list[CaseCeiling] = []
    skipped: list[tuple[str, str, str]] = []
    empty: list[str] = []
    with _cache(output, cache) as cache_dir:
        for name in config.structures:
            try:
                with preparing(name) as progress:
                    dataset = config.dataset(name, cache_dir=cache_dir, progress=progress)
            except EmptyDatasetError as error:
                empty.append(str(error))
                count, left_out = 0, error.skipped
            else:
                count, left_out = len(dataset), dataset.skipped
                with preparing(name, "ceilings of") as progress:
                    found += ceilings(
                        dataset, config.std, units=units.value, progress=_as_count(progress, count)
                    )
            report_cases(name, count, left_out, config.max_cases)
            skipped += [(name, *why) for why in left_out]
    if not found:
        raise ValueError("; ".join(empty))
    typer.echo()
    show(ceilings_table(summarise_ceilings(found)))
    if output is None:
        return
    for path in write_ceilings(
        output,
        found,
        settings=_settings(config, units),
        skipped=skipped,
        suffix=f".{picture.value}",
    ):
        typer.echo(str(path))


def _as_count(progress: CaseProgress | None, count: int) -> Callable[[int], None] | None:
    """Return what tells a bar of cases how many are done."""
    return None if progress is None else lambda done: progress(done, done, count)


def _settings(config: StudyConfig, units: Units) -> dict[str, Any]:
    """Return what the ceilings depend on, with the data set's name and not where it lies."""
    names = ("data", "structures", "std", "patch_shape", "spacing", "max_cases", "largest_cut")
    settings = {name: value for name, value in config.to_dict().items() if name in names}
    if config.directory is not None:
        settings["directory"] = Path(config.directory).name
    else:
        settings |= {"max_cases": config.number_of_phantoms, "seed": config.seed}
    return {**settings, "units": units.value}


@contextmanager
def _cache(output: Path | None, cache: Path | None) -> Iterator[Path]:
    """Give the folder of prepared cases; one that nobody named is gone at the end."""
    if cache is not None:
        yield cache
    elif output is not None:
        yield output / "cache"
    else:
        with TemporaryDirectory(prefix="marginseg-") as folder:
            yield Path(folder)
