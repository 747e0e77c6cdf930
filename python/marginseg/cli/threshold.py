"""The command that cuts probability maps where Dice is largest."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from marginseg.cli.ahead import begun
from marginseg.cli.rows import Rows
from marginseg.cli.several import Command, Row, Sources, Task, available_memory, run
from marginseg.ops.overlap import beta_of


class Metric(StrEnum):
    """What the segmentation is to maximise."""

    dice = "dice"
    iou = "iou"
    fbeta = "fbeta"
    accuracy = "accuracy"


def threshold(
    probabilities: Annotated[
        list[Path],
        typer.Argument(
            metavar="PROB...",
            help="Probability maps, NIfTI: values in [0, 1]; 4-D: a channel a class. Or folders of "
            "them.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="SEG",
            help="Segmentation to write, NIfTI; of several maps the folder, made if new, in which "
            "each has its map's name.",
        ),
    ],
    metric: Annotated[
        Metric,
        typer.Option(
            help="What to maximise: dice cuts at t* = sup D / 2, and so does iou; fbeta at "
            "sup F / (1 + beta^2); accuracy at 1/2."
        ),
    ] = Metric.dice,
    beta: Annotated[
        float | None,
        typer.Option(
            help="How much recall counts beside precision, with --metric fbeta: 2 to miss less, "
            "0.5 to include less that is wrong.",
        ),
    ] = None,
) -> None:
    """Cut probability maps where Dice is largest.

    Prints the threshold, the Dice to expect if the probabilities are right, and the volume; writes
    the segmentation `{p >= t}` as uint8.

    A 4-D map holds one channel per class. Every class gets its own threshold, and the output is
    4-D too: one mask per class, in the same order. Each mask is the best for its class, and masks
    of neighbouring classes may overlap.

    A map may be larger than memory. Of several, those that are done already are not done again, a
    file that fails gets a line on stderr, and the exit status is then 1.
    """
    beta_of(metric.value, beta)
    sources = Sources.of(probabilities)
    targets = sources.targets(output)

    def work(task: Task) -> Iterator[Row]:
        return cut_file(task.source, task.outputs[0], metric, beta)

    columns = ("class", "threshold", f"expected {_value_name(metric, beta)}", "voxels", "ml")
    options = {"metric": metric.value} if beta is None else {"metric": metric.value, "beta": beta}
    run(
        Command(work, _need, {"command": "threshold", **options}),
        [Task(source, [to]) for source, to in zip(sources.paths, targets, strict=True)],
        Rows(columns, sources.names("file")),
        output if sources.several else None,
    )
    typer.echo(str(output))


def _value_name(metric: Metric, beta: float | None) -> str:
    if beta is not None:
        return f"F{beta:g}"
    return "IoU" if metric is Metric.iou else "Dice"


def _need(source: Path) -> int:
    from marginseg.files.probabilities import open_probabilities

    file = open_probabilities(source)
    held = file.size * file.dtype.itemsize
    return min(held, available_memory() // 4) if file.volume.compressed else 0


def cut_file(
    source: Path, target: Path, metric: Metric, beta: float | None = None
) -> Iterator[Row]:
    """Cut one map, and yield a row for each class when all are written."""
    from marginseg.files.nifti import writing
    from marginseg.files.probabilities import open_probabilities

    file = open_probabilities(source)
    channels = file.each(room=available_memory() // 4)
    reading = begun(lambda: next(channels))

    import itertools
    import math

    import numpy as np
    import torch

    from marginseg.ops.streamed_dice_threshold import streamed_dice_threshold
    from marginseg.threshold import cut

    shape = file.volume.shape
    # An image of fewer than 3 axes has no volume in ml.
    millilitres = math.prod(file.volume.spacing) / 1000.0 if len(shape) >= 3 else math.nan
    rows: list[Row] = []
    said = f"marginseg threshold, metric {metric.value}"
    if beta is not None:
        said += f", beta {beta:g}"
    with writing(target, file.volume, shape, np.uint8, description=said) as output:
        for number, channel in enumerate(itertools.chain([reading()], channels)):
            try:
                best = streamed_dice_threshold(channel, metric=metric.value, beta=beta)
            except ValueError as error:
                if not str(error).startswith("chunks: "):
                    raise  # it names the file
                raise ValueError(f"{source}: {str(error).removeprefix('chunks: ')}") from error
            at = float(best.threshold)
            for piece in channel:
                output.write(cut(torch.from_numpy(piece), at).numpy().view(np.uint8))
            voxels = int(best.volume)
            ml = "–" if math.isnan(millilitres) else f"{voxels * millilitres:.3f}"
            value = float(best.iou if metric is Metric.iou else best.dice)
            rows.append([str(number), f"{at:.4f}", f"{value:.4f}", str(voxels), ml])
    yield from rows
