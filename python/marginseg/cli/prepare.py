"""The command that prepares a data set's cases, and checks those that are prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marginseg.cli.cases import preparing, report_cases
from marginseg.cli.errors import FAILED
from marginseg.cli.options import (
    Data,
    DataOption,
    DirectoryOption,
    LargestCutOption,
    MaxCasesOption,
    PatchOption,
    Preset,
    SpacingOption,
    StructureOption,
    check,
    configured,
    integers,
    numbers,
)
from marginseg.files.names import printable


def prepare(
    cache: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="CACHE", help="Folder for the prepared cases; made if new."
        ),
    ],
    data: DataOption = Data.totalsegmentator,
    directory: DirectoryOption = None,
    structure: StructureOption = None,
    preset: Annotated[
        Preset,
        typer.Option(
            help="Settings that the other options change. paper: patches of 64x64x64; of "
            "totalsegmentator at 3 mm, the first 400 cases with a --largest-cut of 0.03. quick: "
            "24x24x24."
        ),
    ] = Preset.paper,
    patch: PatchOption = None,
    spacing: SpacingOption = None,
    max_cases: MaxCasesOption = None,
    largest_cut: LargestCutOption = None,
    seed: Annotated[int | None, typer.Option(help="Of phantoms.")] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Make nothing: compare the checksums of the prepared cases with the manifests in "
            "CACHE, of all structures or those of --structure.",
        ),
    ] = False,
) -> None:
    """Prepare the cases that `marginseg study --cache CACHE` trains on, and write a manifest.

    Each case becomes one file in CACHE: image and label around the structure's centre of mass.
    Prints how many cases are usable, and how many were left out and why. The manifest, a JSON file
    for each structure, lists every case with what it was made from and the SHA-256 of its file.

    What is there is not made anew: a preparation that was stopped, or killed, goes on where it was
    when the same command is given again.

    `marginseg prepare --dir Totalsegmentator_dataset --structure kidney_right aorta -o prepared`

    `marginseg prepare --verify -o prepared`

    Exit status: 0; 1 if --verify finds a file that is not as the manifest says; 2 for bad input;
    130 after Ctrl-C.
    """
    if cache.exists() and not cache.is_dir():
        raise NotADirectoryError(f"--output: expected a folder, {cache} is a file")
    if verify:
        _verify(cache, structure or [])
        return
    settings = {
        "data": data.value,
        "directory": directory,
        "structures": structure,
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
    config = configured(preset, settings)

    from marginseg.data import EmptyDatasetError

    usable = 0
    empty: list[str] = []
    for name in config.structures:
        try:
            with preparing(name) as progress:
                dataset = config.dataset(name, cache_dir=cache, progress=progress)
        except EmptyDatasetError as error:
            empty.append(str(error))
            report_cases(name, 0, error.skipped, config.max_cases)
        else:
            usable += len(dataset)
            report_cases(name, len(dataset), dataset.skipped, config.max_cases)
            typer.echo(f"  {dataset.manifest}")
    if not usable:
        raise ValueError("; ".join(empty))


def _verify(cache: Path, structures: list[str]) -> None:
    """Check the manifests in a cache; exit with status 1 and the names if a file is not right."""
    from marginseg.data import manifests, read_manifest, verify

    if not cache.is_dir():
        raise NotADirectoryError(f"--output: expected a folder, {cache} is none")
    found = [(path, read_manifest(path)) for path in manifests(cache)]
    for structure in structures:
        if structure not in {content["structure"] for _, content in found}:
            raise ValueError(f"--structure: no manifest of {structure} in {cache}")
    if not found:
        raise ValueError(f"--output: no manifest in {cache}")
    failed = False
    for path, content in found:
        if structures and content["structure"] not in structures:
            continue
        wrong = verify(path)
        for name, problem in wrong:
            line = f"marginseg: {content['structure']}: {name}: {problem}"
            typer.echo(printable(line), err=True)
        count = len(content["cases"])
        typer.echo(f"{path.name}: {count - len(wrong)} of {count} cases are as they were written")
        failed = failed or bool(wrong)
    if failed:
        raise typer.Exit(FAILED)
