"""The commands that take a volume and write volumes: threshold, noise, marginals."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marginseg.files.nifti import Volume


class Metric(StrEnum):
    """What the segmentation is to maximise."""

    dice = "dice"
    accuracy = "accuracy"


class Units(StrEnum):
    """What std and length scale are measured in."""

    extent = "extent"
    mm = "mm"
    voxel = "voxel"


class Interpolation(StrEnum):
    """How a label is looked up between voxels."""

    nearest = "nearest"
    linear = "linear"


LabelFile = Annotated[
    Path,
    typer.Argument(
        metavar="LABEL", help="Label map, NIfTI, 2-D or 3-D: integer values in any data type."
    ),
]
Std = Annotated[
    list[float],
    typer.Option(
        "--std",
        metavar="A...",
        help="How far borders move: the standard deviation of the displacement, >= 0, in --units. "
        "One number, or one for each axis: `--std 2 2 4`.",
    ),
]
UnitsOption = Annotated[
    Units,
    typer.Option(help="Of --std and --length-scale: fractions of the extent, mm, or voxels."),
]
LabelOption = Annotated[
    int | None,
    typer.Option("--label", metavar="N", help="Use this label only, as a binary mask."),
]


def threshold(
    probabilities: Annotated[
        Path,
        typer.Argument(
            metavar="PROB", help="Probability map, NIfTI: values in [0, 1]; 4-D: a channel a class."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="SEG", help="Segmentation to write, NIfTI.")
    ],
    metric: Annotated[
        Metric,
        typer.Option(help="What to maximise: dice cuts at t* = sup D / 2, accuracy at 1/2."),
    ] = Metric.dice,
) -> None:
    """Cut a probability map where Dice is largest.

    Prints the threshold, the Dice to expect if the probabilities are right, and the volume; writes
    the segmentation `{p >= t}` as uint8.

    A 4-D map holds one channel per class. Every channel gets its own threshold, and the output is
    4-D too: one mask per class, in the same order. Each mask is the best for its class, and masks
    of neighbouring classes may overlap.
    """
    from marginseg.files import nifti

    nifti.check_output(output)
    volume = nifti.read_probabilities(probabilities)

    import numpy as np
    import torch

    from marginseg.metrics import dice
    from marginseg.ops.dice_threshold import dice_threshold
    from marginseg.threshold import cut

    n = min(volume.data.ndim, 3)
    channels = torch.from_numpy(volume.data).reshape(*volume.data.shape[:n], -1).movedim(-1, 0)
    if metric is Metric.dice:
        best = dice_threshold(channels, spatial_dims=n)
        cuts, expected = best.threshold, best.dice
        segmentations = cut(channels, cuts)
    else:
        cuts = torch.full((len(channels),), 0.5, device="cpu")
        segmentations = cut(channels, cuts)
        expected = dice(segmentations, channels, spatial_dims=n)
    masks = np.moveaxis(segmentations.numpy(), 0, -1).reshape(volume.data.shape)
    nifti.write(output, masks, volume)

    table = _table("class" if len(channels) > 1 else None, "threshold", "expected Dice", "voxels")
    millilitres = _voxel_millilitres(volume)
    if millilitres is not None:
        table.add_column("ml", justify="right")
    for index in range(len(channels)):
        voxels = int(segmentations[index].sum())
        cells = [str(index)] if len(channels) > 1 else []
        cells += [f"{float(cuts[index]):.4f}", f"{float(expected[index]):.4f}", str(voxels)]
        if millilitres is not None:
            cells.append(f"{voxels * millilitres:.3f}")
        table.add_row(*cells)
    _print(table)
    typer.echo(str(output))


def noise(
    label: LabelFile,
    std: Std,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the samples; made if new."),
    ],
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="How many to draw.")] = 1,
    length_scale: Annotated[
        list[float] | None,
        typer.Option(
            metavar="B...",
            help="Over which distance the displacement changes, > 0, in --units; one number, or "
            "one for each axis. Default: 0.15·√2 of the extent; needed with mm and voxel.",
        ),
    ] = None,
    units: UnitsOption = Units.extent,
    seed: Annotated[int, typer.Option(help="The same seed gives the same samples.")] = 0,
    interpolation: Annotated[
        Interpolation,
        typer.Option(
            help="nearest is exact (its mean is what `marginals` writes); linear has smoother "
            "borders, and needs a binary label or --label."
        ),
    ] = Interpolation.nearest,
    only: LabelOption = None,
) -> None:
    """Draw noisy versions of a label, as if redrawn by a shaky hand.

    A Gaussian random field deforms the whole map, all its labels together; what comes from outside
    the volume is 0. Axes of one voxel are not deformed. Writes `DIR/NAME_noisy001.nii.gz` and so
    on, in the label's data type; prints each sample's Dice with the label and the share of voxels
    where the deformation folds over (a deformation that folds is no longer a redrawn border; a
    larger length scale avoids it).
    """
    from marginseg.files import nifti

    volume = nifti.read_label(label)
    data, values = _structures(volume, only)
    if length_scale is None and units is not Units.extent:
        raise ValueError(f"--length-scale: needed with --units {units.value}")
    if interpolation is Interpolation.linear and len(values) > 1:
        raise ValueError(
            f"--interpolation linear: expected one structure, got labels {_listed(values)}; "
            "choose one with --label"
        )
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"--seed: expected an integer of 64 bits, got {seed}")

    import torch

    from marginseg.noise import DEFAULT_LENGTH_SCALE, GaussianFieldNoise

    plane, spacing = _deformed_axes(data, volume)
    model = GaussianFieldNoise(
        _one_or_several(std),
        DEFAULT_LENGTH_SCALE if length_scale is None else _one_or_several(length_scale),
        units.value,
        spacing=spacing,
        spatial_dims=plane.ndim,
        interpolation=interpolation.value,
    )
    clean = torch.from_numpy(plane)
    generator = torch.Generator().manual_seed(seed)
    table = _table("sample", *(f"Dice {value}" for value in values), "folded")
    stem = volume.path.name.removesuffix(".gz").removesuffix(".nii")
    output.mkdir(parents=True, exist_ok=True)
    for index in range(1, samples + 1):
        drawn, folded = model.sample_folded(clean, generator=generator)
        noisy = drawn[0].numpy()
        path = output / f"{stem}_noisy{index:03d}.nii.gz"
        nifti.write(path, noisy.reshape(volume.data.shape), volume)
        dices = [_dice(noisy == value, plane == value) for value in values]
        table.add_row(path.name, *(f"{score:.4f}" for score in dices), f"{float(folded):.2%}")
    _print(table)
    typer.echo(f"{samples} sample{'s' if samples > 1 else ''} of {stem} in {output}")


def marginals(
    label: LabelFile,
    std: Std,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="M", help="Probability map to write, NIfTI.")
    ],
    units: UnitsOption = Units.extent,
    only: LabelOption = None,
) -> None:
    """Write the probability of every voxel under the noise: the mean of infinitely many samples.

    In closed form, without sampling: the label convolved with the Gaussian, 0 outside the volume.
    It doesn't depend on the length scale. The output is float32.

    A map with several labels gives a 4-D output with a channel for each, in ascending order (the
    form that `marginseg threshold` reads); --label picks one.
    """
    from marginseg.files import nifti

    nifti.check_output(output)
    volume = nifti.read_label(label)
    data, values = _structures(volume, only)

    import torch

    from marginseg.noise import GaussianFieldNoise
    from marginseg.ops.dice_threshold import dice_threshold

    plane, spacing = _deformed_axes(data, volume)
    model = GaussianFieldNoise(
        _one_or_several(std), units=units.value, spacing=spacing, spatial_dims=plane.ndim
    )
    maps = model.marginals(torch.from_numpy(plane), classes=values)
    best = dice_threshold(maps, spatial_dims=plane.ndim)
    shape = volume.data.shape
    if len(values) == 1:
        written = maps[0].numpy().reshape(shape)
    else:
        spatial = (*shape, 1, 1)[:3]
        written = maps.movedim(0, -1).numpy().reshape(*spatial, len(values))
    nifti.write(output, written, volume)

    lost = model.volume_loss(torch.stack([torch.from_numpy(plane == v) for v in values]))
    table = _table("label", "voxels", "expected voxels", "best Dice", "at threshold")
    for index, value in enumerate(values):
        voxels = int((plane == value).sum())
        table.add_row(
            str(value),
            str(voxels),
            f"{voxels - float(lost[index]) * plane.size:.1f}",
            f"{float(best.dice[index]):.4f}",
            f"{float(best.threshold[index]):.4f}",
        )
    _print(table)
    typer.echo(str(output))


def _structures(volume: Volume, only: int | None) -> tuple[NDArray[Any], list[int]]:
    """Return the map (only one label left, where it is asked for) and its labels other than 0."""
    import numpy as np

    values = [int(value) for value in np.unique(volume.data) if value != 0]
    if not values:
        raise ValueError(f"{volume.path}: the label is empty: every voxel is 0")
    if only is None:
        return volume.data, values
    if only not in values:
        raise ValueError(f"{volume.path}: no voxel has label {only}; it has {_listed(values)}")
    return np.where(volume.data == only, volume.data, 0).astype(volume.data.dtype), [only]


def _deformed_axes(data: NDArray[Any], volume: Volume) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Return the map without axes of one voxel, and the millimetres a voxel of those left."""
    axes = [axis for axis, size in enumerate(data.shape[:3]) if size > 1] or [0]
    spacing = tuple(volume.spacing[axis] for axis in axes)
    return data.reshape([data.shape[axis] for axis in axes]), spacing


def _one_or_several(numbers: list[float]) -> float | list[float]:
    return numbers[0] if len(numbers) == 1 else numbers


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def _listed(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:8]))
    return shown if len(values) <= 8 else f"{shown}, ... ({len(values)} labels)"


def _voxel_millilitres(volume: Volume) -> float | None:
    """Return a voxel's volume in ml; an image of fewer than 3 axes has none."""
    import math

    if volume.data.ndim < 3:
        return None
    return math.prod(volume.spacing) / 1000.0


def _table(*columns: str | None) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in columns:
        if name is not None:
            table.add_column(name, justify="right", no_wrap=True)
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    # Into a file or a pipe a table goes whole, however wide.
    width = console.width if console.is_terminal else max(console.width, 1000)
    console.print(table, width=width)
