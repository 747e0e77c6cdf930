"""The command that writes the probability of every voxel under the noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from marginseg.cli.labels import (
    LabelFiles,
    LabelOption,
    Std,
    Units,
    deformed_axes,
    one_or_several,
    structures,
)
from marginseg.cli.rows import Rows
from marginseg.cli.several import Command, Row, Sources, Task, run


def marginals(
    label: LabelFiles,
    std: Std,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="M",
            help="Probability map to write, NIfTI; of several label maps the folder, made if new, "
            "in which each has its label map's name.",
        ),
    ],
    units: Annotated[
        Units, typer.Option(help="Of --std: fractions of the extent, mm, or voxels.")
    ] = Units.extent,
    only: LabelOption = None,
) -> None:
    """Write the probability of every voxel under the noise: the mean of infinitely many samples.

    In closed form, without sampling: the label convolved with the Gaussian, 0 outside the volume.
    The output is float32. Prints the voxels of each label, how many to expect under the noise, the
    best Dice that any segmentation can expect, and the threshold at which it is reached.

    A map with several labels gives a 4-D output with a channel for each, in ascending order (the
    form that `marginseg threshold` reads); --label picks one.

    Of several label maps, those that are done already are not done again, a file that fails gets a
    line on stderr, and the exit status is then 1.
    """
    sources = Sources.of(label)
    targets = sources.targets(output)
    stds = one_or_several(std)

    def work(task: Task) -> Iterator[Row]:
        return marginals_of_file(task.source, task.outputs[0], stds, units, only)

    columns = ("label", "voxels", "expected voxels", "best Dice", "at threshold")
    options = {"command": "marginals", "std": stds, "units": units.value, "label": only}
    run(
        Command(work, _need, options),
        [Task(source, [to]) for source, to in zip(sources.paths, targets, strict=True)],
        Rows(columns, sources.names("file")),
        output if sources.several else None,
    )
    typer.echo(str(output))


def _need(source: Path) -> int:
    from marginseg.files.nifti import open_volume

    return 10 * open_volume(source).size


def marginals_of_file(
    source: Path, target: Path, std: float | list[float], units: Units, only: int | None
) -> Iterator[Row]:
    """Write the marginals of one label map, and yield a row for each label."""
    from marginseg.files import nifti
    from marginseg.files.labels import read_label

    volume = read_label(source)
    flat, counts = structures(volume, only)

    import numpy as np
    import torch

    from marginseg.noise import GaussianFieldNoise
    from marginseg.ops.dice_threshold import dice_threshold

    shape, spacing = deformed_axes(volume.file)
    model = GaussianFieldNoise(std, units=units.value, spacing=spacing, spatial_dims=len(shape))
    written = volume.file.shape
    if len(counts) > 1:
        written = (*(*written, 1, 1)[:3], len(counts))
    labels = torch.from_numpy(flat.reshape(shape, order="F"))
    rows: list[Row] = []
    with nifti.writing(target, volume.file, written, np.float32) as file:
        for value, voxels in counts.items():
            mask = labels == value
            lost = float(model.volume_loss(mask)) * flat.size
            probabilities = model.marginals(mask).numpy().reshape(-1, order="F")
            best = dice_threshold(torch.from_numpy(probabilities), spatial_dims=1)
            file.write(probabilities)
            rows.append(
                [
                    str(value),
                    str(voxels),
                    f"{voxels - lost:.1f}",
                    f"{float(best.dice):.4f}",
                    f"{float(best.threshold):.4f}",
                ]
            )
    yield from rows
