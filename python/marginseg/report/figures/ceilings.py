"""The figure of ceilings: the Dice that can be expected, and t*, against the noise level."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from marginseg.report.figures.style import LINES, STYLES, finish, save

#: How many structures stand side by side.
COLUMNS = 3

#: What the noise level is measured in.
UNITS = {"extent": "fraction of the extent", "mm": "mm", "voxel": "voxels"}

#: Of the cut at t*, that is of sup D, and of the cut at ½: colour, marker, line style.
AT_OPTIMUM = ("black", "^", "solid")
AT_HALF = (*STYLES["CE(0)"][:2], LINES["CE(0)"])

#: More levels than these have no room to be named one by one.
TICKS = 7


def ceilings_figure(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], *, units: str = "extent"
) -> Path:
    """Draw sup D and D at ½ against the noise level, and t* below them, a column a structure.

    Args:
        path: File to write: ``.png``, ``.pdf`` or ``.svg``.
        rows: As from :func:`marginseg.report.ceilings.summarise_ceilings`, at least one.
        units: Of the noise levels.

    Returns:
        The path.

    """
    structures = list(dict.fromkeys(row["structure"] for row in rows))
    columns = min(len(structures), COLUMNS)
    groups = math.ceil(len(structures) / COLUMNS)
    figure = Figure(
        figsize=(max(3.1 * columns + 0.8, 6.2), 4.4 * groups + 0.9), layout="constrained"
    )
    axes = figure.subplots(
        2 * groups, columns, squeeze=False, gridspec_kw={"height_ratios": [1.25, 1] * groups}
    )
    for axis in axes.flat:
        axis.set_visible(False)
    bottoms = _bottom(rows, "sup_dice", "dice_at_half"), _bottom(rows, "threshold")
    handles: list[Any] = []
    for place, structure in enumerate(structures):
        group, column = divmod(place, COLUMNS)
        here = sorted((r for r in rows if r["structure"] == structure), key=lambda r: r["std"])
        upper, lower = axes[2 * group][column], axes[2 * group + 1][column]
        handles = [
            _line(upper, here, "sup_dice", AT_OPTIMUM, "sup D, cut at t*: the most to expect"),
            _line(upper, here, "dice_at_half", AT_HALF, "D of the same map cut at ½"),
        ]
        upper.set_ylim(bottoms[0], 1.03)
        finish(upper, structure)
        _line(lower, here, "threshold", AT_OPTIMUM, "t*")
        lower.axhline(0.5, color=AT_HALF[0], linewidth=1.2, linestyle=AT_HALF[2], zorder=1)
        lower.set_ylim(bottoms[1], 0.52)
        finish(lower, "")
        levels = [row["std"] for row in here]
        for axis in (upper, lower):
            axis.set_visible(True)
            axis.set_xlim(*_limits(levels))
            if len(levels) <= TICKS:
                axis.set_xticks(levels, [f"{level:g}" for level in levels])
        upper.tick_params(labelbottom=False)
        lower.set_xlabel(f"noise level a ({UNITS[units]})")
        if column == 0:
            upper.set_ylabel("expected Dice")
            lower.set_ylabel("best threshold t*")
        else:
            upper.tick_params(labelleft=False)
            lower.tick_params(labelleft=False)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        title="lines: means over cases; bands: nine cases out of ten",
        title_fontsize=9,
        fontsize=9,
    )
    return save(figure, path)


def _line(
    axis: Any, rows: Sequence[Mapping[str, Any]], measure: str, style: Any, label: str
) -> Any:
    """Draw the means of a measure, and its spread behind them."""
    colour, marker, line = style
    levels = [row["std"] for row in rows]
    low, high = ([row[measure][end] for row in rows] for end in ("low", "high"))
    if len(levels) > 1:
        axis.fill_between(levels, low, high, color=colour, alpha=0.18, linewidth=0)
    else:
        axis.vlines(levels, low, high, color=colour, alpha=0.4, linewidth=6)
    (drawn,) = axis.plot(
        levels,
        [row[measure]["mean"] for row in rows],
        color=colour,
        marker=marker,
        # An open marker shows the other one behind it, where the two cuts are worth the same.
        markerfacecolor=colour if style is AT_OPTIMUM else "none",
        markersize=5 if style is AT_OPTIMUM else 7,
        linewidth=1.3,
        linestyle=line,
        label=label,
        clip_on=False,
        zorder=3,
    )
    return drawn


def _bottom(rows: Sequence[Mapping[str, Any]], *measures: str) -> float:
    """Return where the axis of these measures begins, the same for all structures."""
    least = min(row[measure]["low"] for row in rows for measure in measures)
    return max(0.0, math.floor(10 * least) / 10) - 0.02


def _limits(levels: Sequence[float]) -> tuple[float, float]:
    """Return where the axis of the noise levels begins and ends."""
    margin = 0.04 * (levels[-1] - levels[0]) or 0.5 * levels[0] or 0.01
    return levels[0] - margin, levels[-1] + margin
