"""The overlap of every threshold with a label, from the sums of a calibration table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.calibration import CalibrationTable, lower_edges, places
from marginseg.evaluation.scores import Empty

#: The thresholds that are tried: {p >= edge} are the voxels of a table's bin and of those above. A
#: bin above ½ begins behind its lower end, which belongs to the bin before.
EDGES = lower_edges()


class OverlapCurves(NamedTuple):
    """What cuts of the classes of one case reach.

    Attributes:
        overlap: Dice or F_β with the label of {p >= edge}, (classes, edges); NaN for an empty label
            where that says nothing.
        volume: Voxels of {p >= edge}, (classes, edges).
        inside: Those of them that belong to the label, (classes, edges).
        label_volume: Voxels of the label, (classes,).

    """

    overlap: NDArray[np.float64]
    volume: NDArray[np.float64]
    inside: NDArray[np.float64]
    label_volume: NDArray[np.float64]


def overlap_curves(table: CalibrationTable, *, beta: float, empty: Empty) -> OverlapCurves:
    r"""Return the overlap at the lower edge of every bin.

    :math:`F_\beta = (1 + \beta^2) |s \cap l| / (|s| + \beta^2 |l|)` of :math:`s = \{p \ge e\}`
    needs no more than how many voxels, and how many of the label, have a probability above the
    edge: it is exact, for the cuts at edges.

    Args:
        table: The sums of one case, whose targets are its label.
        beta: 1 is Dice.
        empty: What the overlap is where the label is empty.

    """
    square = beta**2
    volume = np.cumsum(table.count[:, ::-1], axis=1)[:, ::-1]
    inside = np.cumsum(table.held[:, ::-1], axis=1)[:, ::-1]
    label = table.held.sum(axis=1)
    total = volume + square * label[:, None]
    with np.errstate(invalid="ignore"):
        both_empty = 1.0 if empty == "one" else np.nan
        overlap = np.where(total > 0, (1.0 + square) * inside / total, both_empty)
    if empty == "skip":
        overlap[label == 0] = np.nan
    return OverlapCurves(overlap, volume, inside, label)


class BestCut(NamedTuple):
    """The cut of a class that is best for a label.

    Attributes:
        overlap: With the label; NaN for an empty label where that says nothing.
        threshold: NaN where the overlap is.
        volume: Voxels of {p >= threshold}.

    """

    overlap: float
    threshold: float
    volume: int


def best_cut(
    values: Tensor, label: Tensor, curves: OverlapCurves, row: int, *, beta: float
) -> BestCut:
    """Return the best threshold of all, and not of the edges of bins alone.

    A bin in which a better one might lie, if its voxels of the label came first, is sorted. Most
    often there are a few bins, of few voxels, around the best edge.

    Args:
        values: The map of one class, (voxels,), as it was summed up; of those that count.
        label: Which of them belong to it, (voxels,), bool.
        curves: From the table of the case.
        row: The class.
        beta: 1 is Dice.

    """
    square = beta**2
    possible = np.where(EDGES > 0, np.nan_to_num(curves.overlap[row], nan=-1.0), -1.0)
    place = int(possible.argmax())
    if possible[place] < 0:
        return BestCut(math.nan, math.nan, 0)
    found = BestCut(
        float(possible[place]), float(EDGES[place]), round(float(curves.volume[row, place]))
    )
    volume, inside = (np.append(sums[row], 0.0) for sums in (curves.volume, curves.inside))
    least = square * curves.label_volume[row]
    held = -np.diff(inside)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Of a bin, the voxels of the label alone, with all that lie above.
        bound = (1.0 + square) * inside[:-1] / (volume[1:] + held + least)
    candidates = np.flatnonzero((bound > found.overlap) & (EDGES > 0))
    bins = places(values.numpy()) if len(candidates) else None
    for candidate in candidates:
        chosen = torch.from_numpy(bins == candidate)
        inner, hits = values[chosen].double(), label[chosen]
        order = inner.argsort(descending=True)
        steps, repeats = inner[order].unique_consecutive(return_counts=True)
        last = repeats.cumsum(0)
        here = inside[candidate + 1] + hits[order].cumsum(0)[last - 1].numpy()
        size = volume[candidate + 1] + last.numpy()
        overlap = (1.0 + square) * here / (size + least)
        best = int(overlap.argmax())
        if overlap[best] > found.overlap:
            found = BestCut(float(overlap[best]), float(steps[best]), round(float(size[best])))
    return found


class MeanCurves:
    """The mean overlap of many cases at every edge, from which a case can be taken out again."""

    def __init__(self, curves: Sequence[NDArray[np.float64]]) -> None:
        self._sum = np.zeros(curves[0].shape)
        self._cases = np.zeros(curves[0].shape)
        for curve in curves:
            self._sum += np.nan_to_num(curve)
            self._cases += np.isfinite(curve)

    def best(self, without: NDArray[np.float64] | None) -> NDArray[np.int64]:
        """Return the edge of each class at which the mean is largest, the nearest to ½ of several.

        Where no case says anything, that is the edge at ½.

        Args:
            without: The curve of a case that is left out.

        """
        total, cases = self._sum, self._cases
        if without is not None:
            total = total - np.nan_to_num(without)
            cases = cases - np.isfinite(without)
        mean = np.where((cases > 0) & (EDGES > 0), total / np.maximum(cases, 1), -1.0)
        # A sum from which a case was taken out again has the last bits of another order.
        near = (mean >= mean.max(axis=1, keepdims=True) - 1e-12) & (EDGES > 0)
        return np.where(near, np.abs(EDGES - 0.5), 2.0).argmin(axis=1)
