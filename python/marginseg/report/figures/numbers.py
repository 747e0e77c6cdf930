"""Figures of a study's numbers: Dice and volume against noise, differences, t*, calibration."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from marginseg.report.claims import CLAIMS
from marginseg.report.figures.style import LINES, STYLES, drawn_name, finish, save
from marginseg.report.results import CaseScore
from marginseg.report.summary import CEILING
from marginseg.study.evaluation import METHOD_ORDER, METHODS

#: How many panels stand side by side.
COLUMNS = 3

#: Bins of a calibration curve with fewer voxels are left out.
FEWEST_VOXELS = 20


def figure3(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], reference: str = "noisy"
) -> Path:
    """Draw the paper's Figure 3: Dice against the noise level, with 95 % intervals.

    Args:
        path: PNG file to write.
        rows: As from :func:`marginseg.report.summary.summary_table`.
        reference: What Dice is taken against: ``"noisy"``, ``"clean"`` or ``"marginal"``.

    Returns:
        The path.

    """
    what = "marginals" if reference == "marginal" else f"{reference} label"
    return _against_noise(path, rows, reference, f"Dice against the {what}")


def volume_figure(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Draw the volume bias |s|/|l| − 1 against the noise level, with 95 % intervals.

    Args:
        path: PNG file to write.
        rows: As from :func:`marginseg.report.summary.summary_table`.

    Returns:
        The path.

    """
    percent = [
        {**row, **{name: 100 * (row[name] - 1) for name in ("mean", "low", "high")}}
        for row in rows
        if row["reference"] == "volume_ratio" and math.isfinite(row["mean"])
    ]
    return _against_noise(path, percent, "volume_ratio", "volume bias |s|/|l| − 1 (%)", zero=True)


def differences_figure(
    path: str | os.PathLike[str], differences: Sequence[Mapping[str, Any]]
) -> Path:
    """Draw the paired differences that the claims are about, with 95 % intervals.

    Args:
        path: PNG file to write.
        differences: As from :func:`marginseg.report.summary.differences_table`.

    Returns:
        The path.

    """
    chosen = [row for row in differences if row["reference"] == "noisy"]
    places = list(dict.fromkeys((row["structure"], row["std"]) for row in chosen))
    claims = [claim for claim in CLAIMS if any(_is(claim, row) for row in chosen)]
    figure = Figure(
        figsize=(4.6 * len(claims) + 1.2, 0.34 * len(places) + 1.5), layout="constrained"
    )
    axes = figure.subplots(1, len(claims), sharey=True, squeeze=False)[0]
    for axis, claim in zip(axes, claims, strict=True):
        colour, marker, _ = STYLES[claim.baseline]
        for row in chosen:
            if not _is(claim, row):
                continue
            axis.errorbar(
                row["mean"],
                places.index((row["structure"], row["std"])),
                xerr=_bars([row]),
                color=colour,
                marker=marker,
                markersize=5,
                capsize=3,
            )
        axis.axvline(0, color="black", linewidth=0.9)
        if claim.margin:
            axis.axvline(-claim.margin, color="black", linewidth=0.9, linestyle="dashed")
            axis.plot([], [], color="black", linestyle="dashed", label=f"−{claim.margin:g}")
            axis.legend(frameon=False, fontsize=9, loc="best")
        axis.set_title(f"{claim.method} − {claim.baseline}", fontsize=11)
        axis.set_xlabel("difference in Dice against the noisy label")
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.locator_params(axis="x", nbins=6)
    names = [f"{drawn_name(structure)}, a = {std:g}" for structure, std in places]
    axes[0].set_yticks(range(len(places)), names)
    axes[0].set_ylim(len(places) - 0.4, -0.6)
    return save(figure, path)


