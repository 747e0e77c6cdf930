"""Label noise as MONAI's random transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from marginseg import GaussianFieldNoise

pytest.importorskip("monai")

from monai.data import MetaTensor
from monai.transforms import Orientationd

from marginseg.integrations.monai import RandLabelNoise, RandLabelNoised

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::UserWarning:monai")

#: The columns of the affine are 2, 1 and 1.5 mm long; it is turned, too.
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * [2.0, 1.0, 1.5]
AFFINE[:3, 3] = [5.0, -7.0, 11.0]


@pytest.fixture(autouse=True)
def seed():
    """Draw the same maps each time."""
    torch.manual_seed(0)


def square(*shape):
    label = torch.zeros(1, *shape)
    label[(slice(None), *(slice(size // 4, 3 * size // 4) for size in shape))] = 1
    return label


def mean_of_draws(transform, label, draws):
    return torch.stack([transform(label).as_tensor() for _ in range(draws)]).mean(0)


def assert_near_marginals(mean, marginals, draws):
    bound = 5 * (marginals * (1 - marginals) / draws).sqrt() + 5 / draws
    assert ((mean - marginals).abs() <= bound).all()


@pytest.mark.parametrize("units", ["mm", "voxel", "extent"])
def test_the_mean_of_the_noise_is_the_marginals_of_the_model(units):
    """In millimetres too: the affine's columns, turned as they are, say the spacing."""
    std = {"mm": 3.0, "voxel": (1.5, 3.0), "extent": (1.5 / 16, 3.0 / 24)}[units]
    length_scale = {"mm": 12.0, "voxel": (6.0, 12.0), "extent": None}[units]
    label = MetaTensor(square(16, 24), affine=torch.from_numpy(AFFINE))
    transform = RandLabelNoise(std, length_scale, units, prob=1.0).set_random_state(3)
    mean = mean_of_draws(transform, label, 800)
    expected = GaussianFieldNoise((1.5, 3.0), units="voxel").marginals(label.as_tensor()[0])
    assert_near_marginals(mean[0], expected, 800)


def test_the_mean_with_a_drawn_std_is_that_of_all_stds():
    label = square(24, 24)
    transform = RandLabelNoise(3.0, 8.0, "voxel", prob=1.0, sample_std=True).set_random_state(0)
    mean = mean_of_draws(transform, label, 800)
    stds = 3.0 * (np.arange(40) + 0.5) / 40
    models = [GaussianFieldNoise(float(std), units="voxel") for std in stds]
    expected = torch.stack([model.marginals(label[0]) for model in models]).mean(0)
    assert_near_marginals(mean[0], expected, 800)


def test_a_spacing_that_is_given_is_the_one_that_counts():
    label = square(16, 24)
    noisy = [
        RandLabelNoise(3.0, 12.0, "mm", prob=1.0, spacing=(2.0, 1.0)).set_random_state(3)(label),
        RandLabelNoise((1.5, 3.0), (6.0, 12.0), "voxel", prob=1.0).set_random_state(3)(label),
    ]
    assert torch.equal(*noisy)
    assert not torch.equal(noisy[0], label)


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.int8, torch.uint8, torch.int64, torch.bool],
)
def test_a_label_is_given_back_as_it_came(dtype):
    label = MetaTensor(square(12, 14, 10).to(dtype), affine=torch.from_numpy(AFFINE))
    label.meta["filename_or_obj"] = "a.nii.gz"
    before = label.clone()
    noisy = RandLabelNoise(0.1, prob=1.0).set_random_state(1)(label)
    assert type(noisy) is MetaTensor
    assert noisy.dtype == dtype
    assert noisy.meta["filename_or_obj"] == "a.nii.gz"
    assert torch.equal(noisy.affine, label.affine)
    assert noisy.applied_operations == []
    assert set(noisy.unique().tolist()) == {0, 1}
    assert not torch.equal(noisy.as_tensor(), before.as_tensor())
    assert torch.equal(label.as_tensor(), before.as_tensor())


def test_one_field_deforms_all_channels_and_keys():
    """Every voxel has a value of its own, so that where each comes from is seen."""
    own = torch.arange(1, 12 * 14 * 10 + 1, dtype=torch.int32).reshape(1, 12, 14, 10)
    channels = torch.cat([own, own % 5]).to(torch.float32)
    turned = (own % 7).to(torch.uint8).permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    transform = RandLabelNoised(("a", "b", "c"), 0.1, prob=1.0).set_random_state(2)
    noisy = transform({"a": own, "b": channels, "c": turned.numpy(), "image": own})
    assert not torch.equal(noisy["a"], own)
    assert torch.equal(noisy["b"][0], noisy["a"][0].float())
    assert torch.equal(noisy["b"][1], noisy["a"][0].float() % 5)
    assert torch.equal(noisy["c"], (noisy["a"] % 7).to(torch.uint8))
    assert noisy["image"] is own
    assert not torch.equal(transform({"a": own, "b": own, "c": own})["a"], noisy["a"])


def test_a_field_can_be_kept_for_another_label():
    own = torch.arange(1, 257).reshape(1, 16, 16)
    transform = RandLabelNoise(0.1, prob=1.0).set_random_state(5)
    first, again, new = transform(own), transform(own % 3, randomize=False), transform(own)
    assert torch.equal(first % 3, again)
    assert not torch.equal(first, new)


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_noise_comes_with_its_probability(prob):
    label = square(16, 16)
    transform = RandLabelNoise(0.1, prob=prob).set_random_state(0)
    of_items = RandLabelNoised("label", 0.1, prob=prob).set_random_state(1)
    for draw in (lambda: transform(label), lambda: of_items({"label": label})["label"]):
        noisy = [not torch.equal(draw(), label) for _ in range(300)]
        assert abs(np.mean(noisy) - prob) <= 4 * np.sqrt(prob * (1 - prob) / 300)


