"""The losses, and what (11)-(16) say of their minimisers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from marginseg import (
    CrossEntropy,
    SoftDice,
    accuracy,
    cross_entropy,
    dice,
    dice_threshold,
    optimal_segmentation,
    soft_dice,
)

MAPS = [torch.rand(10, generator=torch.Generator().manual_seed(k)).double() ** 2 for k in range(3)]


def _subsets(voxels):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=voxels)), dtype=torch.float64)


def _minimised(loss, m, steps=800):
    """The soft prediction that gradient descent on logits ends at."""
    logits = torch.zeros_like(m, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(logits, m).backward()
        optimizer.step()
    return torch.sigmoid(logits.detach())


def test_values_against_the_definitions():
    rng = np.random.default_rng(0)
    c, m = rng.uniform(0.01, 0.99, (2, 3, 4, 5)), rng.uniform(size=(2, 3, 4, 5))
    logits = torch.from_numpy(np.log(c / (1 - c)))
    expected = -(m * np.log(c) + (1 - m) * np.log(1 - c)).mean()
    assert float(cross_entropy(logits, torch.from_numpy(m))) == pytest.approx(expected, rel=1e-12)
    both = torch.from_numpy(c), torch.from_numpy(m)
    assert float(cross_entropy(*both, logits=False)) == pytest.approx(expected, rel=1e-12)
    assert float(CrossEntropy(logits=False)(*both)) == pytest.approx(expected, rel=1e-12)
    per_map = 1 - 2 * (c * m).sum((2, 3)) / (c.sum((2, 3)) + m.sum((2, 3)))
    np.testing.assert_allclose(
        soft_dice(logits, torch.from_numpy(m), reduction="none").numpy(), per_map, rtol=1e-12
    )
    assert float(SoftDice()(logits, both[1])) == pytest.approx(per_map.mean(), rel=1e-12)
    everything = 1 - 2 * (c * m).sum() / (c.sum() + m.sum())
    assert float(soft_dice(*both, logits=False, spatial_dims=4)) == pytest.approx(everything)


@pytest.mark.parametrize("m", MAPS)
def test_cross_entropy_is_minimised_by_the_marginals(m):
    found = _minimised(cross_entropy, m)
    torch.testing.assert_close(found, m, atol=1e-3, rtol=0)
    assert cross_entropy(m, m, logits=False) <= cross_entropy(found, m, logits=False)


@pytest.mark.parametrize("m", MAPS)
def test_thresholded_marginals_are_the_optima_among_all_segmentations(m):
    subsets = _subsets(len(m))
    every = m.expand(subsets.shape)
    by_accuracy = subsets[int(accuracy(subsets, every, spatial_dims=1).argmax())]
    by_dice = subsets[int(dice(subsets, every, spatial_dims=1).argmax())]
    assert torch.equal(optimal_segmentation(m, "accuracy"), by_accuracy.bool())
    assert torch.equal(optimal_segmentation(m, "dice"), by_dice.bool())
    # {m >= 1/2} lies within {m >= t*}: the Dice-optimal volume is never the smaller one.
    assert bool((by_dice >= by_accuracy).all())


@pytest.mark.parametrize("m", MAPS)
def test_soft_dice_is_minimised_by_the_dice_optimal_segmentation(m):
    best = dice_threshold(m, spatial_dims=1)
    segmentation = optimal_segmentation(m).double()
    least = float(soft_dice(segmentation, m, logits=False))
    assert least == pytest.approx(1 - float(best.dice), rel=1e-12)
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand((20_000, len(m)), generator=generator, dtype=torch.float64)
    soft = torch.cat([soft, soft**4, 1 - soft**4])
    losses = soft_dice(soft, m.expand(soft.shape), logits=False, spatial_dims=1, reduction="none")
    assert float(losses.min()) > least
    # Descent goes to a segmentation, and cut at 1/2 it is that one; cross-entropy's needs t*.
    descended = _minimised(soft_dice, m)
    away = (m - float(best.threshold)).abs() > 0.02
    assert torch.equal(descended[away] >= 0.5, segmentation[away].bool())
    assert float(soft_dice(m, m, logits=False)) > least


def test_derivatives():
    m = torch.rand(2, 1, 3, 4, dtype=torch.float64)
    logits = torch.randn(2, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    for loss in (cross_entropy, soft_dice):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, m), logits)
        assert torch.autograd.gradgradcheck(lambda x, loss=loss: loss(x, m), logits)


def test_both_empty_has_loss_and_gradient_zero():
    c = torch.zeros(1, 1, 4, requires_grad=True)
    loss = soft_dice(c, torch.zeros(1, 1, 4), logits=False)
    loss.backward()
    assert loss == 0
    assert torch.isfinite(c.grad).all()


def test_extreme_logits_stay_finite():
    logits = torch.tensor([1e4, -1e4], requires_grad=True)
    for loss in (cross_entropy, soft_dice):
        value = loss(logits, torch.tensor([0.0, 1.0]))
        value.backward()
        assert math.isfinite(value.detach())
        assert torch.isfinite(logits.grad).all()


def test_half_types_and_labels_are_computed_in_float32():
    logits = torch.randn(1, 1, 64).bfloat16()
    label = torch.rand(1, 1, 64) > 0.5
    with torch.autocast("cpu", torch.bfloat16):
        for loss in (cross_entropy, soft_dice):
            value = loss(logits, label)
            assert value.dtype is torch.float32
            assert value == loss(logits.float(), label.float())
            assert loss(torch.sigmoid(logits), label, logits=False).dtype is torch.float32


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_bad_arguments_are_named(loss):
    with pytest.raises(ValueError, match="^marginal"):
        loss(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="^reduction"):
        loss(torch.zeros(2), torch.zeros(2), reduction="sum")
    with pytest.raises(TypeError, match="^prediction"):
        loss(torch.zeros(2, dtype=torch.int64), torch.zeros(2))
    for wrong in (0, 3):
        with pytest.raises(ValueError, match=f"^spatial_dims: expected 1 to 1, got {wrong}"):
            soft_dice(torch.zeros(2), torch.zeros(2), spatial_dims=wrong)
    alone = torch.tensor(0.5)
    assert float(soft_dice(alone, alone, logits=False, spatial_dims=0)) == 0.5


def test_probabilities_that_rounding_put_outside_cost_what_those_inside_do():
    m, beyond = torch.tensor([1.0, 0.0]), torch.tensor([1 + 2.0**-23, -(2.0**-23)])
    assert cross_entropy(beyond, m, logits=False) == cross_entropy(m, m, logits=False) == 0
    half = torch.tensor([1 + 2.0**-9], dtype=torch.float16)
    assert cross_entropy(half, torch.ones(1), logits=False) == 0
    c = torch.tensor([0.25, 0.5], requires_grad=True)
    cross_entropy(c, m, logits=False).backward()
    assert c.grad.tolist() == [-2.0, 1.0]  # -1/c and 1/(1 - c), of the mean


@pytest.mark.parametrize("wrong", [1.01, -0.01, math.nan, math.inf])
def test_what_is_no_probability_is_named(wrong):
    with pytest.raises(ValueError, match="^prediction: expected values within"):
        cross_entropy(torch.tensor([0.5, wrong]), torch.ones(2), logits=False)


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_what_is_no_tensor_is_named(loss):
    with pytest.raises(TypeError, match="^prediction: expected a torch.Tensor, got list"):
        loss([0.5], torch.ones(1))
    with pytest.raises(TypeError, match="^marginal: expected a torch.Tensor, got float"):
        loss(torch.ones(1), 0.5)


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_complex_numbers_are_refused(loss):
    with pytest.raises(TypeError, match="^marginal: expected real numbers, got torch.complex64"):
        loss(torch.ones(1), torch.ones(1, dtype=torch.complex64))
