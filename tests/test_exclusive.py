"""Labels of exclusive classes: never below argmax nor a peer, and near the best of all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import marginseg.exclusive
from marginseg import (
    GaussianFieldNoise,
    dice,
    dice_threshold,
    optimal_labels,
    optimal_segmentation,
)


def softmax_maps(seed, cases, channels, spatial):
    """Return maps of smooth random logits; some classes are rare."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, random.uniform(0.3, 4), (cases, channels, *spatial))
    logits += random.normal(0, 2, (1, channels, *[1] * len(spatial)))
    return torch.softmax(torch.from_numpy(logits), 1)


def mean_dice(labels, maps, background=0):
    """Return the mean over the foreground's classes, of each case, in float64."""
    foreground = [c for c in range(maps.shape[1]) if c != background]
    first = 1 if background is None else 0
    each = [
        dice(labels == c + first, maps[:, c].double(), spatial_dims=maps.ndim - 2)
        for c in foreground
    ]
    return torch.stack(each).mean(0)


@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 9),
    spatial=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    background=st.none() | st.integers(0, 8),
)
def test_it_is_worth_what_it_says_and_never_less_than_argmax(
    device, seed, channels, spatial, background
):
    background = None if background is None else min(background, channels)
    maps = softmax_maps(seed, 2, channels + (background is not None), spatial)
    found = optimal_labels(maps.to(device), background=background, spatial_dims=len(spatial))
    value = mean_dice(found.labels.cpu(), maps, background)
    assert found.labels.shape == (2, *spatial)
    torch.testing.assert_close(found.value.cpu(), value, rtol=0, atol=1e-9)
    assert (found.value <= found.bound + 1e-12).all()
    argmax = maps.argmax(1)
    if background is None:
        argmax = torch.where(maps.max(1).values > 0.5, argmax + 1, 0)
    assert (value >= mean_dice(argmax, maps, background) - 1e-12).all()


def mean_fbeta(labels, maps, beta, background=0):
    """Return the mean of F_beta, from precision and recall, over the foreground's classes."""
    each = []
    for c in range(maps.shape[1]):
        if c != background:
            chosen = (labels == c + (background is None)).double().flatten(1)
            mass = maps[:, c].double().flatten(1)
            hit = (chosen * mass).sum(1)
            precision, recall = hit / chosen.sum(1), hit / mass.sum(1)
            score = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
            each.append(score.nan_to_num(0.0))
    return torch.stack(each).mean(0)


BETAS = (0.4, 3.0)


@pytest.mark.parametrize("beta", BETAS)
def test_f_beta_is_worth_what_it_says_and_never_less_than_other_labels(device, beta):
    for seed in range(5):
        background = None if seed % 3 == 0 else seed % 2
        maps = softmax_maps(seed, 2, 4, (11, 9))
        options = {"background": background, "spatial_dims": 2}
        found = optimal_labels(maps.to(device), metric="fbeta", beta=beta, **options)
        value = mean_fbeta(found.labels.cpu(), maps, beta, background)
        torch.testing.assert_close(found.value.cpu(), value, rtol=0, atol=1e-9)
        assert (found.value <= found.bound + 1e-12).all()
        channels = [c for c in range(4) if c != background]
        own = dice_threshold(maps[:, channels], spatial_dims=2, beta=beta).dice.mean(1)
        torch.testing.assert_close(found.bound.cpu(), own.cpu(), rtol=0, atol=1e-12)
        argmax = maps.argmax(1)
        if background is None:
            argmax = torch.where(maps.max(1).values > 0.5, argmax + 1, 0)
        assert (value >= mean_fbeta(argmax, maps, beta, background) - 1e-12).all()
        plain = optimal_labels(maps.to(device), **options).labels.cpu()
        assert (value >= mean_fbeta(plain, maps, beta, background) - 2e-3).all()


def test_f_1_is_dice(device):
    maps = softmax_maps(4, 2, 5, (9, 10)).to(device)
    plain = optimal_labels(maps, spatial_dims=2)
    for part, other in zip(
        plain, optimal_labels(maps, metric="fbeta", beta=1.0, spatial_dims=2), strict=True
    ):
        assert torch.equal(part, other)


@pytest.mark.parametrize("beta", BETAS)
def test_f_beta_is_near_the_best_of_all_assignments(beta):
    every = torch.tensor(list(itertools.product(range(3), repeat=5)))
    short = []
    for seed in range(40):
        maps = softmax_maps(seed, 1, 3, (5,))
        best = mean_fbeta(every, maps.expand(len(every), -1, -1), beta).max()
        found = optimal_labels(maps, metric="fbeta", beta=beta, spatial_dims=1)
        assert found.value <= best + 1e-12 <= found.bound + 2e-12
        short.append(float(best - found.value))
    assert np.mean(short) < 0.01
    assert np.median(short) < 1e-12