def test_a_missing_key_is_missed_unless_it_may_be():
    label = square(16, 16)
    with pytest.raises(KeyError, match="other"):
        RandLabelNoised(("label", "other"), 0.1, prob=1.0)({"label": label})
    lenient = RandLabelNoised(("label", "other"), 0.1, prob=1.0, allow_missing_keys=True)
    assert set(lenient({"label": label})) == {"label"}
    assert lenient({"image": label})["image"] is label


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": -1}, "^std"),
        ({"std": 1, "units": "mm"}, "^length_scale"),
        ({"std": 1, "length_scale": 0, "units": "mm"}, "^length_scale"),
        ({"std": (1, 2, 3), "length_scale": (1, 2), "units": "mm"}, "^length_scale"),
        ({"std": 1, "units": "metres"}, "^units"),
        ({"std": 1, "interpolation": "cubic"}, "^interpolation"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandLabelNoise(**arguments)


@pytest.mark.parametrize(
    ("label", "arguments", "message"),
    [
        (square(8, 8) / 2, {}, "^label: expected whole numbers"),
        (square(8, 8) * torch.nan, {}, "^label: expected whole numbers"),
        (square(8, 8) * torch.inf, {}, "^label: expected whole numbers"),
        (torch.ones(8), {}, "^label: .* got shape"),
        (torch.ones(1, 1, 8, 8, 8), {}, "^label: .* got shape"),
        (square(8, 8), {"units": "mm", "length_scale": 3}, "^spacing"),
        (square(8, 8, 8), {"std": (0.1, 0.1)}, "^std"),
    ],
)
def test_what_is_no_label_is_refused(label, arguments, message):
    with pytest.raises(ValueError, match=message):
        RandLabelNoise(**{"std": 0.1, "prob": 1.0, **arguments})(label)


def test_labels_that_lie_differently_have_no_field_in_common():
    """Stored the other way round, the same organ would be deformed otherwise."""
    label = torch.zeros(1, 20, 18, 16)
    label[:, 3:12, 5:13, 4:12] = 1
    turned = AFFINE.copy()
    turned[:3, 0], turned[:3, 3] = -AFFINE[:3, 0], AFFINE[:3, 3] + 19 * AFFINE[:3, 0]
    item = {
        "a": MetaTensor(label, affine=torch.from_numpy(AFFINE)),
        "b": MetaTensor(label.flip(1), affine=torch.from_numpy(turned)),
        "c": label.flip(1),  # without an affine nobody knows
    }
    noise = RandLabelNoised(("a", "b", "c"), 2.0, 8.0, "voxel", prob=1.0)
    with pytest.raises(ValueError, match="^label: expected axes of one .* put Orientationd"):
        noise(item)
    noise.prob = 0.0
    with pytest.raises(ValueError, match="^label: expected axes"):
        noise(item)
    noise.prob = 1.0
    noisy = noise(Orientationd(("a", "b"), "RAS")(item))
    assert torch.equal(noisy["a"].as_tensor(), noisy["b"].as_tensor())
    # What only rounding has turned fits; so does what begins elsewhere.
    close = item["a"].affine.clone()
    close[:3, :3] += 1e-5
    close[:3, 3] += 40
    noise({"a": item["a"], "b": MetaTensor(label, affine=close), "c": label})


def test_labels_of_different_shapes_have_no_field_in_common():
    with pytest.raises(ValueError, match="^label: expected one shape"):
        RandLabelNoised(("a", "b"), 0.1, prob=1.0)({"a": square(8, 8), "b": square(8, 9)})


def test_planes_of_volumes_stay_in_their_plane():
    """Along an axis of one voxel all that moved would leave the image."""
    plane = square(64, 64)
    volumes = {}
    for name, label in {"plane": plane, "first": plane[:, None], "last": plane[..., None]}.items():
        noise = RandLabelNoise(2.0, 15.0, "voxel", prob=1.0).set_random_state(0)
        volumes[name] = np.array([float(noise(label).sum()) for _ in range(30)])
    for drawn in volumes.values():
        # Nothing reaches the image's border, so E|L| = |l| (Theorem 2).
        assert abs(drawn.mean() - 32 * 32) < 5 * drawn.std() / np.sqrt(30)
    assert volumes["last"].std() < 3 * volumes["plane"].std()


def test_what_comes_from_outside_a_patch_is_what_was_there():
    """A patch within an organ stays so; of a whole image noise would take from its faces."""
    inside = torch.full((2, 16, 16), 5.0)
    inside[1, :, 8:] = 2
    patch = RandLabelNoise(2.0, 8.0, "voxel", prob=1.0, patch=True).set_random_state(0)
    whole = RandLabelNoise(2.0, 8.0, "voxel", prob=1.0).set_random_state(0)
    for _ in range(10):
        found, other = patch(inside), whole(inside)
        assert found.dtype == inside.dtype
        # By the definition: where the same field brings 0 from outside, the label is kept.
        assert torch.equal(found.as_tensor(), torch.where(other > 0, other, inside).as_tensor())
        assert (other == 0).any()
        assert (found[1] != inside[1]).any()
