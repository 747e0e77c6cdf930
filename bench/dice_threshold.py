"""``dice_threshold`` against the paper's Listing 3, torch's sort, RankSEG, and one sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.case import Call, Case, DifferenceError, Peer, Size, Work, as_array, optional, organ
from marginseg import GaussianFieldNoise
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.ops.gaussian_filter import gaussian_filter


def cases(size: Size) -> Iterator[Case]:
    """Find t* of a map like a network's, and of one without any structure."""
    generator = torch.Generator().manual_seed(0)
    grain = gaussian_filter(torch.randn(size.shape, generator=generator), (1.0, 1.0, 1.0))
    marginals = GaussianFieldNoise(std=0.03, spatial_dims=3).marginals(organ(size))
    yield _case(size, "organ's marginals", (marginals + 0.05 * grain).clamp_(0.0, 1.0))
    yield _case(size, "uniform", torch.rand(size.shape, generator=generator))


def _case(size: Size, setting: str, probabilities: Tensor) -> Case:
    def both(ratio: float) -> Mapping[int, float]:
        return {64: ratio, 128: ratio}

    return Case(
        "dice_threshold",
        setting,
        lambda: dice_threshold(probabilities, spatial_dims=3),
        (
            Peer(
                "NumPy, Listing 3",
                "np.sort, np.cumsum, argmax, all in float32; one thread",
                lambda: listing_3(probabilities),
                same_dice,
                note="float32 sums",
                targets=both(150.0),
            ),
            Peer(
                "torch sort + cumsum",
                "torch.sort, torch.cumsum, max, all in float32",
                lambda: torch_sort(probabilities),
                same_dice,
                note="float32 sums",
                targets=both(150.0),
            ),
            Peer(
                "RankSEG RMA",
                "metric dice, multilabel, pruning_prob ½: the defaults",
                lambda: rankseg(probabilities),
                nearly_best(probabilities),
                note="maximises 2A/(S+τ+1); returns the mask, not t*",
                targets=both(250.0),
            ),
            Peer(
                "RankSEG RMA, auto",
                'the same with safe_screening="auto"',
                lambda: rankseg(probabilities, safe_screening="auto"),
                nearly_best(probabilities),
                note="maximises 2A/(S+τ+1); returns the mask, not t*",
                targets=both(15.0),
            ),
            Peer(
                "torch.sum",
                "one sum over the same data",
                lambda: one_sum(probabilities),
                lambda ours, peer: "a yardstick, not the same work",
                targets={256: 1 / 3},
                yardstick=True,
            ),
        ),
        Work(4.0 * size.voxels, 2.0 * size.voxels),
    )


def listing_3(probabilities: Tensor) -> Call:
    maps = probabilities.reshape(-1, probabilities.shape[-1] ** 3).numpy()
    counts = np.arange(1, maps.shape[1] + 1, dtype=np.float32)

    def call() -> Any:
        results = []
        for values in maps:
            descending = np.sort(values)[::-1]
            inside = np.cumsum(descending)
            dice = 2.0 * inside / (counts + inside[-1])
            best = np.argmax(dice)
            results.append((dice[best] / 2.0, dice[best]))
        return np.array(results)

    return call


def torch_sort(probabilities: Tensor) -> Call:
    maps = probabilities.reshape(-1, probabilities.shape[-1] ** 3)
    counts = torch.arange(1, maps.shape[1] + 1, dtype=torch.float32)

    def call() -> Tensor:
        inside = torch.sort(maps, dim=1, descending=True).values.cumsum(dim=1)
        dice = (2.0 * inside / (counts + inside[:, -1:])).max(dim=1).values
        return torch.stack((dice / 2.0, dice), dim=1)

    return call


def rankseg(probabilities: Tensor, **options: Any) -> Call:
    solver = optional("rankseg").RankSEG(
        metric="dice", output_mode="multilabel", solver="RMA", **options
    )
    maps = probabilities.reshape(-1, 1, *probabilities.shape[-3:])
    return lambda: solver.predict(maps)


def one_sum(probabilities: Tensor) -> Call:
    return lambda: torch.sum(probabilities)


def same_dice(ours: Any, peer: Any) -> str:
    """Check that sup D agrees, to the precision of float32 sums."""
    worst = float(np.abs(as_array(ours.dice).reshape(-1) - as_array(peer)[:, 1]).max())
    if not worst <= 1e-4:
        raise DifferenceError(f"sup D differs by {worst:.2g}")
    return f"|difference of sup D| {worst:.0e}"


def nearly_best(probabilities: Tensor) -> Any:
    """Return a check that a mask's Dice is sup D, or hardly below."""

    def check(ours: Any, mask: Any) -> str:
        maps = as_array(probabilities.reshape(-1, probabilities.shape[-1] ** 3))
        chosen = as_array(mask).reshape(maps.shape)
        dice = 2.0 * (maps * chosen).sum(axis=1) / (maps.sum(axis=1) + chosen.sum(axis=1))
        worst = float((as_array(ours.dice).reshape(-1) - dice).max())
        if not -1e-6 <= worst <= 1e-3:
            raise DifferenceError(f"its mask's Dice is {worst:.2g} below sup D")
        return f"its mask's Dice is {max(worst, 0.0):.0e} below sup D"

    return check
