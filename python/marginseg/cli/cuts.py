"""Options of what is done with probability maps, and with their channels."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Channels(StrEnum):
    """Whether a voxel has one class at most."""

    softmax = "softmax"
    sigmoid = "sigmoid"


BetaOption = Annotated[
    float,
    typer.Option(
        metavar="B", help="Of F_beta: 1 is Dice; 2 minds what is missed more, 0.5 what is too much."
    ),
]
MinProbabilityOption = Annotated[
    float,
    typer.Option(metavar="P", help="No voxel of a lower probability belongs to a class."),
]
SmallestComponentOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Take out components of fewer voxels, of those that touch at a face, edge or corner.",
    ),
]
AtHalfOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CLASS...", help="Classes that are left at 1/2, or at the argmax."),
]
_CHANNELS = "Of NIfTI maps. softmax: classes exclude each other. sigmoid: they may overlap. "
FoundChannelsOption = Annotated[
    Channels | None,
    typer.Option(
        help=_CHANNELS + "Default: whether the channels sum to 1.",
        show_default=False,
    ),
]
GivenChannelsOption = Annotated[
    Channels | None,
    typer.Option(
        help=_CHANNELS + "Default: each channel is cut by itself, as with sigmoid.",
        show_default=False,
    ),
]
PaintOption = Annotated[
    list[int] | None,
    typer.Option(
        metavar="VALUE...",
        help="Write one label map of classes that overlap: the value of each, in the channels' "
        "order; a later one is painted over those before.",
    ),
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS...",
        help="Of NIfTI maps: the classes in the channels' order, without the background; their "
        "labels are 1, 2, ... Default: those of a classes.json or dataset.json beside the maps.",
    ),
]
DatasetOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The dataset.json that names the labels, if it is not with the maps."
    ),
]
