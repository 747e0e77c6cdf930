"""The cut at t*, against RankSEG's solver for IoU.

It picks the τ largest probabilities that maximise the ratio of the expected intersection to the
expected union. A set that is best for IoU = D / (2 - D) is best for Dice, so that unpruned it is
the oracle of `optimal_segmentation`, found by a full sort.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marginseg import dice, optimal_segmentation

rankseg = pytest.importorskip("rankseg")


def oracle(maps, metric="IoU"):
    solver = rankseg.RankSEG(
        metric=metric, output_mode="multilabel", solver="RMA", pruning_prob=0.0
    )
    return solver.predict(maps)


def random_maps(seed, shape, power, dtype):
    """Maps whose values are low (a large power) or high, and differ."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).pow(power).to(dtype)


@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 3),
    classes=st.integers(1, 3),
    spatial=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    power=st.sampled_from([0.1, 0.5, 1.0, 3.0, 20.0, 300.0]),
)
def test_the_segmentation_is_the_same(device, seed, batch, classes, spatial, power):
    maps = random_maps(seed, (batch, classes, *spatial), power, torch.float64)
    ours = optimal_segmentation(maps.to(device), spatial_dims=len(spatial))
    assert torch.equal(ours.cpu(), oracle(maps))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("power", [0.2, 1.0, 8.0, 64.0])
def test_no_other_segmentation_is_expected_to_be_better(device, dtype, power):
    """Equal values are many in few bits: sets may differ then, but not in what they expect."""
    maps = random_maps(7, (4, 2, 12, 14, 16), power, dtype)
    ours = dice(optimal_segmentation(maps.to(device), spatial_dims=3).cpu(), maps, spatial_dims=3)
    for metric in ("IoU", "dice"):
        other = dice(oracle(maps, metric), maps, spatial_dims=3)
        assert (ours >= other - 1e-12).all()
        # That for Dice has one voxel more in its denominator.
        assert (ours - other).max() < (1e-6 if metric == "IoU" else 1e-3)
