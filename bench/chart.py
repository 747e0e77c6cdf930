"""Charts of results."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from marginseg.atomic import replacing

COLOURS = {"64³": "#0072B2", "128³": "#E69F00"}
"""Okabe and Ito's blue and orange: told apart by every kind of colour vision."""

LINES = {
    "sample": ("#0072B2", "o"),
    "marginals": ("#E69F00", "s"),
    "gaussian_filter": ("#009E73", "^"),
    "dice_threshold": ("#CC79A7", "D"),
}


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    with replacing(path) as file:
        file.write(buffer.getvalue())


def ratios(results: dict[str, Any], path: Path) -> None:
    """Draw how many times as long as ours each peer takes, with the most threads measured."""
    rows = [
        row
        for section in results["results"].values()
        for row in section["rows"]
        if row.get("ratio") and "peer" in row and row["size"] in COLOURS and not row["yardstick"]
    ]
    if not rows:
        return
    threads = max(row["threads"] for row in rows)
    values = {
        (row["op"], row["setting"], row["peer"], row["size"]): row
        for row in rows
        if row["threads"] == threads
    }
    groups = list(dict.fromkeys(key[:3] for key in values))
    figure, axes = plt.subplots(figsize=(9.0, 0.36 * len(groups) + 1.4), layout="constrained")
    height = 0.8 / len(COLOURS)
    for place, (size, colour) in enumerate(COLOURS.items()):
        for line, group in enumerate(groups):
            row = values.get((*group, size))
            if row is None:
                continue
            y = line + (place - (len(COLOURS) - 1) / 2) * height
            axes.barh(y, row["ratio"], height, color=colour, label=size if line == 0 else None)
            axes.annotate(
                f"{row['ratio']:.3g}",
                (row["ratio"], y),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
            if row["target"]:
                axes.plot([row["target"]] * 2, [y - height / 2, y + height / 2], "k", lw=2)
    axes.plot([], [], "k", lw=2, label="target")
    axes.set_yticks(
        range(len(groups)), [f"{op}, {setting}: {peer}" for op, setting, peer in groups]
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1.0, color="0.5", lw=1)
    axes.margins(y=0.01)
    axes.set_xlabel(f"time of the peer / time of marginseg, {threads} threads")
    axes.legend(loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def scaling(results: dict[str, Any], path: Path) -> None:
    """Draw time against voxels, with lines of slope 1 to compare."""
    section = results["results"].get("scaling")
    if not section:
        return
    figure, axes = plt.subplots(figsize=(7.0, 5.0), layout="constrained")
    for op, (colour, marker) in LINES.items():
        points = [row for row in section["rows"] if row["op"] == op]
        voxels = [row["voxels"] for row in points]
        times = [row["timing"]["median"] for row in points]
        axes.plot(voxels, times, color=colour, marker=marker, label=op)
    first, last = section["rows"][0], section["rows"][-1]
    start = min(row["timing"]["median"] for row in section["rows"]) / 2
    grown = start * last["voxels"] / first["voxels"]
    ends = [first["voxels"], last["voxels"]]
    axes.plot(ends, [start, grown], "--", color="0.5", label="slope 1")
    axes.set_xscale("log")
    axes.set_yscale("log")
    edges = {row["edge"]: row["voxels"] for row in section["rows"]}
    axes.set_xticks(list(edges.values()), [f"{edge}³" for edge in edges])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("voxels")
    axes.set_ylabel(f"seconds, {first['threads']} threads")
    axes.grid(alpha=0.3)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
