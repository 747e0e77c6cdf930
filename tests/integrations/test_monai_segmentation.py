"""Dice-optimal cuts as MONAI's transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from marginseg import dice

pytest.importorskip("monai")

from monai.data import MetaTensor, decollate_batch
from monai.transforms import AsDiscrete

from marginseg.integrations.monai import DiceOptimal, DiceOptimald

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::UserWarning:monai")


@pytest.fixture(autouse=True)
def seed():
    """Draw the same maps each time."""
    torch.manual_seed(0)


def best_dice(channel):
    """Return sup D of one map: the largest Dice that any cut expects."""
    return max(float(dice(channel >= t, channel.double())) for t in channel.unique())


def test_each_channel_of_a_sigmoid_is_cut_where_its_dice_is_largest():
    maps = torch.rand(3, 9, 8) ** torch.tensor([1.0, 3.0, 9.0])[:, None, None]
    masks = DiceOptimal(exclusive=False)(maps)
    assert masks.shape == maps.shape
    assert set(masks.unique().tolist()) == {0, 1}
    for mask, channel in zip(masks.bool(), maps, strict=True):
        assert float(dice(mask, channel.double())) == pytest.approx(best_dice(channel), abs=1e-9)


@pytest.mark.parametrize("background", [0, 2, None])
def test_the_labels_of_a_softmax_expect_no_less_dice_than_the_argmax(background):
    maps = torch.softmax(0.7 * torch.randn(4, 9, 8, dtype=torch.float64), 0)
    found = DiceOptimal(exclusive=True, background=background)(maps)
    plain = AsDiscrete(argmax=True)(maps)
    if background is None:
        plain = torch.where(maps.amax(0, keepdim=True) > 0.5, plain + 1, 0)
    assert found.shape == (1, 9, 8)
    classes = [(c, c + (background is None)) for c in range(4) if c != background]
    value, argmax = (
        np.mean([float(dice(labels[0] == value, maps[c])) for c, value in classes])
        for labels in (found, plain)
    )
    assert value > argmax


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_f_beta_is_what_is_largest_where_it_is_asked_for(beta):
    """By the definition, over all cuts; a large beta cuts lower, for then a miss costs more."""
    channel = torch.rand(7, 8, dtype=torch.float64) ** 2

    def f_beta(mask):
        weighted = mask.sum() + beta**2 * channel.sum()
        return float((1 + beta**2) * channel[mask].sum() / weighted)

    best = max(f_beta(channel >= t) for t in channel.unique())
    (mask,) = DiceOptimal(exclusive=False, beta=beta)(channel[None]).bool()
    assert f_beta(mask) == pytest.approx(best, abs=1e-9)
    (labels,) = DiceOptimal(exclusive=True, beta=beta)(torch.stack([1 - channel, channel]))
    assert f_beta(labels == 1) == pytest.approx(best, abs=1e-9)
    dice_mask = DiceOptimal(exclusive=False)(channel[None])
    assert (mask.sum() > dice_mask.sum()) == (beta > 1)


def one_hot_maps():
    labels = torch.randint(0, 4, (1, 7, 6, 5))
    return torch.nn.functional.one_hot(labels[0], 4).movedim(-1, 0).float(), labels


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, np.float32])
def test_sure_maps_are_cut_as_everyone_cuts_them(kind):
    """In shape, dtype, type and meta data it stands in for AsDiscrete."""
    maps, labels = one_hot_maps()
    maps = maps.numpy() if kind is np.float32 else MetaTensor(maps.to(kind), affine=torch.eye(4))
    for mine, theirs in (
        (DiceOptimal(exclusive=True), AsDiscrete(argmax=True)),
        (DiceOptimal(exclusive=True, to_onehot=4), AsDiscrete(argmax=True, to_onehot=4)),
        (DiceOptimal(exclusive=False), AsDiscrete(threshold=0.5)),
    ):
        found, expected = mine(maps), theirs(maps)
        assert torch.equal(found, expected)
        assert (type(found), found.dtype) == (type(expected), expected.dtype)
        assert found.affine.tolist() == expected.affine.tolist()
    assert torch.equal(DiceOptimal(exclusive=True, dtype=torch.uint8)(maps), labels.to(torch.uint8))


def test_a_map_of_one_slice_is_labelled_as_a_plane():
    maps = torch.softmax(torch.randn(4, 1, 9, 8), 0)
    found = DiceOptimal(exclusive=True)(maps)
    assert found.shape == (1, 1, 9, 8)
    assert torch.equal(found[:, 0], DiceOptimal(exclusive=True)(maps[:, 0]))


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_batch_is_refused(exclusive):
    """Its channels would be taken for an axis of space, and each case cut with the next."""
    softmax = torch.softmax(torch.randn(2, 3, 5, 4, 6), 1)
    cut = DiceOptimal(exclusive=exclusive)
    with pytest.raises(ValueError, match=r"^probabilities: expected \(K, \*spatial\).* decollate"):
        cut(softmax)
    assert [cut(case).shape[1:] for case in decollate_batch(softmax)] == [(5, 4, 6)] * 2
    with pytest.raises(ValueError, match=r"^probabilities: expected \(K, \*spatial\)"):
        cut(torch.rand(3))


def test_a_map_that_is_still_learning_is_cut():
    maps = torch.rand(2, 8, 8, requires_grad=True)
    assert not DiceOptimal(exclusive=False)(maps).requires_grad


def test_what_the_classes_are_has_to_be_said():
    with pytest.raises(TypeError, match="^exclusive: expected True for a softmax"):
        DiceOptimal()
    with pytest.raises(ValueError, match="^to_onehot"):
        DiceOptimald("pred", exclusive=False, to_onehot=2)
    with pytest.raises(ValueError, match="^beta"):
        DiceOptimal(exclusive=False, beta=-1.0)(torch.rand(1, 8, 8))
    with pytest.raises(ValueError, match="^probabilities"):
        DiceOptimal(exclusive=True)(10 * torch.randn(3, 8, 8))
    with pytest.raises(TypeError, match="^probabilities"):
        DiceOptimal(exclusive=False)(torch.ones(3, 8, 8, dtype=torch.int32))
    for background, least in ((0, 4), (None, 5)):
        one_hot = DiceOptimal(exclusive=True, background=background, to_onehot=least)
        assert one_hot(torch.rand(4, 8, 8)).shape == (least, 8, 8)
        one_hot.to_onehot = least - 1
        with pytest.raises(ValueError, match=f"^to_onehot: expected at least {least}, got"):
            one_hot(torch.zeros(4, 8, 8))
    with pytest.raises(KeyError, match="pred"):
        DiceOptimald("pred", exclusive=False)({"image": torch.rand(1, 8, 8)})
