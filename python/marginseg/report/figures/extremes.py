"""Slices of cases where a rule loses and gains most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from marginseg.evaluation.candidates import BY_NAME, PRESENT
from marginseg.report.extremes import Plane
from marginseg.report.figures.cases import contour_legend, outline
from marginseg.report.figures.style import drawn_name, save

#: The contours: of the label, of the present rule, of the other one.
LABEL: Final = ("#FFFFFF", "solid")
BEFORE: Final = ("#E69F00", "dashed")
AFTER: Final = ("#56B4E9", "solid")

#: Voxels around label and segmentations that a closer look shows, as a share of their extent.
MARGIN: Final = 0.25


def extremes_figure(path: str | os.PathLike[str], planes: Sequence[Plane]) -> Path:
    """Draw planes of the probability map with contours, a row each: whole, and from near.

    Args:
        path: PNG file to write.
        planes: At least one.

    Returns:
        The path.

    """
    figure = Figure(figsize=(8.4, 3.3 * len(planes) + 0.8), layout="constrained")
    axes = figure.subplots(len(planes), 2, squeeze=False)
    shown: Any = None
    for row, plane in zip(axes, planes, strict=True):
        box = closer(plane)
        for axis, near in zip(row, (False, True), strict=True):
            shown = _draw(axis, plane, box if near else None)
        row[0].add_patch(
            Rectangle(
                (box[0].start - 0.5, box[1].start - 0.5),
                box[0].stop - box[0].start,
                box[1].stop - box[1].start,
                fill=False,
                color="#CCCCCC",
                linewidth=0.9,
            )
        )
        kind, case, structure, scores = plane.title
        row[0].set_title(f"{kind}\n{drawn_name(case)}", fontsize=10, loc="left")
        row[1].set_title(f"{drawn_name(structure)}\n{scores}", fontsize=10, loc="left")
    bar = figure.colorbar(shown, ax=axes, shrink=min(0.8, 1.6 / len(planes)), aspect=22)
    bar.set_label("probability that the network gives")
    contour_legend(
        figure,
        [
            (*LABEL, "label"),
            (*BEFORE, PRESENT.title),
            (*AFTER, BY_NAME[planes[0].rule].title),
        ],
    )
    return save(figure, path)


def closer(plane: Plane) -> tuple[slice, slice]:
    """Return the part of a plane around label and segmentations, with a margin."""
    together = plane.label | plane.before | plane.after
    parts = []
    for axis in (0, 1):
        inside = np.flatnonzero(together.any(axis=1 - axis))
        low, high = (inside[0], inside[-1] + 1) if inside.size else (0, together.shape[axis])
        margin = max(2, round(MARGIN * (high - low)))
        parts.append(slice(max(0, low - margin), min(together.shape[axis], high + margin)))
    return parts[0], parts[1]


def _draw(axis: Any, plane: Plane, box: tuple[slice, slice] | None) -> Any:
    """Draw a plane with its first axis to the right and its second upwards."""
    image: NDArray[Any] = np.asarray(plane.probability, dtype=np.float32).T
    shown = axis.imshow(
        image,
        cmap="cividis",
        vmin=0,
        vmax=1,
        origin="lower",
        aspect=plane.sizes[1] / plane.sizes[0],
    )
    for mask, (colour, style) in (
        (plane.label, LABEL),
        (plane.after, AFTER),
        (plane.before, BEFORE),  # dashed, so that what lies below is seen
    ):
        outline(axis, mask, colour, style)
    if box is not None:
        axis.set_xlim(box[0].start - 0.5, box[0].stop - 0.5)
        axis.set_ylim(box[1].start - 0.5, box[1].stop - 0.5)
    axis.set(xticks=[], yticks=[])
    return shown
