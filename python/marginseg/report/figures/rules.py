"""Figures of the rules that can be used for a network: gains, thresholds, volumes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray
from scipy.special import logit

from marginseg.evaluation.candidates import ALL, BY_NAME, CEILING, PRESENT
from marginseg.evaluation.scores import Score
from marginseg.evaluation.verdict import MEAN
from marginseg.report.figures.style import drawn_name, finish, save

#: Of each rule Okabe and Ito's colour, a marker and a line style.
RULES: Final[Mapping[str, tuple[str, str, Any]]] = {
    "present": ("#000000", "o", "solid"),
    "threshold": ("#E69F00", "s", "dashed"),
    "optimal": ("#0072B2", "^", "solid"),
    "temperature": ("#56B4E9", "D", "dashdot"),
    "platt": ("#D55E00", "v", (0, (4, 1, 1, 1, 1, 1))),
    "isotonic": ("#009E73", "P", (0, (5, 2))),
    "ceiling": ("#767676", "*", "dotted"),
}

#: Of up to eight classes a colour and a marker each.
CLASSES: Final = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#000000", "X"),
    ("#8F8300", "*"),
)

#: How many panels stand side by side at most.
COLUMNS: Final = 3

#: Thresholds nearer to 0 or 1 are drawn here.
NEAREST: Final = 1e-4

#: The thresholds that an axis names.
TICKS: Final = (NEAREST, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - NEAREST)

#: Size and opacity of points, of few and of many.
FEW: Final = {"markersize": 5.5, "alpha": 0.75}
MANY: Final = {"markersize": 3.5, "alpha": 0.35}

#: What many are.
CROWD: Final = 40

#: How wide a letter of a legend is, in inches, and how many a symbol takes with its margins.
LETTER: Final = 0.085
SYMBOL: Final = 6

#: Letters of a panel's title that there is room for.
TITLE: Final = 28

#: From so many cases on, a box tells more than the points alone.
BOXED: Final = 5


def gains_figure(
    path: str | os.PathLike[str], table: Sequence[Mapping[str, Any]], structures: Sequence[str]
) -> Path:
    """Draw what each rule gains over the present one, with 95 % intervals.

    Args:
        path: PNG file to write.
        table: As ``evaluation.json`` has it.
        structures: The classes that are drawn, below the mean over all.

    Returns:
        The path.

    """
    rows = {(row["structure"], row["rule"]): row for row in table}
    rules = [c.name for c in ALL if (MEAN, c.name) in rows and c is not PRESENT]
    groups = [MEAN, *structures]
    height = len(rules) + 1.2
    figure = Figure(figsize=(10.2, 0.17 * height * len(groups) + 1.5), layout="constrained")
    axis = figure.subplots()
    handles = []
    for side, rule in enumerate(rules):
        colour, marker, _ = RULES[rule]
        hollow = rule == CEILING.name
        here = [rows[structure, rule] for structure in groups]
        means = np.array([row["difference"] for row in here]) * 100
        ends = np.array([[row["low"], row["high"]] for row in here]) * 100
        bars = np.nan_to_num(np.abs(ends.T - means))
        handles.append(
            axis.errorbar(
                means,
                np.arange(len(groups)) * height + side,
                xerr=bars,
                linestyle="none",
                color=colour,
                marker=marker,
                markersize=8 if hollow else 5.5,
                markerfacecolor="none" if hollow else colour,
                elinewidth=1.4,
                capsize=2.5,
                label=f"{BY_NAME[rule].title} (nobody can use it)"
                if hollow
                else BY_NAME[rule].title,
            )
        )
    for place in range(0, len(groups), 2):
        start = place * height - 1.1
        axis.axhspan(start, start + height, color="black", alpha=0.045, linewidth=0)
    axis.axvline(0, color="black", linewidth=0.9)
    axis.set_ylim(len(groups) * height - 1.1, -1.1)
    names = ["mean over\nclasses" if len(structures) > 0 else "all cases"]
    names += [drawn_name(structure) for structure in structures]
    axis.set_yticks(np.arange(len(groups)) * height + (len(rules) - 1) / 2, names)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("gain over the present rule in points [95 % interval]")
    axis.grid(axis="x", alpha=0.25)
    axis.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return save(figure, path)


def thresholds_figure(
    path: str | os.PathLike[str],
    thresholds: Mapping[tuple[str, str], Mapping[str, float]],
    structures: Sequence[str],
) -> Path:
    """Draw where each rule cuts the network's map, case by case.

    Args:
        path: PNG file to write.
        thresholds: As from :func:`marginseg.report.map_thresholds.map_thresholds`.
        structures: The classes that are drawn, a panel each.

    Returns:
        The path.

    """
    drawn = {c.name for c in ALL if c is not PRESENT and any(k[1] == c.name for k in thresholds)}
    order: list[str] = [
        name for name in ("optimal", "temperature", "platt", "isotonic") if name in drawn
    ]
    order += [name for name in ("threshold", CEILING.name) if name in drawn]
    figure, panels = panels_of(len(structures), height=0.36 * len(order) + 1.0, sharey=True)
    every = [
        v for name in order for s in structures for v in thresholds.get((s, name), {}).values()
    ]
    least, most = min([0.05, *every]), max([0.95, *every])
    limits = [float(logit(np.clip(v, NEAREST, 1 - NEAREST))) for v in (least, most)]
    for axis, structure in zip(panels, structures, strict=True):
        for place, rule in enumerate(order):
            colour, marker, _ = RULES[rule]
            found = np.array(list(thresholds.get((structure, rule), {}).values()))
            values = logit(np.clip(found, NEAREST, 1 - NEAREST))
            if len(values) >= BOXED:
                _box(axis, values, place)
            axis.plot(
                values,
                place + _spread(len(values)),
                linestyle="none",
                color=colour,
                marker=marker,
                **(FEW if len(values) < CROWD else MANY),
                clip_on=False,
                label=rule,
            )
        axis.axvline(0.0, color="black", linewidth=1.2, linestyle=":")
        shown = [tick for tick in TICKS if limits[0] - 0.7 <= logit(tick) <= limits[1] + 0.7]
        axis.set_xticks(logit(shown), [f"{tick:g}" for tick in shown])
        axis.tick_params(axis="x", labelrotation=90 if len(shown) > 5 else 0)
        axis.set_xlim(limits[0] - 0.7, limits[1] + 0.7)
        axis.set_ylim(len(order) - 0.4, -0.6)
        axis.set_yticks(range(len(order)), [BY_NAME[rule].title for rule in order])
        finish_panel(axis, structure)
        axis.grid(axis="y", visible=False)
    label_axes(panels, "threshold of the network's map")
    return save(figure, path)


def volumes_figure(
    path: str | os.PathLike[str],
    scores: Iterable[Score],
    rules: Sequence[str],
    structures: Sequence[str],
    millilitres: Mapping[str, float] | None,
) -> Path:
    """Draw the volume of segmentations against that of labels, a panel a rule.

    Args:
        path: PNG file to write.
        scores: All.
        rules: The names of those that are drawn.
        structures: The classes that are drawn.
        millilitres: A voxel's volume in each case; None where that is not known of all.

    Returns:
        The path.

    """
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for score in scores:
        size = 1.0 if millilitres is None else millilitres[score.case]
        points.setdefault((score.rule, score.structure), []).append(
            (score.label_voxels * size, score.voxels * size)
        )
    every = np.array([p for r in rules for s in structures for p in points.get((r, s), ())])
    positive = every[every > 0]
    least, most = (positive.min(), positive.max()) if positive.size else (1.0, 10.0)
    most = max(most, 4 * least)
    empty = bool((every == 0).any())
    # A volume of 0 has no logarithm: it stands at the edge, and has a tick of its own.
    floor = least / 4 if empty else least / 1.6
    figure, panels = panels_of(len(rules), height=3.3, sharey=True)
    handles: dict[str, Any] = {}
    for axis, rule in zip(panels, rules, strict=True):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.plot(
            [floor, most * 1.6], [floor, most * 1.6], color="black", linewidth=1, linestyle=":"
        )
        for place, structure in enumerate(structures):
            colour, marker = CLASSES[place % len(CLASSES)]
            found = np.maximum(np.array(points.get((rule, structure), [])).reshape(-1, 2), floor)
            (handles[structure],) = axis.plot(
                *found.T,
                linestyle="none",
                color=colour,
                marker=marker,
                **(FEW if len(found) < CROWD else MANY),
                label=drawn_name(structure),
                clip_on=False,
            )
        limits = (floor, most * 1.6)
        axis.set_xlim(limits)
        axis.set_ylim(limits)
        if empty:
            for line in (axis.axvline, axis.axhline):
                line(least / 2, color="#999999", linewidth=0.8)
            axis.annotate(
                "0", (0, 0), (-3, -3), "axes fraction", "offset points", ha="right", va="top"
            )
        axis.set_aspect("equal")
        # Numbers at 1, 2 and 5 where there are few decades, else at the decades alone.
        steps = (1, 2, 5) if most < 150 * floor else (1,)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(LogLocator(subs=steps))
            side.set_minor_locator(NullLocator())
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}"))
        finish_panel(axis, BY_NAME[rule].title)
    unit = "voxels" if millilitres is None else "ml"
    label_axes(panels, f"label ({unit})", f"segmentation ({unit})")
    legend_below(figure, [*handles.values()])
    return save(figure, path)


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Name what is drawn below a figure, in as many columns as it has room for."""
    letters = max((len(handle.get_label()) for handle in handles), default=1) + SYMBOL
    room = int(figure.get_figwidth() / LETTER / letters)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(1, min(4, room, len(handles))),
        frameon=False,
        fontsize=9,
    )


