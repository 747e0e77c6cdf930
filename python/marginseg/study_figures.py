"""Figures of a study's results: Dice against the noise level, and some cases as slices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from marginseg.figures import STYLES, save

CEILING = "sup D"


def figure3(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], reference: str = "noisy"
) -> Path:
    """Draw the paper's Figure 3: Dice against the noise level, a panel a structure.

    Args:
        path: PNG file to write.
        rows: As from :func:`marginseg.report.summary_table`.
        reference: What Dice is taken against: ``"noisy"``, ``"clean"`` or ``"marginal"``.
    """
    structures = list(dict.fromkeys(row["structure"] for row in rows))
    width = max(3.4 * len(structures) + 0.6, 6.0)
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    lowest = min(
        (row["mean"] - row["sd"] for row in rows if row["reference"] == reference), default=0
    )
    axes = figure.subplots(1, len(structures), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axis, structure in zip(axes, structures, strict=True):
        chosen = [r for r in rows if r["structure"] == structure and r["reference"] == reference]
        levels = sorted({row["std"] for row in chosen})
        gap = min(np.diff(levels), default=0.02)
        present = [m for m in STYLES if any(row["method"] == m for row in chosen)]
        ceiling = [row for row in chosen if row["method"] == CEILING]
        if ceiling:
            ceiling.sort(key=lambda row: row["std"])
            (handles[CEILING],) = axis.plot(
                [row["std"] for row in ceiling],
                [row["mean"] for row in ceiling],
                color="black",
                linestyle=":",
                linewidth=1.3,
                label="sup D, the most that anyone can reach",
            )
        for place, method in enumerate(present):
            colour, marker, text = STYLES[method]
            points = sorted((r["std"], r["mean"], r["sd"]) for r in chosen if r["method"] == method)
            x, mean, sd = np.array(points).T
            # Side by side, so that no bar hides another.
            shifted = x + gap * 0.05 * (place - (len(present) - 1) / 2)
            handles[method] = axis.errorbar(
                shifted,
                mean,
                yerr=sd,
                color=colour,
                marker=marker,
                markersize=5,
                linewidth=1.2,
                capsize=2.5,
                label=f"{method}: {text}",
            )
        axis.set_title(structure.replace("_", " "), fontsize=11)
        axis.set_xlabel("noise level a (fraction of the extent)")
        axis.set_xticks(levels)
        axis.set_ylim(max(lowest - 0.05, -0.03), 1.02)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(f"Dice against the {reference} label")
    columns = 3 if len(structures) > 1 else 2
    figure.legend(
        handles=list(handles.values()), loc="outside lower center", ncols=columns, frameon=False
    )
    return save(figure, path)


def case_figure(path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> Path:
    """Draw cases as slices through their largest cross-section, a row a case.

    Args:
        path: PNG file to write.
        cases: Each with ``title``, the arrays ``image``, ``clean``, ``noisy``, ``marginal``,
            ``probability``, and the ``threshold`` t* of the probability.
    """
    titles = ("image and labels", "true marginal", "predicted probability", "cut at ½ and at t*")
    figure = Figure(figsize=(10.4, 2.55 * len(cases) + 0.7), layout="constrained")
    axes = figure.subplots(len(cases), 4, squeeze=False)
    shown = None
    for row, case in zip(axes, cases, strict=True):
        plane = _largest_slice(np.asarray(case["clean"]))
        image, clean, noisy, marginal, probability = (
            np.asarray(case[key], dtype=np.float32)[plane].T
            for key in ("image", "clean", "noisy", "marginal", "probability")
        )
        grey = {"cmap": "gray", "origin": "lower"}
        row[0].imshow(image, **grey)
        _outline(row[0], clean, "#FFFFFF", "solid")
        _outline(row[0], noisy, "#E69F00", "solid")
        for axis, values in ((row[1], marginal), (row[2], probability)):
            shown = axis.imshow(values, cmap="cividis", vmin=0, vmax=1, origin="lower")
            _outline(axis, clean, "#FFFFFF", "solid")
        row[3].imshow(image, **grey)
        _outline(row[3], clean, "#FFFFFF", "solid")
        _outline(row[3], probability >= 0.5, STYLES["CE(0)"][0], "dashed")
        _outline(row[3], probability >= case["threshold"], STYLES["CE(*)"][0], "solid")
        row[3].set_xlabel(f"t* = {case['threshold']:.2f}", fontsize=9)
        row[0].set_ylabel(case["title"], fontsize=9)
        for axis in row:
            axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    if shown is not None:
        figure.colorbar(shown, ax=axes, shrink=0.5, label="probability")
    lines = [
        Line2D([], [], color="#BBBBBB", label="clean label (white)"),
        Line2D([], [], color="#E69F00", label="noisy label"),
        Line2D([], [], color=STYLES["CE(0)"][0], linestyle="dashed", label="CE(0): cut at ½"),
        Line2D([], [], color=STYLES["CE(*)"][0], label="CE(*): cut at t*"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=4, frameon=False)
    return save(figure, path)


def _largest_slice(label: NDArray[Any]) -> tuple[Any, ...]:
    """Return the index of the plane, across the last axis, that holds most of the label."""
    if label.ndim == 2:
        return (slice(None), slice(None))
    return (slice(None), slice(None), int(label.sum(axis=(0, 1)).argmax()))


def _outline(axis: Any, mask: NDArray[Any], colour: str, style: str) -> None:
    if mask.min() != mask.max():
        axis.contour(mask, levels=[0.5], colors=colour, linewidths=1.3, linestyles=style)