def test_it_is_never_below_the_peer():
    """RankSEG cuts the classes one after the other, and gives what they share to one of them."""
    rankseg = pytest.importorskip("rankseg")
    peer = rankseg.RankSEG(metric="dice", output_mode="multiclass", solver="RMA", pruning_prob=0.0)
    gains = []
    for seed in range(300):
        random = np.random.default_rng(1000 + seed)
        maps = softmax_maps(seed, 1, int(random.integers(2, 9)), random.integers(4, 40, 2).tolist())
        found = optimal_labels(maps, spatial_dims=2)
        gains.append(float(found.value) - float(mean_dice(peer.predict(maps), maps)))
    assert min(gains) >= -1e-12
    assert np.mean(gains) > 1e-3


def test_it_is_near_the_best_of_all_assignments():
    """Of 5 voxels and 3 classes there are 3^5 assignments, of which the best is known."""
    short = []
    for seed in range(100):
        maps = softmax_maps(seed, 1, 3, (5,))
        every = torch.tensor(list(itertools.product(range(3), repeat=5)))
        best = mean_dice(every, maps.expand(len(every), -1, -1)).max()
        found = optimal_labels(maps, spatial_dims=1)
        assert found.value <= best + 1e-12 <= found.bound + 2e-12
        short.append(float(best - found.value))
    # A voxel is a fifth of everything here: gains of first order are at their worst.
    assert np.mean(short) < 0.01
    assert np.median(short) < 1e-12


def test_marginals_of_organs_that_touch(device):
    """Two halves of a ball under strong noise: argmax loses what neither of them is sure of."""
    grid = np.indices((20, 22, 24)) - np.reshape((9.5, 10.5, 11.5), (3, 1, 1, 1))
    ball = (grid**2).sum(0) < 25
    label = torch.from_numpy(np.where(ball, 1 + (grid[0] > 0), 0).astype(np.uint8))
    marginals = GaussianFieldNoise(0.1).marginals(label.to(device), classes=[0, 1, 2])
    maps = (marginals / marginals.sum(0).clamp_min(1))[None].cpu()
    found = optimal_labels(maps.to(device), spatial_dims=3)
    plain = mean_dice(maps.argmax(1), maps)
    assert found.value > plain + 0.03
    assert found.bound - found.value < 0.02


def test_one_class_is_cut_at_its_threshold(device):
    maps = softmax_maps(3, 4, 2, (9, 8))[:, :1].to(device)
    found = optimal_labels(maps, background=None, spatial_dims=2)
    assert torch.equal(found.labels == 1, optimal_segmentation(maps[:, 0], spatial_dims=2))
    torch.testing.assert_close(found.value, found.bound, rtol=0, atol=1e-9)


def test_channels_in_another_order_are_the_same_classes(device):
    maps = softmax_maps(5, 2, 4, (12, 11)).to(device)
    found = optimal_labels(maps, spatial_dims=2)
    order = [2, 0, 3, 1]
    turned = optimal_labels(maps[:, order], background=1, spatial_dims=2)
    assert torch.equal(torch.tensor(order, device=device)[turned.labels.long()], found.labels)
    torch.testing.assert_close(turned.value, found.value, rtol=0, atol=1e-12)


def test_cases_do_not_change_each_other(device):
    maps = softmax_maps(6, 4, 5, (10, 9)).float().to(device)
    together = optimal_labels(maps.unflatten(0, (2, 2)), spatial_dims=2)
    assert together.labels.shape == (2, 2, 10, 9)
    for index in range(4):
        alone = optimal_labels(maps[index])
        for part, whole in zip(alone, together, strict=True):
            assert torch.equal(whole.flatten(0, 1)[index], part)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype(device, dtype):
    maps = softmax_maps(7, 1, 6, (16, 16)).to(dtype).to(device)
    found = optimal_labels(maps, spatial_dims=2)
    value = mean_dice(found.labels.cpu(), maps.cpu())
    torch.testing.assert_close(found.value.cpu(), value, rtol=0, atol=1e-9)


