"""The command that writes the probability of every voxel under the noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marginseg.cli.ahead import begun
from marginseg.cli.labels import (
    LabelFiles,
    LabelOption,
    Std,
    Units,
    UnitsOption,
    checked_units,
    deformed_axes,
    listed_numbers,
    one_or_several,
    structures,
)
from marginseg.cli.rows import Rows
from marginseg.cli.several import Command, Row, Sources, Task, run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marginseg.files.nifti import Sink


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
    units: UnitsOption = None,
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
    unit = checked_units(units, std)
    sources = Sources.of(label)
    targets = sources.targets(output)
    stds = one_or_several(std)

    def work(task: Task) -> Iterator[Row]:
        return marginals_of_file(task.source, task.outputs[0], stds, unit, only)

    columns = ("label", "voxels", "expected voxels", "best Dice", "at threshold")
    options = {"command": "marginals", "std": stds, "units": unit.value, "label": only}
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
    reading = begun(lambda: structures(source, only))

    import numpy as np
    import torch

    from marginseg.files import nifti
    from marginseg.noise import TRUNCATE, GaussianFieldNoise
    from marginseg.ops.dice_threshold import dice_threshold
    from marginseg.ops.gaussian_filter import kernel_radius
    from marginseg.ops.kept_mass import kept_mass

    file, flat, counts = reading()
    shape, spacing = deformed_axes(file)
    model = GaussianFieldNoise(std, units=units.value, spacing=spacing, spatial_dims=len(shape))
    # The file's order is that of an array whose last axis is the file's first.
    labels = flat.reshape(shape[::-1])
    stds = model.std_in_voxels(shape)[::-1]
    radii = [kernel_radius(a, TRUNCATE[torch.float32]) for a in stds]
    within_box = GaussianFieldNoise(stds, units="voxel", spatial_dims=len(shape))
    written = file.shape
    if len(counts) > 1:
        written = (*(*written, 1, 1)[:3], len(counts))
    rows: list[Row] = []
    said = f"marginseg marginals, std {listed_numbers(std)} {units.value}"
    with nifti.writing(target, file, written, np.float32, description=said) as output:
        for value, voxels in counts.items():
            inner = box_of(labels, value)
            mask = torch.from_numpy(labels[inner] == value)
            expected = float(kept_mass(mask, stds, labels.shape, [axis.start for axis in inner]))
            box = grown(inner, radii, labels.shape)
            probabilities = within_box.marginals(torch.from_numpy(labels[box] == value))
            best = dice_threshold(probabilities.reshape(-1), spatial_dims=1)
            write_box(output, probabilities.numpy(), box, labels.shape)
            rows.append(
                [
                    str(value),
                    str(voxels),
                    f"{expected:.1f}",
                    f"{float(best.dice):.4f}",
                    f"{float(best.threshold):.4f}",
                ]
            )
    yield from rows


def box_of(labels: NDArray[Any], value: int) -> tuple[slice, ...]:
    """Return the smallest box that holds a label, which is somewhere in the map.

    Example:
        >>> import numpy as np
        >>> box_of(np.array([[0, 0, 0], [2, 0, 2], [1, 1, 0]]), 2)
        (slice(1, 2, None), slice(0, 3, None))

    """
    import numpy as np

    held = [np.zeros(size, np.bool_) for size in labels.shape]
    for index, plane in enumerate(labels):
        here = np.atleast_1d(plane == value)
        if here.any():
            held[0][index] = True
            for axis in range(1, labels.ndim):
                held[axis] |= here.any(axis=tuple({*range(here.ndim)} - {axis - 1}))
    places = [np.flatnonzero(axis) for axis in held]
    return tuple(slice(int(found[0]), int(found[-1]) + 1) for found in places)


def grown(
    box: tuple[slice, ...], radii: Sequence[int], shape: tuple[int, ...]
) -> tuple[slice, ...]:
    """Return a box with a margin on each axis, as far as the volume goes.

    Example:
        >>> grown((slice(1, 3), slice(4, 5)), (2, 3), (9, 9))
        (slice(0, 5, None), slice(1, 8, None))

    """
    return tuple(
        slice(max(0, span.start - radius), min(size, span.stop + radius))
        for span, radius, size in zip(box, radii, shape, strict=True)
    )


def write_box(
    file: Sink, values: NDArray[Any], box: tuple[slice, ...], shape: tuple[int, ...]
) -> None:
    """Write a volume that is 0 outside a box, a plane at a time."""
    import numpy as np

    plane = np.zeros(shape[1:], values.dtype)
    for index in range(shape[0]):
        inside = box[0].start <= index < box[0].stop
        if inside:
            plane[box[1:]] = values[index - box[0].start]
        elif index == box[0].stop:
            plane[...] = 0
        file.write(plane)
