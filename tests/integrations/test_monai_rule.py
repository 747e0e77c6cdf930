"""A rule that a validation set has chosen, in the place of what a transform would decide."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from marginseg.classes import Classes
from marginseg.rule import Rule

pytest.importorskip("monai")

from monai.data import MetaTensor

from marginseg.integrations.monai import DiceOptimal, DiceOptimald

REGIONS = Classes.regions({"whole": (1, 2), "core": (2,)}, painted=(1, 2))
MASKS = Classes.regions({"whole": (1, 2), "core": (2,)})


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", ["rule", "path", "text"])
def test_a_rule_or_its_file_says_where_to_cut(tmp_path, kind):
    rule = Rule(MASKS, "fixed", thresholds=(0.25, 0.7))
    path = tmp_path / "rule.json"
    rule.save(path)
    given = {"rule": rule, "path": path, "text": str(path)}[kind]
    maps = MetaTensor(torch.rand(2, 6, 7, 5), affine=torch.diag(torch.tensor([2.0, 1, 1, 1])))
    masks = DiceOptimald("pred", rule=given)({"pred": maps})["pred"]
    bounds = torch.tensor([0.25, 0.7])[:, None, None, None]
    assert torch.equal(masks.as_tensor(), (maps.as_tensor() >= bounds).float())
    assert torch.equal(masks.affine, maps.affine)


def test_masks_of_painted_classes_are_those_of_their_label_map():
    """What is painted as core is of the whole too."""
    rule = Rule(REGIONS, "fixed", thresholds=(0.25, 0.7))
    maps = torch.rand(2, 6, 7, 5)
    whole, core = maps[0] >= 0.25, maps[1] >= 0.7
    assert torch.equal(DiceOptimal(rule=rule)(maps), torch.stack([whole | core, core]).float())


def test_a_rule_of_exclusive_classes_gives_labels():
    """The largest m / t above its threshold; the labels are the classes' own, and one-hot too."""
    rule = Rule(Classes.softmax(["organ", "tumour"]), "fixed", thresholds=(0.5, 0.2))
    maps = torch.tensor([[0.5, 0.1, 0.3, 0.7], [0.3, 0.6, 0.4, 0.2], [0.2, 0.3, 0.3, 0.1]])
    assert DiceOptimal(rule=rule)(maps).tolist() == [[2, 2, 2, 0]]
    hot = DiceOptimal(rule=rule, to_onehot=3)(maps.requires_grad_())
    assert hot.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]]


def test_small_components_are_taken_out_as_the_rule_says():
    rule = Rule(Classes.regions({"lesion": (1,)}), "half", smallest_component=6)
    maps = torch.rand(1, 12, 12, 12)
    mask = DiceOptimal(rule=rule)(maps)[0].bool().numpy()
    components, count = ndimage.label(
        maps[0].numpy() > 0.5, ndimage.generate_binary_structure(3, 3)
    )
    sizes = ndimage.sum_labels(components > 0, components, range(1, count + 1))
    kept = [n + 1 for n, size in enumerate(sizes) if size >= 6]
    assert (mask == torch.isin(torch.from_numpy(components), torch.tensor(kept)).numpy()).all()


def test_a_rule_is_not_contradicted(tmp_path):
    assert not DiceOptimal(exclusive=False, rule=Rule(REGIONS)).exclusive
    with pytest.raises(ValueError, match="^exclusive: expected False, as the rule says, got True"):
        DiceOptimal(exclusive=True, rule=Rule(REGIONS))
    with pytest.raises(ValueError, match="^beta: expected None, as the rule"):
        DiceOptimal(rule=Rule(REGIONS), beta=2.0)
    with pytest.raises(ValueError, match="^to_onehot"):
        DiceOptimal(rule=Rule(REGIONS), to_onehot=2)
    softmax = Rule(Classes.softmax(["organ", "tumour"]))
    assert DiceOptimal(rule=softmax, to_onehot=3)(torch.rand(3, 4, 4)).shape == (3, 4, 4)
    with pytest.raises(ValueError, match="^to_onehot: expected at least 3, got 2"):
        DiceOptimal(rule=softmax, to_onehot=2)
    with pytest.raises(FileNotFoundError, match="none.json"):
        DiceOptimal(rule=tmp_path / "none.json")
