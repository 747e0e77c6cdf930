"""The overlap of every threshold with a label, from the sums of a calibration table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.calibration import CalibrationTable, lower_edges
from marginseg.evaluation.scores import Empty
from marginseg.threshold import cut

#: The thresholds that are tried: {p >= edge} are the voxels of a table's bin and of those above. A
#: bin above ½ begins behind its lower end, which belongs to the bin before.
EDGES = lower_edges()


class OverlapCurves(NamedTuple):
    """What cuts of the classes of one case reach.

    Attributes:
        overlap: Dice or F_β with the label of {p >= edge}, (classes, edges); NaN for an empty label
            where that is left out whatever is cut.
        volume: Voxels of {p >= edge}, (classes, edges).
        label_volume: Voxels of the label, (classes,).

    """

    overlap: NDArray[np.float64]
    volume: NDArray[np.float64]
    label_volume: NDArray[np.float64]


def overlap_curves(table: CalibrationTable, *, beta: float, empty: Empty) -> OverlapCurves:
    r"""Return the overlap at the lower edge of every bin.

    :math:`F_\beta = (1 + \beta^2) |s \cap l| / (|s| + \beta^2 |l|)` of :math:`s = \{p \ge e\}`
    needs no more than how many voxels, and how many of the label, have a probability above the
    edge: it is exact, for the cuts at edges.

    Args:
        table: The sums of one case, whose targets are its label.
        beta: 1 is Dice.
        empty: What the overlap is where the label is empty. With ``"nan"`` an empty cut of it is 1
            here all the same, as it is where rules are compared: a threshold must not be the
            better for painting there.

    """
    square = beta**2
    volume = np.cumsum(table.count[:, ::-1], axis=1)[:, ::-1]
    inside = np.cumsum(table.held[:, ::-1], axis=1)[:, ::-1]
    label = table.held.sum(axis=1)
    total = volume + square * label[:, None]
    with np.errstate(invalid="ignore"):
        overlap = np.where(total > 0, (1.0 + square) * inside / total, 1.0)
    if empty == "skip":
        overlap[label == 0] = np.nan
    return OverlapCurves(overlap, volume, label)


class BestCut(NamedTuple):
    """The cut of a class by itself that is best for a label.

    Attributes:
        overlap: With the label; NaN for an empty label that is left out.
        threshold: NaN where the overlap is.
        volume: Voxels of {p >= threshold}.

    """

    overlap: float
    threshold: float
    volume: int


def best_cut(
    values: Tensor, label: Tensor, curves: OverlapCurves, row: int, *, beta: float
) -> BestCut:
    r"""Return the best threshold of all, and not of the edges of bins alone.

    A segmentation of |s| voxels has :math:`F_\beta \le (1 + \beta^2) |l| / (|s| + \beta^2 |l|)`:
    so only voxels above some edge have to be sorted, a few times as many as the label has.

    Args:
        values: The map of one class, (voxels,), as it was summed up; of those that count.
        label: Which of them belong to it, (voxels,), bool.
        curves: From the table of the case.
        row: The class.
        beta: 1 is Dice.

    """
    square = beta**2
    overlap = np.where(EDGES > 0, np.nan_to_num(curves.overlap[row], nan=-1.0), -1.0)
    place = int(overlap.argmax())
    if overlap[place] < 0:
        return BestCut(math.nan, math.nan, 0)
    found = BestCut(
        float(overlap[place]), float(EDGES[place]), round(float(curves.volume[row, place]))
    )
    size = curves.label_volume[row]
    if size == 0 or found.overlap == 0:
        return found
    most = size * ((1.0 + square) / found.overlap - square)
    lowest = max(int(np.searchsorted(-curves.volume[row], -most)) - 1, 1)
    chosen = cut(values, EDGES[lowest])
    above, order = values[chosen].sort(descending=True)
    inside = label[chosen][order].cumsum(0)
    # Equal values are cut together: after the last of them.
    last = (above[1:] != above[:-1]).nonzero()[:, 0]
    last = torch.cat([last, last.new_tensor([len(above) - 1])])
    reached = (1.0 + square) * inside[last].double() / (last + 1 + square * size)
    best = int(reached.argmax())
    if float(reached[best]) > found.overlap:
        volume = int(last[best]) + 1
        found = BestCut(float(reached[best]), float(above[volume - 1]), volume)
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