def finish_panel(axis: Any, title: str) -> None:
    """Finish a panel; a long title gets smaller letters, so that it touches no other."""
    finish(axis, title)
    axis.grid(axis="x", alpha=0.25)
    axis.title.set_fontsize(min(11.0, 11.0 * TITLE / max(1, len(axis.get_title()))))


def panels_of(count: int, *, height: float, sharey: bool) -> tuple[Figure, list[Any]]:
    """Return a figure with so many panels, in rows."""
    columns, rows = columns_of(count), math.ceil(count / columns_of(count))
    figure = Figure(
        figsize=(max(3.2 * columns + 0.7, 5.6), height * rows + 0.9), layout="constrained"
    )
    axes = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    # Of a column whose last panel is missing, the one above has the numbers.
    for axis in axes[max(0, count - columns) : count]:
        axis.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def columns_of(count: int) -> int:
    """Return how many of so many panels stand side by side.

    Example:
        >>> [columns_of(count) for count in (1, 2, 3, 4, 6)]
        [1, 2, 3, 2, 3]

    """
    return 2 if count == 4 else max(1, min(count, COLUMNS))


def label_axes(panels: Sequence[Any], below: str, beside: str | None = None) -> None:
    """Label the axes of panels at the lower and the left edge."""
    columns = columns_of(len(panels))
    for axis in panels[-columns:]:
        axis.set_xlabel(below)
    if beside is not None:
        for axis in panels[::columns]:
            axis.set_ylabel(beside)


def _box(axis: Any, values: NDArray[np.float64], place: int) -> None:
    """Draw the middle half of values as a box, nine tenths as a line, and the median."""
    low, lower, median, upper, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
    corner, size = (lower, place - 0.31), (upper - lower, 0.62)
    axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", zorder=3))
    axis.hlines([place] * 2, [low, upper], [lower, high], color="black", linewidth=1, zorder=3)
    axis.vlines(median, place - 0.31, place + 0.31, color="black", linewidth=2.4, zorder=3)


def _spread(count: int) -> Any:
    """Return how far points of one row are moved apart: evenly, and the same each time."""
    golden = (math.sqrt(5) - 1) / 2
    return 0.5 * ((np.arange(count) * golden) % 1.0 - 0.5) if count > 1 else np.zeros(count)
