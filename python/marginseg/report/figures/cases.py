"""Figures of a study's cases: slices with contours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from marginseg.report.figures.style import STYLES, drawn_name, save
from marginseg.report.results import Results
from marginseg.study.configuration import Run
from marginseg.study.evaluation import METHODS

CLEAN, NOISY = "#FFFFFF", "#E69F00"


def figure2(path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> Path:
    """Draw the paper's Figure 2: a case a row with its noisy label at every noise level.

    Args:
        path: PNG file to write.
        cases: As from `noise_cases`.

    Returns:
        The path.

    """
    columns = max(len(case["levels"]) for case in cases)
    width = 2.4 * _proportion([level["image"] for case in cases for level in case["levels"]])
    figure = Figure(
        figsize=(max(width * columns + 0.6, 4.2), 2.5 * len(cases) + 0.7), layout="constrained"
    )
    axes = figure.subplots(len(cases), columns, squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        for axis, level in zip(row, case["levels"], strict=False):
            _grey(axis, level["image"])
            outline(axis, level["clean"], CLEAN, "solid")
            outline(axis, level["noisy"], NOISY, "solid")
            axis.set_title(f"a = {level['std']:g}", fontsize=10)
        for axis in row[len(case["levels"]) :]:
            axis.set_visible(False)
        row[0].set_ylabel(case["title"], fontsize=10)
    contour_legend(figure, [(CLEAN, "solid", "clean label"), (NOISY, "solid", "noisy label")])
    return save(figure, path, dpi=110)


def case_figure(path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> Path:
    """Draw test cases with their labels, marginals, predicted map and both cuts, a row a case.

    Args:
        path: PNG file to write.
        cases: As from `extreme_cases`.

    Returns:
        The path.

    """
    titles = ("image and labels", "marginals", "predicted probability", "cut at ½ and at t*")
    width = 2.2 * _proportion([case["image"] for case in cases])
    figure = Figure(
        figsize=(max(width, 1.7) * len(titles) + 1.6, 2.45 * len(cases) + 0.8),
        layout="constrained",
    )
    axes = figure.subplots(len(cases), len(titles), squeeze=False)
    shown: Any = None
    at_half, at_optimum = cases[0]["methods"]
    for row, case in zip(axes, cases, strict=True):
        _grey(row[0], case["image"])
        outline(row[0], case["clean"], CLEAN, "solid")
        outline(row[0], case["noisy"], NOISY, "solid")
        for axis, name in ((row[1], "marginal"), (row[2], "probability")):
            values = _oriented(case[name])
            shown = axis.imshow(values, cmap="cividis", vmin=0, vmax=1, origin="lower")
            axis.set(xticks=[], yticks=[])
            outline(axis, case["clean"], CLEAN, "solid")
        _grey(row[3], case["image"])
        probability = np.asarray(case["probability"], dtype=np.float32)
        outline(row[3], case["clean"], CLEAN, "solid")
        outline(row[3], probability >= 0.5, STYLES[at_half][0], "dashed")
        outline(row[3], probability >= case["threshold"], STYLES[at_optimum][0], "solid")
        row[3].set_xlabel(f"t* = {case['threshold']:.2f}", fontsize=10)
        row[0].set_ylabel(case["title"], fontsize=9.5)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10.5)
    bar = figure.colorbar(shown, ax=axes, shrink=min(0.6, 1.6 / len(cases)), aspect=16)
    bar.set_label("probability")
    contour_legend(
        figure,
        [
            (CLEAN, "solid", "clean label"),
            (NOISY, "solid", "noisy label"),
            (STYLES[at_half][0], "dashed", f"{at_half}: cut at ½"),
            (STYLES[at_optimum][0], "solid", f"{at_optimum}: cut at t*"),
        ],
    )
    return save(figure, path, dpi=100)


def noise_cases(results: Results) -> list[dict[str, Any]]:
    """Return a test case of each structure with its noisy label at every noise level.

    It is the case whose slice has the median area, among those of the first fold that has slices.

    Returns:
        For each structure ``title`` and ``levels``, a list with ``std``, ``image``, ``clean`` and
        ``noisy``.

    """
    cases = []
    for structure in results.config.structures:
        chosen: str | None = None
        levels: dict[float, dict[str, Any]] = {}
        for run in sorted(results.finished, key=lambda run: (run.fold, run.std)):
            if run.structure != structure or run.std in levels:
                continue
            slices = results.slices(run)
            if slices is None:
                continue
            names = [case["name"] for case in results.finished[run]["cases"]]
            if chosen is None:
                areas = slices["clean"].reshape(len(names), -1).sum(axis=1)
                chosen = names[int(np.argsort(areas, kind="stable")[len(names) // 2])]
            if chosen in names:
                place = names.index(chosen)
                arrays = {key: slices[key][place] for key in ("image", "clean", "noisy")}
                levels[run.std] = {"std": run.std, **arrays}
        if levels:
            title = f"{drawn_name(structure)}\n{drawn_name(chosen or '')}"
            cases.append({"title": title, "levels": [levels[std] for std in sorted(levels)]})
    return cases


def extreme_cases(results: Results) -> list[dict[str, Any]]:
    """Return the worst and the best test case of each structure at its highest noise level.

    They are so by the Dice against the noisy label of cross-entropy's map cut at t* (soft-Dice's
    where a study has no cross-entropy), among the runs that have slices.

    Returns:
        Each with ``title``, the planes ``image``, ``clean``, ``noisy``, ``marginal`` and
        ``probability``, the ``threshold`` t*, and ``methods``: that at ½, and that at t*.

    """
    losses = {run.loss for run in results.finished}
    loss = next((loss for loss in METHODS if loss in losses), None)
    chosen = []
    for structure in results.config.structures:
        for std in sorted(results.config.std, reverse=True):
            runs = [
                run
                for run in results.finished
                if (run.structure, run.std, run.loss) == (structure, std, loss)
            ]
            found = [case for run in runs for case in _pictured(results, run)]
            if not found:
                continue
            found.sort(key=lambda case: (case["dice"], case["name"]))
            worst, best = found[0], found[-1]
            where = f"{drawn_name(structure)}, a = {std:g}"
            for kind, case in (("worst", worst), ("best", best))[: len(found)]:
                half, optimum = case["methods"]
                case["title"] = (
                    f"{where}\n{kind}: {drawn_name(case['name'])}\n"
                    f"{optimum} {case['dice']:.3f}, {half} {case['dice_half']:.3f}"
                )
                chosen.append(case)
            break
    return chosen


def _pictured(results: Results, run: Run) -> list[dict[str, Any]]:
    slices = results.slices(run)
    if slices is None:
        return []
    half, optimum = METHODS[run.loss]
    return [
        {
            **{key: arrays[place] for key, arrays in slices.items()},
            "name": case["name"],
            "dice": case["methods"][optimum]["dice_noisy"],
            "dice_half": case["methods"][half]["dice_noisy"],
            "threshold": case["methods"][optimum]["threshold"],
            "methods": (half, optimum),
        }
        for place, case in enumerate(results.finished[run]["cases"])
    ]


def _oriented(plane: NDArray[Any]) -> NDArray[Any]:
    """Return a plane with its first axis to the right and its second upwards."""
    return np.asarray(plane, dtype=np.float32).T


def _proportion(planes: Sequence[NDArray[Any]]) -> float:
    """Return the width over the height of the widest plane as it is shown, within bounds."""
    return float(np.clip(max(plane.shape[0] / plane.shape[1] for plane in planes), 0.6, 2.0))


def _grey(axis: Any, image: NDArray[Any]) -> None:
    axis.imshow(_oriented(image), cmap="gray", origin="lower")
    axis.set(xticks=[], yticks=[])


def outline(axis: Any, mask: NDArray[Any], colour: str, style: str) -> None:
    """Draw the contour of a mask, with its first axis to the right and its second upwards."""
    plane = _oriented(mask)
    if plane.min() == plane.max():
        return
    lines = axis.contour(plane, levels=[0.5], colors=colour, linewidths=1.4, linestyles=style)
    # A dark rim keeps a line visible on a bright image and on a bright map.
    lines.set_path_effects([withStroke(linewidth=2.6, foreground="black")])


def contour_legend(figure: Figure, entries: Sequence[tuple[str, Any, str]]) -> None:
    """Name contours below a figure: each a colour, a line style and a text."""
    rim = [withStroke(linewidth=3.2, foreground="black")]
    lines = [
        Line2D([], [], color=colour, linestyle=style, label=text, path_effects=rim)
        for colour, style, text in entries
    ]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=len(entries), frameon=False, fontsize=10
    )