def test_a_class_without_mass_is_given_nothing(device):
    maps = torch.tensor([[0.2, 0.9, 0.4], [0.8, 0.1, 0.6], [0.0, 0.0, 0.0]], device=device)
    found = optimal_labels(maps)
    assert found.labels.tolist() == [1, 0, 1]
    nothing = optimal_labels(torch.zeros(3, 4, 4, device=device))
    assert nothing.labels.count_nonzero() == 0
    assert (float(nothing.value), float(nothing.bound)) == (1.0, 1.0)


@pytest.mark.parametrize("background", [0, None])
@pytest.mark.parametrize("probability", [1e-13, 1e-20, 1e-38])
@pytest.mark.parametrize("share", [marginseg.exclusive.MANY, -1.0])
def test_a_class_with_hardly_any_mass_is_worth_nothing(
    device, background, probability, share, monkeypatch
):
    """Below the units in which masses are counted it is no class without mass, which is worth 1.

    Whether voxels are left out, for which nobody asks then, or all are looked at.
    """
    monkeypatch.setattr(marginseg.exclusive, "MANY", share)
    maps = torch.zeros(3, 64, 256)
    maps[1, :20, :20] = 0.9
    maps[0] = 1 - maps[1]
    maps[2] = probability
    maps = maps[0 if background == 0 else 1 :]
    found = optimal_labels(maps.to(device), background=background)
    assert not (found.labels.cpu() == 2).any()
    assert found.value <= found.bound
    value = mean_dice(found.labels.cpu()[None], maps[None], background)
    torch.testing.assert_close(found.value.cpu(), value[0], rtol=0, atol=1e-15)
    for part, other in zip(
        found, optimal_labels(maps.double().to(device), background=background), strict=True
    ):
        assert torch.equal(part, other)


def test_a_class_with_hardly_any_mass_does_not_make_all_voxels_matter():
    maps = torch.zeros(1, 3, 1000)
    maps[0, 1, :50] = 0.9
    maps[0, 2] = 1e-9
    maps[0, 0] = 1 - maps[0, 1]
    near = marginseg.exclusive._Climber(maps, 0, 1.0).near
    assert near is not None
    assert near[0].tolist() == list(range(50))


@pytest.mark.parametrize("beta", [1e5, 1e9])
def test_no_value_is_above_its_bound_where_masses_are_cut_down(device, beta):
    """Recall alone counts, and of a class of which only few voxels have a unit each."""
    maps = torch.zeros(2, 1 << 14, dtype=torch.float64)
    maps[1] = 3e-15  # a unit is 2^-47
    maps[1, :100] = 8e-15
    maps[1, 100:200] = 1e-3
    maps[1, :300:2] = 0.0
    maps[0] = 1 - maps[1]
    found = optimal_labels(maps.to(device), metric="fbeta", beta=beta)
    assert found.value <= found.bound


