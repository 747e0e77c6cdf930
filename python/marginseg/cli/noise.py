"""The command that draws noisy versions of labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marginseg.cli.ahead import begun
from marginseg.cli.labels import (
    BLOCK,
    LabelFiles,
    LabelOption,
    Std,
    Units,
    UnitsOption,
    checked_units,
    counts_of,
    deformed_axes,
    listed,
    listed_numbers,
    one_or_several,
    remove_others,
    structures,
)
from marginseg.cli.rows import Rows
from marginseg.cli.sample_set import SampleSet
from marginseg.cli.several import Command, Row, Sources, Task, run, stem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marginseg.files.nifti import VolumeFile


#: Voxels that are written at a time, in the file's data type.
PIECE = 1 << 22

#: A deformation of which more folds over is no longer a redrawn border.
MUCH_FOLDED = 0.01


class Interpolation(StrEnum):
    """How a label is looked up between voxels."""

    nearest = "nearest"
    linear = "linear"


def noise(
    label: LabelFiles,
    std: Std,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the samples; made if new."),
    ],
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many to draw of each label map.")
    ] = 1,
    length_scale: Annotated[
        list[float] | None,
        typer.Option(
            metavar="B...",
            help="Over which distance the displacement changes, > 0, in --units; one number, or "
            "one for each axis. Default: 0.15·√2 of the extent; needed with mm and voxel.",
        ),
    ] = None,
    units: UnitsOption = None,
    seed: Annotated[
        int,
        typer.Option(
            help="The same seed gives the same samples. Several label maps each get noise of their "
            "own, from the seed and the file's name."
        ),
    ] = 0,
    interpolation: Annotated[
        Interpolation,
        typer.Option(
            help="nearest is exact (its mean is what `marginals` writes); linear has smoother "
            "borders, and needs a binary label or --label."
        ),
    ] = Interpolation.nearest,
    only: LabelOption = None,
) -> None:
    """Draw noisy versions of label maps, as if redrawn by a shaky hand.

    A Gaussian random field deforms the whole map, all its labels together; what comes from outside
    the volume is 0. Axes of one voxel are not deformed. Writes `DIR/NAME_noisy001.nii.gz` and so
    on, in the label's data type, and `DIR/NAME_noisy.json`, which tells how they were drawn; the
    samples of an earlier call are replaced. Prints, for each sample and label, its Dice with the
    label as it was, its voxels, and the share of all voxels where the deformation folds over (a
    deformation that folds is no longer a redrawn border; a larger length scale avoids it).

    Of several label maps, those that are done already are not done again, a file that fails gets a
    line on stderr, and the exit status is then 1.
    """
    unit = checked_units(units, std)
    if length_scale is None and unit is not Units.extent:
        raise ValueError(f"--length-scale: needed with --units {unit.value}")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"--seed: expected an integer of 64 bits, got {seed}")
    sources = Sources.of(label)
    options: dict[str, Any] = {
        "std": one_or_several(std),
        "length_scale": None if length_scale is None else one_or_several(length_scale),
        "units": unit.value,
        "interpolation": interpolation.value,
    }

    def work(task: Task) -> Iterator[Row]:
        own = _own_seed(seed, task.source) if sources.several else seed
        return draw_file(task, options, own, only)

    tasks = [
        Task(path, SampleSet.of(output, stem(path), samples).samples) for path in sources.paths
    ]
    if sources.several:
        sources.make_folder(output)
    remembered = {"command": "noise", "samples": samples, "seed": seed, "label": only, **options}
    run(
        Command(work, _need, remembered),
        tasks,
        Rows(("sample", "label", "Dice", "voxels", "folded"), sources.names("file")),
        output if sources.several else None,
    )
    typer.echo(str(output))


def _own_seed(seed: int, source: Path) -> int:
    digest = hashlib.sha256(f"{seed} {stem(source)}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def _need(source: Path) -> int:
    from marginseg.files.nifti import open_volume

    return 3 * open_volume(source).size


def draw_file(task: Task, options: dict[str, Any], seed: int, only: int | None) -> Iterator[Row]:
    """Draw the samples of one label map, and yield the rows of each when it is written."""

    def read() -> tuple[VolumeFile, NDArray[Any], dict[int, int]]:
        file, clean, counts = structures(task.source, only)
        if only is not None:
            remove_others(clean, only)
        if options["interpolation"] == "linear" and len(counts) > 1:
            raise ValueError(
                f"--interpolation linear: expected one label, got labels {listed(list(counts))}; "
                "choose one with --label"
            )
        return file, clean, counts

    drawn_set = SampleSet.of(task.outputs[0].parent, stem(task.source), len(task.outputs))
    replaced = drawn_set.replaced()
    reading = begun(read)

    from importlib.metadata import version

    import torch

    from marginseg.files import nifti
    from marginseg.noise import DEFAULT_LENGTH_SCALE, GaussianFieldNoise

    file, clean, counts = reading()
    shape, spacing = deformed_axes(file)
    scale = DEFAULT_LENGTH_SCALE if options["length_scale"] is None else options["length_scale"]
    model = GaussianFieldNoise(
        options["std"],
        scale,
        options["units"],
        spacing=spacing,
        spatial_dims=len(shape),
        interpolation=options["interpolation"],
    )
    label = torch.from_numpy(clean.reshape(shape, order="F"))
    generator = torch.Generator().manual_seed(seed)
    of_the_file = file.stored.kind in "iu" and file.slope is None
    dtype = file.dtype if of_the_file else clean.dtype
    numbers = f"std {listed_numbers(options['std'])}, b {listed_numbers(scale)}"
    for index, path in enumerate(task.outputs, 1):
        drawn, folded = model.sample_folded(label, generator=generator)
        noisy = drawn[0].numpy().reshape(-1, order="F")
        path.parent.mkdir(parents=True, exist_ok=True)
        said = f"marginseg noise {index}, {numbers} {options['units']}, seed {seed}"
        with nifti.writing(
            path, file, file.shape, dtype, description=said, same_kind=True
        ) as output:
            for begin in range(0, noisy.size, PIECE):
                output.write(noisy[begin : begin + PIECE].astype(dtype, copy=False))
        share = float(folded[0])
        if share > MUCH_FOLDED:
            typer.echo(
                f"marginseg: warning: {path.name}: {share:.1%} of the voxels fold over; "
                "a larger --length-scale or a smaller --std avoids it",
                err=True,
            )
        both, noisy_counts = overlap(clean, counts, noisy)
        for value, count in counts.items():
            other = noisy_counts.get(value, 0)
            dice = 2 * both.get(value, 0) / (count + other)
            yield [str(index), str(value), f"{dice:.4f}", str(other), f"{share:.2%}"]
    settings = {
        "marginseg": version("marginseg"),
        "source": task.source.name,
        "label": only,
        "seed": seed,
    }
    drawn_set.finish(replaced, {**settings, **options, "length_scale": scale})


def overlap(
    clean: NDArray[Any], counts: dict[int, int], noisy: NDArray[Any]
) -> tuple[dict[int, int], dict[int, int]]:
    """Count, for each label, the voxels that it has in both maps, and in the noisy one.

    Only where the maps differ has anything to be counted, and that is little.

    Args:
        clean: A label map.
        counts: The voxels of its labels.
        noisy: Another one.

    Example:
        >>> import numpy as np
        >>> overlap(np.array([0, 1, 1, 2]), {1: 2, 2: 1}, np.array([1, 1, 0, 2]))
        ({1: 1, 2: 1}, {1: 2, 2: 1})

    """
    import numpy as np

    lost: list[NDArray[Any]] = []
    won: list[NDArray[Any]] = []
    for begin in range(0, clean.size, BLOCK):
        before, after = clean[begin : begin + BLOCK], noisy[begin : begin + BLOCK]
        places = np.flatnonzero(before != after)
        lost.append(before[places])
        won.append(after[places])
    gone, come = counts_of(np.concatenate(lost)), counts_of(np.concatenate(won))
    both = {value: count - gone.get(value, 0) for value, count in counts.items()}
    return both, {value: count + come.get(value, 0) for value, count in both.items()}
