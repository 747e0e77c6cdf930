"""``dice_threshold``, and the cut, against Listing 3, torch's sort, RankSEG, and one sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.case import Call, Case, DifferenceError, Peer, Size, Work, as_array, optional, organ
from marginseg import GaussianFieldNoise, optimal_segmentation
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.ops.gaussian_filter import gaussian_filter


def cases(size: Size) -> Iterator[Case]:
    """Find t* of a map like a network's, and of one without any structure; then cut the first."""
    generator = torch.Generator().manual_seed(0)
    grain = gaussian_filter(torch.randn(size.shape, generator=generator), (1.0, 1.0, 1.0))
    marginals = GaussianFieldNoise(std=0.03, spatial_dims=3).marginals(organ(size))
    realistic = (marginals + 0.05 * grain).clamp_(0.0, 1.0)
    yield _threshold(size, "organ's marginals", realistic)
    yield _threshold(size, "uniform", torch.rand(size.shape, generator=generator))
    yield Case(
        "optimal_segmentation",
        "mask of organ's marginals",
        lambda: optimal_segmentation(realistic, spatial_dims=3),
        _rankseg_peers(realistic, "also checks its input", {}, {}),
        Work(9.0 * size.voxels, 3.0 * size.voxels),
    )


def _threshold(size: Size, setting: str, probabilities: Tensor) -> Case:
    both = {64: 150.0, 128: 150.0}
    return Case(
        "dice_threshold",
        setting,
        lambda: dice_threshold(probabilities, spatial_dims=3),
        (
            Peer(
                "NumPy, Listing 3",
                "np.sort, np.cumsum of float32, divided by integer counts; one thread",
                lambda: listing_3(probabilities),
                same_dice,
                note="float32 sums",
                targets=both,
            ),
            Peer(
                "NumPy, float32 throughout",
                "the same with float32 counts made beforehand; one thread",
                lambda: listing_3(probabilities, tuned=True),
                same_dice,
                note="float32 sums, counts not made in the call",
            ),
            Peer(
                "torch sort + cumsum",
                "torch.sort, torch.cumsum, max, all in float32; counts made beforehand",
                lambda: torch_sort(probabilities),
                same_dice,
                note="float32 sums",
                targets=both,
            ),
            *_rankseg_peers(
                probabilities,
                "checks its input; returns the mask, not t*",
                {64: 250.0, 128: 250.0},
                {64: 15.0, 128: 15.0},
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


def _rankseg_peers(
    probabilities: Tensor,
    note: str,
    targets: Mapping[int, float],
    auto_targets: Mapping[int, float],
) -> tuple[Peer, ...]:
    """Return RankSEG's default solver, and the same without the full sort."""
    note = f"maximises 2A/(S+τ+1); {note}"
    check = nearly_best(probabilities)
    return (
        Peer(
            "RankSEG RMA",
            "metric dice, multilabel, pruning_prob ½: the defaults",
            lambda: rankseg(probabilities),
            check,
            note=note,
            targets=targets,
        ),
        Peer(
            "RankSEG RMA, auto",
            'the same with safe_screening="auto"',
            lambda: rankseg(probabilities, safe_screening="auto"),
            check,
            note=note,
            targets=auto_targets,
        ),
    )


def listing_3(probabilities: Tensor, *, tuned: bool = False) -> Call:
    maps = probabilities.reshape(-1, probabilities.shape[-1] ** 3).numpy()
    ready = np.arange(1, maps.shape[1] + 1, dtype=np.float32)

    def call() -> Any:
        results = []
        for values in maps:
            descending = np.sort(values)[::-1]
            inside = np.cumsum(descending)
            counts = ready if tuned else np.arange(1, len(values) + 1)
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
        best = dice_threshold(torch.from_numpy(maps), spatial_dims=1).dice.numpy()
        worst = float((best - dice).max())
        if not -1e-6 <= worst <= 1e-3:
            raise DifferenceError(f"its mask's Dice is {worst:.2g} below sup D")
        return f"its mask's Dice is {max(worst, 0.0):.0e} below sup D"

    return check