def test_a_softmax_without_a_background_is_never_below_its_argmax(device):
    """Where no class has half, an argmax may give the largest one all the same."""
    logits = np.random.default_rng(0).normal(0, 0.08, (50, 3, 38))  # nowhere is any class sure
    maps = torch.softmax(torch.from_numpy(logits), 1)
    found = optimal_labels(maps.to(device), background=None, spatial_dims=1)
    value = mean_dice(found.labels.cpu(), maps, None)
    assert (value >= mean_dice(maps.argmax(1) + 1, maps, None) - 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_no_voxel_that_may_gain_is_left_out(dtype):
    """The bound of what is left out is rounded in the map's dtype, and must not be rounded up."""
    looked_at = 0
    for seed in range(30):
        random = torch.Generator().manual_seed(seed)
        maps = torch.zeros(1, 3, 4000, dtype=torch.float64)
        maps[0, 1, :200] = 0.3 * torch.rand(200, generator=random, dtype=torch.float64)
        maps[0, 2, 200:240] = torch.rand(40, generator=random, dtype=torch.float64)
        maps[0, 0] = 1 - maps[0, 1] - maps[0, 2]
        climber = marginseg.exclusive._Climber(maps.to(dtype), 0, 1.0)
        value = climber.own.value.clone()
        value[:, 1:] = climber.least * (1 + 2e-5)
        state = marginseg.exclusive._State(value, climber.own.volume)
        looked_at += climber.near is not None and climber._suffices(state)
        few, of_few = climber._moved(state)
        climber.near = None
        every, of_all = climber._moved(state)
        assert torch.equal(few, every)
        assert torch.equal(of_few.value, of_all.value)
    assert looked_at == 30


@pytest.mark.parametrize("shape", [(2, 3, 0, 4), (0, 3, 5, 4), (3, 0, 4)])
def test_no_voxels_and_no_cases(device, shape):
    found = optimal_labels(torch.zeros(shape, device=device), spatial_dims=2)
    assert found.labels.shape == (*shape[:-3], *shape[-2:])
    assert found.value.shape == found.bound.shape == shape[:-3]
    assert (found.value == 1.0).all()


def test_a_second_climb_ends_higher_on_some_maps(monkeypatch):
    """The classes' own cuts are not always the best beginning."""
    maps = torch.cat([softmax_maps(seed, 1, 8, (6, 6)) for seed in range(200)])
    twice = optimal_labels(maps, spatial_dims=2).value
    monkeypatch.setattr(marginseg.exclusive, "SMALL_GAP", 2.0)
    once = optimal_labels(maps, spatial_dims=2).value
    assert (once <= twice).all()
    assert (once < twice - 1e-6).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probabilities": [0.5]}, "probabilities: expected a torch.Tensor or a NumPy array"),
        ({"probabilities": torch.ones(2, 3, dtype=torch.int64)}, "probabilities: expected a float"),
        ({"probabilities": torch.ones(3)}, "probabilities: expected an axis of channels before"),
        ({"spatial_dims": 0}, "spatial_dims: expected 1 to 1"),
        ({"spatial_dims": 2}, "spatial_dims: expected 1 to 1"),
        ({"background": 2}, "background: expected 0 to 1, got 2"),
        ({"background": -1}, "background: expected 0 to 1, got -1"),
        ({"probabilities": torch.ones(1, 3)}, "probabilities: expected 2 to 32767 channels, got 1"),
        ({"metric": "iou"}, "metric: expected one of dice, fbeta, got 'iou'"),
        ({"beta": 2.0}, "beta: expected None with metric dice, got 2.0"),
        ({"metric": "fbeta"}, "beta: expected a number with metric fbeta, got None"),
        ({"metric": "fbeta", "beta": 0}, "beta: expected 1e-09 to"),
        ({"probabilities": torch.full((2, 3), 1.5)}, "probabilities: expected values within"),
        ({"probabilities": torch.full((2, 3), torch.nan)}, "probabilities: expected values within"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    given_arguments = {"probabilities": torch.full((2, 3), 0.5), **arguments}
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        optimal_labels(**given_arguments)


def test_vmap_is_refused_in_favour_of_leading_axes():
    maps = torch.softmax(torch.randn(2, 3, 40), 1)
    message = "^optimal_labels: expected a batch as leading axes, with spatial_dims, got one of"
    with pytest.raises(NotImplementedError, match=message):
        torch.vmap(lambda m: optimal_labels(m).value)(maps)


def _mostly_background(seed: int) -> torch.Tensor:
    """Three small organs in a wide field, as a softmax."""
    random = np.random.default_rng(seed)
    logits = np.zeros((4, 24, 24, 24))
    grid = np.indices(logits.shape[1:])
    for channel in (1, 2, 3):
        centre = random.uniform(6, 18, (3, 1, 1, 1))
        distance = np.sqrt(((grid - centre) ** 2).sum(0))
        logits[channel] = random.uniform(0.5, 2) * (random.uniform(2, 4) - distance)
    logits += random.normal(0, 0.5, logits.shape)
    p = np.exp(logits - logits.max(0))
    return torch.from_numpy((p / p.sum(0)).astype(np.float32))


def test_what_is_left_out_of_the_background_changes_nothing(device, in_emulation, monkeypatch):
    """To the bit, with a tenth of the voxels looked at or with all, alone or in a batch."""
    seeds = range(2 if in_emulation else 6)  # where one thread runs at a time each takes seconds
    maps = torch.stack([_mostly_background(seed) for seed in seeds]).to(device)
    sizes = []
    assign = marginseg.exclusive.assign_labels

    def counted(values, *arguments, **options):
        sizes.append(values.shape[-1])
        return assign(values, *arguments, **options)

    monkeypatch.setattr(marginseg.exclusive, "assign_labels", counted)
    alone = [optimal_labels(m, spatial_dims=3) for m in maps]
    assert min(sizes) < max(sizes) / 4
    batch = optimal_labels(maps, spatial_dims=3)
    monkeypatch.setattr(marginseg.exclusive, "SHARE", 0.0)
    sizes.clear()
    everything = [optimal_labels(m, spatial_dims=3) for m in maps]
    assert min(sizes) == max(sizes)
    for place, (few, all_voxels) in enumerate(zip(alone, everything, strict=True)):
        for found, beside, expected in zip(few, batch, all_voxels, strict=True):
            assert torch.equal(found, expected)
            assert torch.equal(beside[place], expected)
