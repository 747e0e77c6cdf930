"""``assign_labels`` against the same in torch, and `optimal_labels` against RankSEG's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bench.case import Call, Case, DifferenceError, Peer, Size, Work, as_array, optional, organ
from marginseg import GaussianFieldNoise, dice, optimal_labels
from marginseg.ops.assign_labels import assign_labels

CHANNELS = 8
"""The background, and slices of one organ: of some classes there is much, of others little."""


def cases(size: Size) -> Iterator[Case]:
    """Let voxels join where they gain most, once; and until the mean Dice no longer grows."""
    maps = marginals(size)
    scale, offset = gains(maps)
    yield Case(
        "assign_labels",
        f"{CHANNELS} channels",
        lambda: assign_labels(maps, scale, offset),
        (
            Peer(
                "torch max + bincount",
                "the gains of all channels in float32, max, gather, bincount",
                lambda: by_torch(maps, scale, offset),
                same_labels,
                note="the gains go through memory",
            ),
        ),
        Work((4.0 * CHANNELS + 1.0) * size.voxels, CHANNELS * size.voxels),
    )
    yield Case(
        "optimal_labels",
        f"{CHANNELS} channels",
        lambda: optimal_labels(maps.unflatten(-1, (size.edge,) * 3), spatial_dims=3),
        (
            Peer(
                "RankSEG RMA, multiclass",
                "metric dice, pruning_prob 0",
                lambda: by_rankseg(maps, size),
                never_better(maps),
                note="one pass over sorted maps; its mean Dice counts the background too",
            ),
        ),
        Work((4.0 * CHANNELS + 1.0) * size.voxels, CHANNELS * size.voxels),
    )


def marginals(size: Size) -> Tensor:
    """Return maps of exclusive classes, (cubes, K, voxels): the noise's, of slices of an organ."""
    body = organ(Size(size.edge)).to(torch.int64)
    slices = (torch.arange(size.edge, device=body.device) * 2 * CHANNELS // size.edge) % CHANNELS
    label = body * slices.clamp_min(1)[:, None, None]
    maps = GaussianFieldNoise(std=0.03).marginals(label, classes=range(1, CHANNELS))
    rest = (1.0 - maps.sum(0, keepdim=True)).clamp_min(0.0)
    return torch.cat([rest, maps]).flatten(1).expand(size.cubes, -1, -1).contiguous()


def gains(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and offset of a first pass: every class is about as large as its mass."""
    mass = maps.sum(-1).clamp_min(1.0)  # the smallest cubes lack some classes
    scale, offset = 1.0 / mass, 0.25 / mass
    scale[:, 0], offset[:, 0] = 0.0, torch.inf
    return scale, offset


def by_torch(maps: Tensor, scale: Tensor, offset: Tensor) -> Call:
    def call() -> tuple[Tensor, list[Tensor], list[Tensor]]:
        gain, channel = (maps * scale[..., None] - offset[..., None]).max(dim=1)
        channel.masked_fill_(gain <= 0, 0)
        held = maps.gather(1, channel[:, None])[:, 0].double()
        volume = [torch.bincount(of, minlength=CHANNELS) for of in channel]
        mass = [
            torch.bincount(of, weights=m, minlength=CHANNELS)
            for of, m in zip(channel, held, strict=True)
        ]
        return channel, volume, mass

    return call


def by_rankseg(maps: Tensor, size: Size) -> Call:
    solver = optional("rankseg").RankSEG(
        metric="dice", output_mode="multiclass", solver="RMA", pruning_prob=0.0
    )
    volumes = maps.unflatten(-1, (size.edge,) * 3)
    return lambda: solver.predict(volumes)


def same_labels(ours: Any, peer: Any) -> str:
    """Check that the labels are the same, but where two gains are equal to rounding."""
    others = float((as_array(ours.labels) != as_array(peer[0])).mean())
    if not others <= 1e-4:
        raise DifferenceError(f"{others:.2g} of the labels differ")
    return f"{others:.0e} of the labels differ"


def never_better(maps: Tensor) -> Any:
    """Return a check that the peer's mean Dice is not above ours, and resembles it."""

    def check(ours: Any, peer: Any) -> str:
        labels = torch.from_numpy(as_array(peer)).to(maps.device).reshape(len(maps), -1)
        each = [
            dice(labels == channel, maps[:, channel], spatial_dims=1)
            for channel in range(1, CHANNELS)
        ]
        below = float((ours.value - torch.stack(each).mean(0)).max())
        if not -1e-9 <= below <= 0.1:
            raise DifferenceError(f"its mean Dice is {below:.2g} below ours")
        return f"its mean Dice is {max(below, 0.0):.0e} below ours"

    return check
