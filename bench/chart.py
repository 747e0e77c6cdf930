"""Charts of results."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from marginseg.files.atomic import replacing

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
    # An op's first input, and any other that has targets too.
    first = {row["op"]: row["setting"] for row in reversed(rows)}
    aimed = {(row["op"], row["setting"]) for row in rows if row["target"]}
    values = {
        (row["op"], row["setting"], row["peer"], row["size"]): row
        for row in rows
        if row["threads"] == threads
        and ((row["op"], row["setting"]) in aimed or first[row["op"]] == row["setting"])
    }
    places = _places(list(dict.fromkeys(key[:3] for key in values)))
    lowest = max(places.values())
    figure, axes = plt.subplots(figsize=(9.0, 0.34 * lowest + 1.6), layout="constrained")
    axes.set_xscale("log")
    for (op, setting, peer, size), row in values.items():
        _bar(axes, places[op, setting, peer], size, row)
    for size, colour in COLOURS.items():
        axes.barh(0, 0, color=colour, label=size)
    axes.plot([], [], "k", lw=2, label="target")
    labels = [f"{op}, {setting}: {peer}" for op, setting, peer in places]
    axes.set_yticks(list(places.values()), labels)
    axes.set_ylim(lowest + 0.6, -0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1.0, color="0.3", lw=1)
    ends = [row[key] for row in values.values() for key in ("ratio", "target") if row[key]]
    # Room for the numbers beside the bars.
    axes.set_xlim(min(1.0, *ends) / 2.5, max(1.0, *ends) * 1.6)
    axes.set_xlabel(f"time of the peer / time of marginseg, {threads} threads")
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def _places(groups: list[tuple[str, str, str]]) -> dict[tuple[str, str, str], float]:
    """Return a line for each group, with a gap between ops and their inputs."""
    places: dict[tuple[str, str, str], float] = {}
    line, before = 0.0, groups[0][:2]
    for group in groups:
        line += 0.5 if group[:2] != before else 0.0
        places[group] = line
        line, before = line + 1.0, group[:2]
    return places


def _bar(axes: Axes, line: float, size: str, row: dict[str, Any]) -> None:
    """Draw a bar from 1, so that its direction says who is faster."""
    height = 0.8 / len(COLOURS)
    y = line + (list(COLOURS).index(size) - (len(COLOURS) - 1) / 2) * height
    ratio = row["ratio"]
    axes.barh(y, ratio - 1.0, height, left=1.0, color=COLOURS[size])
    target = row["target"] or 0.0
    # Beside the target's tick where the number would lie under it.
    place = target if ratio < target < 2.2 * ratio else ratio
    axes.annotate(
        f"{ratio:.0f}" if ratio >= 100.0 else f"{ratio:.3g}",
        (place, y),
        (3 if ratio >= 1.0 else -3, 0),
        textcoords="offset points",
        va="center",
        ha="left" if ratio >= 1.0 else "right",
        fontsize=7,
    )
    if row["target"]:
        axes.plot([row["target"]] * 2, [y - height / 2, y + height / 2], "k", lw=2)


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
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("voxels")
    axes.set_ylabel(f"seconds, {first['threads']} threads")
    axes.grid(alpha=0.3)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
