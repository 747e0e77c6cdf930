"""The command that cuts probability maps where Dice is largest."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marginseg.cli.ahead import begun
from marginseg.cli.by_rule import segment_by_rule
from marginseg.cli.cuts import (
    AtHalfOption,
    Channels,
    GivenChannelsOption,
    MinProbabilityOption,
    NamesOption,
    PaintOption,
    SmallestComponentOption,
)
from marginseg.cli.rows import Rows
from marginseg.cli.several import Command, Row, Sources, Task, available_memory, run
from marginseg.ops.overlap import beta_of

if TYPE_CHECKING:
    from marginseg.rule import Rule


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
            "them; also of what nnU-Net v2 wrote with its probabilities (CASE.npz).",
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
    rule: Annotated[
        Path | None,
        typer.Option(
            metavar="RULE",
            help="Do what this file says, which `marginseg evaluate` has written. It has the other "
            "options in it.",
        ),
    ] = None,
    channels: GivenChannelsOption = None,
    min_probability: MinProbabilityOption = 0.0,
    smallest_component: SmallestComponentOption = 0,
    at_half: AtHalfOption = None,
    paint: PaintOption = None,
    names: NamesOption = None,
) -> None:
    """Cut probability maps where Dice is largest.

    Prints the threshold, the Dice to expect if the probabilities are right, and the volume; writes
    the segmentation `{p >= t}` as uint8.

    A 4-D map holds one channel per class. Every class gets its own threshold, and the output is
    4-D too: one mask per class, in the same order. Each mask is the best for its class, and masks
    of neighbouring classes may overlap.

    With --channels softmax a voxel gets one class at most, and the output is a label map, whose
    mean Dice over the classes is expected to be largest. A folder of nnU-Net's gets a label map
    too, of the values that its dataset.json names. What a network's values are worth, and what is
    best for it, `marginseg evaluate` finds out from labelled cases; --rule does it.

    A map may be larger than memory. Of several, those that are done already are not done again, a
    file that fails gets a line on stderr, and the exit status is then 1. Where what the channels
    stand for matters, all maps are opened first, and nothing is begun if one cannot be.
    """
    beta_of(metric.value, beta)  # which refuses what does not belong together
    decided = _rule(
        probabilities,
        rule,
        {
            "metric": None if metric is Metric.dice else metric.value,
            "beta": beta,
            "channels": channels,
            "min-probability": min_probability or None,
            "smallest-component": smallest_component or None,
            "at-half": at_half,
            "paint": paint,
            "names": names,
        },
    )
    if decided is not None:
        said = f"marginseg threshold, {f'rule {rule.name}' if rule else f'metric {metric.value}'}"
        iou = metric is Metric.iou
        segment_by_rule(probabilities, output, decided, said, iou=iou)
        return
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


def _rule(given: list[Path], path: Path | None, options: dict[str, Any]) -> Rule | None:
    """Return what is done with whole maps; None where each channel is cut by itself."""
    chosen = {name: value for name, value in options.items() if value is not None}
    if path is not None:
        if chosen:
            raise ValueError(f"--rule: has {path} say everything, got --{next(iter(chosen))} too")
        from marginseg.rule import Rule

        return Rule.load(path)
    from marginseg.files.nnunet import is_nnunet

    of_nnunet = given[0].is_dir() and is_nnunet(given[0])
    if not of_nnunet and not chosen.keys() - {"metric", "beta"}:
        return None
    from marginseg.files.predictions import classes_of
    from marginseg.rule import Rule

    channels = chosen.get("channels")
    exclusive = None if of_nnunet and channels is None else channels is Channels.softmax
    classes = classes_of(
        given[0], names=chosen.get("names"), exclusive=exclusive, painted=chosen.get("paint")
    )
    if channels is None and not classes.exclusive and classes.channels[0] > 0:
        raise ValueError(
            f"--channels: expected softmax or sigmoid for {given[0]}, whose first channel has no "
            "name, got nothing"
        )
    return Rule(
        classes,
        "half" if chosen.get("metric") == "accuracy" else "optimal",
        beta=chosen.get("beta", 1.0),
        min_probability=chosen.get("min-probability", 0.0),
        smallest_component=chosen.get("smallest-component", 0),
        at_half=tuple(chosen.get("at-half", ())),
    )


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
