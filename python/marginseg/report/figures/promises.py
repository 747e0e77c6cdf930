"""Whether maps keep their promises: promised against reached, and reliability diagrams."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marginseg.evaluation.candidates import BY_NAME
from marginseg.evaluation.scores import Score
from marginseg.report.figures.numbers import FEWEST_VOXELS
from marginseg.report.figures.rules import (
    CLASSES,
    CROWD,
    FEW,
    MANY,
    RULES,
    finish_panel,
    label_axes,
    legend_below,
    panels_of,
)
from marginseg.report.figures.style import drawn_name, save


def promises_figure(
    path: str | os.PathLike[str],
    scores: Iterable[Score],
    rules: Sequence[str],
    structures: Sequence[str],
    metric: str,
) -> Path:
    """Draw the overlap that maps promise against what is reached, case by case.

    Args:
        path: PNG file to write.
        scores: All.
        rules: The names of those that are drawn, a panel each.
        structures: The classes that are drawn; none stands for the mean over classes.
        metric: What the overlap is called.

    Returns:
        The path.

    """
    groups = list(structures) or [""]
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for score in scores:
        if math.isfinite(score.promised) and math.isfinite(score.overlap):
            group = score.structure if structures else ""
            found[score.rule, group][score.case].append((score.promised, score.overlap))
    points = {
        key: np.array([np.mean(pairs, axis=0) for pairs in by_case.values()])
        for key, by_case in found.items()
    }
    shown = [points[rule, group] for rule in rules for group in groups if (rule, group) in points]
    bottom = math.floor(10 * min(float(array.min()) for array in shown)) / 10
    bottom = min(max(bottom, 0.0), 0.9)
    figure, panels = panels_of(len(rules), height=3.5, sharey=True)
    handles: dict[str, Any] = {}
    for axis, rule in zip(panels, rules, strict=True):
        axis.plot([bottom, 1], [bottom, 1], color="black", linewidth=1, linestyle=":")
        for place, group in enumerate(groups):
            here = points.get((rule, group), np.zeros((0, 2)))
            colour, marker = CLASSES[place % len(CLASSES)]
            (handles[group],) = axis.plot(
                *here.T,
                linestyle="none",
                color=colour,
                marker=marker,
                **(FEW if len(here) < CROWD else MANY),
                label=drawn_name(group) if group else "mean over the classes of a case",
                clip_on=False,
            )
        axis.set(xlim=(bottom, 1), ylim=(bottom, 1), aspect="equal")
        finish_panel(axis, BY_NAME[rule].title)
    label_axes(panels, f"promised {metric}", f"reached {metric}")
    legend_below(figure, [*handles.values()])
    return save(figure, path)


def reliability_figure(
    path: str | os.PathLike[str],
    curves: Sequence[Mapping[str, Any]],
    structures: Sequence[str],
) -> Path:
    """Draw reliability diagrams: what maps promise and hold, before and after calibration.

    Args:
        path: PNG file to write.
        curves: As ``evaluation.json`` has them.
        structures: The classes that are drawn, a panel each.

    Returns:
        The path.

    """
    figure, panels = panels_of(len(structures), height=3.3, sharey=True)
    handles: dict[str, Any] = {}
    for axis, structure in zip(panels, structures, strict=True):
        axis.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":")
        for curve in curves:
            if curve["structure"] != structure:
                continue
            method = curve["method"]
            colour, marker, line = RULES["present" if method is None else method]
            count = np.asarray(curve["count"])
            kept = count >= FEWEST_VOXELS
            title = "as the network gave them" if method is None else BY_NAME[method].title
            (handles[title],) = axis.plot(
                np.asarray(curve["promised"])[kept] / count[kept],
                np.asarray(curve["held"])[kept] / count[kept],
                color=colour,
                marker=marker,
                markersize=4.5,
                markerfacecolor="none" if method is None else colour,
                linestyle=line,
                linewidth=1.3,
                label=title.removesuffix(" + t*"),
                clip_on=False,
            )
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        finish_panel(axis, structure)
    label_axes(panels, "probability that the map gives", "share that the label holds")
    legend_below(figure, [*handles.values()])
    return save(figure, path)
