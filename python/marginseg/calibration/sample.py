"""Voxels of many cases, drawn for the methods that take all channels of a voxel together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.calibration.maps import mask_of, probabilities_of, tensor_of

#: Voxels that are drawn at most, shared out among the classes.
VOXELS = 500_000


class VoxelSample:
    """Voxels of cases, drawn at random: of each class as many, or all that there are.

    Plain draws would have hardly a voxel of a small class. What is drawn from a class more seldom
    than from others only moves the intercepts, by the logarithm of how seldom (Prentice and Pyke
    1979), which is taken back after the fit. Samples of several cases are joined as if they had
    been drawn from all of them at once.

    Attributes:
        drawn: The probabilities of the voxels drawn of each channel's class, (voxels, channels).
        seen: How many voxels there were of each.

    """

    def __init__(self, channels: int, voxels: int = VOXELS, seed: int = 0) -> None:
        self._most = max(1, voxels // channels)
        self._random = np.random.default_rng(seed)
        self.drawn: list[NDArray[np.float64]] = [np.zeros((0, channels))] * channels
        self.seen = np.zeros(channels, np.int64)

    def draw(self, probabilities: Tensor, labels: Tensor) -> None:
        """Draw from one case, (C, *spatial); labels are the channel of each voxel's class.

        What is in one channel alone, wholly, is left out, for it stays as it is.
        """
        several = torch.zeros(labels.shape, dtype=torch.int16, device=labels.device)
        for one in probabilities:
            several += one > 0
        labels = torch.where(several > 1, labels, -1).reshape(-1)
        for channel in range(len(probabilities)):
            (where,) = torch.nonzero(labels == channel, as_tuple=True)
            fresh = self._fresh(len(where), int(self.seen[channel]))
            picked = torch.from_numpy(self._random.choice(len(where), fresh, replace=False))
            voxels: Any = torch.unravel_index(where[picked.to(where.device)], several.shape)
            self._keep(channel, probabilities[:, *voxels].T.double().cpu().numpy(), len(where))

    def join(self, other: VoxelSample) -> None:
        """Take the voxels of another sample in.

        Raises:
            ValueError: It is of other channels.

        """
        if len(other.seen) != len(self.seen):
            raise ValueError(
                f"cases: expected samples of {len(self.seen)} channels, got {len(other.seen)}"
            )
        if other._most < self._most:
            # Of a sample that is smaller no more can be had.
            self._most = other._most
            for channel, kept in enumerate(self.drawn):
                self.drawn[channel] = self._some(kept, min(len(kept), self._most))
        for channel, rows in enumerate(other.drawn):
            new = int(other.seen[channel])
            fresh = self._fresh(new, int(self.seen[channel]))
            self._keep(channel, self._some(rows, fresh), new)

    def _keep(self, channel: int, fresh: NDArray[np.float64], new: int) -> None:
        """Take voxels in that were drawn from ``new`` ones, in the place of others."""
        self.seen[channel] += new
        size = min(self._most, int(self.seen[channel]))
        kept = self._some(self.drawn[channel], size - len(fresh))
        self.drawn[channel] = np.concatenate([kept, fresh])

    def _some(self, rows: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        return rows[self._random.choice(len(rows), count, replace=False)]

    def _fresh(self, new: int, old: int) -> int:
        """Return how many of the new ones a draw from all at once would have."""
        if new + old <= self._most:
            return new
        if new + old < 10**9:
            return int(self._random.hypergeometric(new, old, self._most))
        # NumPy draws from no more; of so many, it hardly matters that one is not drawn twice.
        return min(int(self._random.binomial(self._most, new / (new + old))), new)


def voxel_sample(
    probabilities: Any,
    targets: Any,
    mask: Any = None,
    *,
    channels: Sequence[int],
    background: int,
    voxels: int = VOXELS,
    seed: int = 0,
) -> VoxelSample:
    """Draw voxels of one case, to fit joint methods without reading its files again.

    Args:
        probabilities: NumPy array or tensor, (channels, *spatial): a softmax.
        targets: Where each class is, (K, *spatial), bool or 0 and 1.
        mask: Which voxels count, (*spatial), bool; the default is all.
        channels: The channel of each class.
        background: That of the background: with those of the classes, all that there are.
        voxels: How many are drawn at most, as many of each class.
        seed: Of the draws.

    Raises:
        TypeError: Something is no array or tensor, or of a wrong dtype.
        ValueError: The map has other channels, shapes do not match, or targets are soft or overlap.

    Example:
        >>> p = np.array([[0.9, 0.8, 0.3], [0.1, 0.2, 0.7]])
        >>> sample = voxel_sample(p, np.array([[0, 0, 1]]), channels=[1], background=0)
        >>> sample.seen.tolist(), sample.drawn[1].tolist()
        ([2, 1], [[0.3, 0.7]])

    """
    sample = VoxelSample(len(channels) + 1, voxels, seed)
    sample.draw(*_labelled(probabilities, targets, mask, channels, background))
    return sample


def sampled(
    cases: Iterable[VoxelSample | tuple[Any, Any, Any]],
    channels: Sequence[int],
    background: int,
    *,
    voxels: int,
    seed: int,
) -> VoxelSample:
    """Draw voxels of cases (probabilities, targets, mask), and of samples of them.

    Raises:
        TypeError: As for :func:`voxel_sample`.
        ValueError: As for :func:`voxel_sample`.

    """
    sample = VoxelSample(len(channels) + 1, voxels, seed)
    for case in cases:
        if isinstance(case, VoxelSample):
            sample.join(case)
        else:
            sample.draw(*_labelled(*case, channels, background))
    return sample


def _labelled(
    probabilities: Any, targets: Any, mask: Any, channels: Sequence[int], background: int
) -> tuple[Tensor, Tensor]:
    """Return a map, and the channel of each voxel's class; -1 where none counts."""
    maps, held = probabilities_of(probabilities), tensor_of("targets", targets)
    count = len(channels) + 1
    if len(maps) != count:
        raise ValueError(f"probabilities: expected {count} channels, got {len(maps)}")
    if held.shape != (count - 1, *maps.shape[1:]):
        expected = (count - 1, *maps.shape[1:])
        raise ValueError(f"targets: expected shape {expected}, got {tuple(held.shape)}")
    labels = torch.full(maps.shape[1:], background, dtype=torch.int16, device=maps.device)
    taken = torch.zeros(maps.shape[1:], dtype=torch.bool, device=maps.device)
    for channel, one in zip(channels, held.to(maps.device), strict=True):
        there = one.bool()
        if not bool((one == there).all()):
            raise ValueError("targets: expected labels, got soft ones; see the other methods")
        if bool((taken & there).any()):
            raise ValueError("targets: expected classes that exclude each other, got overlaps")
        taken |= there
        labels[there] = channel
    if mask is not None:
        labels[~mask_of(mask, maps)] = -1
    return maps, labels
