"""What a rule makes of a map: the class of every voxel, and what the map promises of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from marginseg.classes import Classes
from marginseg.flat_map import voxel_count
from marginseg.threshold import cut


class Decided(NamedTuple):
    """What a rule makes of a map, as voxels in the map's own order.

    Attributes:
        numbers: The number of the class that a label map shows of each voxel, counted from 1; 0 is
            none: (voxels,), integers. None where classes that overlap have no label map.
        stacked: Of classes that may overlap, the mask of each, (classes, voxels), bool; where they
            have a label map, as it shows them. Else None.
        thresholds: Of each class, the probability below which no voxel belongs to it. ½ stands for
            the argmax too.
        expected: Of each class, the overlap (Dice, or F_β) that the map promises of its mask, after
            the rule's calibration.

    """

    numbers: Tensor | None
    stacked: Tensor | None
    thresholds: tuple[float, ...]
    expected: tuple[float, ...]

    def mask(self, place: int) -> Tensor:
        """Return the mask of one class, (voxels,)."""
        if self.stacked is not None:
            return self.stacked[place]
        assert self.numbers is not None
        return self.numbers == place + 1

    def masks(self) -> Tensor:
        """Return the masks of all classes, (classes, voxels)."""
        if self.stacked is not None:
            return self.stacked
        return torch.stack([self.mask(place) for place in range(len(self.thresholds))])


def renumbered(numbers: Tensor, new: list[int], *, first: int = 0) -> Tensor:
    """Return other numbers in the place of 0, 1, 2, ...: the first one, and the new ones."""
    table = torch.tensor([first, *new], dtype=torch.int16, device=numbers.device)
    return table[numbers.long()]


def above(maps: Tensor, rows: list[int], thresholds: list[float]) -> Tensor:
    """Return the number, from 1, of the class of the largest m / t, where m >= t."""
    numbers = torch.zeros(maps.shape[1:], dtype=torch.int16, device=maps.device)
    best = torch.zeros(maps.shape[1:], dtype=torch.float32, device=maps.device)
    for number, (row, threshold) in enumerate(zip(rows, thresholds, strict=True), 1):
        share = maps[row].to(torch.float32) / threshold
        better = cut(maps[row], threshold) & (share > best)
        numbers[better] = number
        best = torch.where(better, share, best)
    return numbers


def painted(stacked: Tensor) -> Tensor:
    """Return the number, from 1, of the last mask that holds each voxel: it covers the others."""
    numbers = torch.zeros(stacked.shape[1:], dtype=torch.int16, device=stacked.device)
    for number, mask in enumerate(stacked, 1):
        numbers[mask] = number
    return numbers


def shown(numbers: Tensor, classes: Classes) -> Tensor:
    """Return the masks of classes, (classes, voxels), in a label map painted with them."""
    assert classes.painted is not None
    stacked = torch.zeros(
        (len(classes.names), *numbers.shape), dtype=torch.bool, device=numbers.device
    )
    for mask, values in zip(stacked, classes.values, strict=True):
        for number, value in enumerate(classes.painted, 1):
            if value in values:
                mask |= numbers == number
    return stacked


def expected_overlap(values: Tensor, mask: Tensor, beta: float) -> float:
    """Return the overlap that a map (voxels) promises of a mask (voxels)."""
    square = beta**2
    total = voxel_count(mask) + square * float(values.sum(dtype=torch.float64))
    inside = float(values[mask].sum(dtype=torch.float64))
    return (1.0 + square) * inside / total if total > 0.0 else 1.0


def small_components(mask: Tensor, least: int) -> Tensor:
    """Return the voxels of components of fewer voxels; those touch at faces, edges and corners."""
    array = mask.cpu().numpy()
    box = ndimage.find_objects(array.astype(np.uint8))[0]
    everything = np.ones((3,) * array.ndim, bool)  # faces, edges and corners touch
    components, _ = ndimage.label(array[box], everything)
    small = np.bincount(components.ravel()) < least
    small[0] = False
    found = np.zeros_like(array)
    found[box] = small[components]
    return torch.from_numpy(found).to(mask.device)