def thresholds_figure(path: str | os.PathLike[str], scores: Iterable[CaseScore]) -> Path:
    """Draw how t* is distributed over test cases, beside the marginals' own.

    Args:
        path: PNG file to write.
        scores: As from :attr:`marginseg.report.results.Results.scores`.

    Returns:
        The path.

    """
    cells: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    true: dict[tuple[str, float], dict[str, float]] = defaultdict(dict)
    for score in scores:
        if score.method.endswith("(*)"):
            cells[score.structure, score.std, score.method].append(score.threshold)
            true[score.structure, score.std][score.name] = score.sup_dice / 2
    structures = list(dict.fromkeys(structure for structure, _, _ in cells))
    methods = [m for m in METHOD_ORDER if any(key[2] == m for key in cells)]
    figure, panels = _panels(len(structures))
    for axis, structure in zip(panels, structures, strict=True):
        levels = sorted({std for place, std, _ in cells if place == structure})
        for side, method in enumerate(methods):
            colour = STYLES[method][0]
            shift = 0.36 * (side - (len(methods) - 1) / 2)
            present = [(i, cells.get((structure, std, method))) for i, std in enumerate(levels)]
            boxes = axis.boxplot(
                [values for _, values in present if values],
                positions=[place + shift for place, values in present if values],
                widths=0.28,
                whis=(5, 95),
                manage_ticks=False,
                patch_artist=True,
                flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
                medianprops={"color": "black", "linewidth": 1.2},
            )
            for box in boxes["boxes"]:
                box.set(facecolor=colour, alpha=0.75, hatch="" if side == 0 else "///")
        for place, std in enumerate(levels):
            median = float(np.median(list(true[structure, std].values())))
            axis.plot([place - 0.45, place + 0.45], [median] * 2, color="black", linestyle=":")
        axis.set_xticks(range(len(levels)), [f"{std:g}" for std in levels])
        axis.set_xlim(-0.6, len(levels) - 0.4)
        axis.set_ylim(-0.02, 0.54)
        finish(axis, structure)
    _label(panels, "threshold t*")
    handles: list[Any] = [
        Patch(
            facecolor=STYLES[method][0],
            alpha=0.75,
            hatch="" if side == 0 else "///",
            label=f"{method}: {STYLES[method][2].partition(',')[0]}",
        )
        for side, method in enumerate(methods)
    ]
    handles.append(
        Line2D([], [], color="black", linestyle=":", label="sup D / 2 of the marginals (median)")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return save(figure, path)


def calibration_figure(path: str | os.PathLike[str], curves: Sequence[Mapping[str, Any]]) -> Path:
    """Draw reliability diagrams: what maps promise, and what the marginals hold.

    Args:
        path: PNG file to write.
        curves: As from :func:`marginseg.report.summary.calibration_curves`.

    Returns:
        The path.

    """
    structures = list(dict.fromkeys(curve["structure"] for curve in curves))
    levels = sorted({curve["std"] for curve in curves})
    figure = Figure(
        figsize=(max(2.35 * len(levels) + 0.5, 5.2), 2.35 * len(structures) + 0.9),
        layout="constrained",
    )
    axes = figure.subplots(len(structures), len(levels), sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for curve in curves:
        method, _ = METHODS[curve["loss"]]
        colour, marker, text = STYLES[method]
        count, promised, held = (np.array(curve[k]) for k in ("count", "promised", "held"))
        kept = count >= FEWEST_VOXELS
        axis = axes[structures.index(curve["structure"])][levels.index(curve["std"])]
        (handles[method],) = axis.plot(
            promised[kept] / count[kept],
            held[kept] / count[kept],
            color=colour,
            marker=marker,
            markersize=4,
            # One of the two markers is open, so that the other is seen where they meet.
            markerfacecolor=colour if method == "CE(0)" else "none",
            linewidth=1.2,
            linestyle=LINES[method],
            label=text.partition(",")[0],
        )
    for place, structure in enumerate(structures):
        axes[place][0].set_ylabel(f"{drawn_name(structure)}\nmean of the marginals")
        for axis, std in zip(axes[place], levels, strict=True):
            axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", zorder=0)
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
            axis.grid(alpha=0.25)
            if place == 0:
                axis.set_title(f"a = {std:g}", fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("predicted probability")
    figure.legend(
        handles=list(handles.values()), loc="outside lower center", ncols=2, frameon=False
    )
    return save(figure, path)


def _against_noise(
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    reference: str,
    label: str,
    *,
    zero: bool = False,
) -> Path:
    """Draw means with intervals against the noise level, a panel a structure."""
    chosen = [row for row in rows if row["reference"] == reference]
    structures = list(dict.fromkeys(row["structure"] for row in chosen))
    figure, panels = _panels(len(structures))
    handles: dict[str, Any] = {}
    for axis, structure in zip(panels, structures, strict=True):
        here = sorted(
            (row for row in chosen if row["structure"] == structure), key=lambda row: row["std"]
        )
        levels = sorted({row["std"] for row in here})
        # Points of a level stand side by side; few levels would let them stray far from it.
        gap = min([*np.diff(levels), (levels[-1] - levels[0]) / 4 or 0.02])
        ceiling = [row for row in here if row["method"] == CEILING]
        if ceiling:
            (handles[CEILING],) = axis.plot(
                [row["std"] for row in ceiling],
                [row["mean"] for row in ceiling],
                color="black",
                linestyle=":",
                marker="_",
                linewidth=1.3,
                label="sup D: the most that anyone can expect",
            )
        present = [m for m in METHOD_ORDER if any(row["method"] == m for row in here)]
        for place, method in enumerate(present):
            colour, marker, text = STYLES[method]
            points = [row for row in here if row["method"] == method]
            # The methods stand side by side, so that no bar hides another.
            shift = gap * 0.06 * (place - (len(present) - 1) / 2)
            handles[method] = axis.errorbar(
                [row["std"] + shift for row in points],
                [row["mean"] for row in points],
                yerr=_bars(points),
                color=colour,
                marker=marker,
                markersize=5,
                linewidth=1.2,
                linestyle=LINES[method],
                capsize=2.5,
                label=f"{method}: {text}",
            )
        if zero:
            axis.axhline(0, color="black", linewidth=0.8, linestyle=":")
        axis.set_xticks(levels, [f"{level:g}" for level in levels])
        axis.set_xlim(levels[0] - 0.3 * gap, levels[-1] + 0.3 * gap)
        finish(axis, structure)
    if panels and not zero:
        panels[0].set_ylim(top=1.02)
    _label(panels, label)
    figure.legend(
        handles=list(handles.values()),
        loc="outside lower center",
        ncols=min(COLUMNS, max(2, len(structures))),
        frameon=False,
    )
    return save(figure, path)


def _panels(count: int) -> tuple[Figure, list[Any]]:
    """Return a figure with a panel a structure, in rows."""
    columns = max(1, min(count, COLUMNS))
    rows = max(1, math.ceil(count / COLUMNS))
    figure = Figure(figsize=(max(3.3 * columns + 0.6, 6.2), 3.1 * rows + 1.1), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, list(axes[:count])


def _label(panels: Sequence[Any], label: str) -> None:
    for axis in panels[::COLUMNS]:
        axis.set_ylabel(label)
    for axis in panels[-COLUMNS:]:
        axis.set_xlabel("noise level a (fraction of the extent)")


def _bars(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Return how far the intervals reach below and above the means."""
    return [
        [max(row["mean"] - row["low"], 0.0) for row in rows],
        [max(row["high"] - row["mean"], 0.0) for row in rows],
    ]


def _is(claim: Any, row: Mapping[str, Any]) -> bool:
    return (claim.method, claim.baseline) == (row["method"], row["baseline"])
