"""MONAI's pipelines with noise and Dice-optimal cuts in them."""

from __future__ import annotations

import itertools
import warnings

import nibabel
import numpy as np
import pytest
import torch

from marginseg import GaussianFieldNoise, dice

pytest.importorskip("monai")

from monai.data import (
    CacheDataset,
    DataLoader,
    Dataset,
    MetaTensor,
    PersistentDataset,
    decollate_batch,
    list_data_collate,
)
from monai.inferers import SlidingWindowInferer
from monai.metrics import DiceMetric
from monai.transforms import (
    AsDiscrete,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    RandFlipd,
    SaveImaged,
    Spacingd,
)
from monai.utils import set_determinism

from marginseg.integrations.monai import (
    DiceOptimal,
    DiceOptimald,
    RandLabelNoise,
    RandLabelNoised,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::UserWarning:monai")

#: The columns of the affine are 2, 1 and 1.5 mm long; it is turned, too.
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * [2.0, 1.0, 1.5]
AFFINE[:3, 3] = [5.0, -7.0, 11.0]

KEYS = ("image", "label")


@pytest.fixture(autouse=True)
def seed():
    """Draw the same maps each time."""
    torch.manual_seed(0)


@pytest.fixture
def determinism():
    """Give MONAI's switch, and leave the process as it was."""
    yield set_determinism
    set_determinism(None)


@pytest.fixture
def items(tmp_path):
    """Four items of the same two files."""
    label = np.zeros((14, 20, 16), np.uint8)
    label[3:10, 5:15, 3:12] = 1
    label[4:8, 7:12, 5:9] = 2
    image = label + np.random.default_rng(0).normal(0, 0.3, label.shape)
    item = {key: str(tmp_path / f"{key}.nii.gz") for key in KEYS}
    nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), AFFINE), item["image"])
    nibabel.save(nibabel.Nifti1Image(label, AFFINE), item["label"])
    return [dict(item) for _ in range(4)]


def loading(*further, lazy=False):
    return Compose(
        [
            LoadImaged(KEYS),
            EnsureChannelFirstd(KEYS),
            Orientationd(KEYS, "RAS"),
            Spacingd(KEYS, (1.5, 1.5, 1.5), mode=("bilinear", "nearest")),
            *further,
        ],
        lazy=lazy,
        # Else lazy ones interpolate labels too: the mode of Spacingd is not among what is pending.
        overrides={"label": {"mode": "nearest"}},
    )


def square(*shape):
    label = torch.zeros(1, *shape)
    label[(slice(None), *(slice(size // 4, 3 * size // 4) for size in shape))] = 1
    return label


# Noise


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


# Pipelines with noise


def epoch(items, seed, determinism, workers=2):
    determinism(seed)
    noise = RandLabelNoised("label", 3.0, 10.0, "mm", prob=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = CacheDataset(items, loading(noise), num_workers=None, progress=False)
        loader = DataLoader(data, batch_size=1, num_workers=workers)
        return [batch["label"] for batch in loader]


def test_workers_and_items_differ_and_a_seed_repeats_them(items, determinism):
    """Items are the same files, so that all differences are the noise's."""
    clean = loading()(items[0])["label"]
    first = epoch(items, 0, determinism)
    assert all(type(label) is MetaTensor for label in first)
    assert all(label.shape[1:] == clean.shape for label in first)
    for one, other in itertools.combinations([*first, clean[None]], 2):
        assert not torch.equal(one.as_tensor(), other.as_tensor())
    for one, other in zip(first, epoch(items, 0, determinism), strict=True):
        assert torch.equal(one.as_tensor(), other.as_tensor())
    for one, other in zip(first, epoch(items, 1, determinism), strict=True):
        assert not torch.equal(one.as_tensor(), other.as_tensor())


def test_a_cache_holds_labels_without_noise(items, determinism):
    determinism(0)
    noise = RandLabelNoised("label", 3.0, 10.0, "mm", prob=1.0)
    data = CacheDataset(items[:1], loading(noise), num_workers=None, progress=False)
    turns = [data[0]["label"].as_tensor() for _ in range(3)]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(turns, 2))
    noise.prob = 0.0
    assert torch.equal(data[0]["label"], loading()(items[0])["label"])


@pytest.mark.parametrize(("prob", "flipped"), [(0.0, False), (1.0, False), (1.0, True)])
def test_a_cache_that_drops_affines_is_told_what_to_do(items, tmp_path, prob, flipped):
    """It does from the second epoch on, and is refused there at once, noise or not."""
    kept = {"track_meta": True, "weights_only": False}
    for keeping in ({}, kept, {"spacing": (1.5, 1.5, 1.5)}):
        spacing = keeping.get("spacing")
        noise = RandLabelNoised("label", 3.0, 10.0, "mm", prob=prob, spacing=spacing)
        cache = {} if spacing else keeping
        # A transform before gives the label an affine again, but none that says its spacing.
        further = [*([RandFlipd(KEYS, 1.0, 0)] if flipped else []), noise]
        folder = tmp_path / f"{len(keeping)}"
        data = PersistentDataset(items[:1], loading(*further), folder, **cache)
        data[0]
        if keeping:
            assert data[0]["label"].shape == data[0]["image"].shape
        else:
            with pytest.raises(RuntimeError) as caught:
                data[0]
            message = str(caught.value.__cause__)
            assert message.startswith('spacing: needed with units="mm"')
            assert "PersistentDataset(track_meta=True, weights_only=False)" in message


def test_a_lazy_pipeline_resamples_before_it_deforms(items):
    deformed = []
    for lazy in (False, True):
        noise = RandLabelNoised("label", 3.0, 10.0, "mm", prob=1.0)
        item = loading(noise, lazy=lazy).set_random_state(4)(items[0])
        assert not item["label"].has_pending_operations
        deformed.append(item["label"])
    eager, lazy = deformed
    assert eager.shape == lazy.shape != (1, 14, 20, 16)
    # Of two resamplings in one, a few voxels half-way between two others may go the other way.
    assert (eager.as_tensor() != lazy.as_tensor()).float().mean() < 0.01
    assert (eager.as_tensor() != loading()(items[0])["label"].as_tensor()).float().mean() > 0.03


def test_invertd_passes_the_noise_by(items):
    """What is brought back is on the scan's grid, and as noisy as before."""
    noise = RandLabelNoised("label", 3.0, 10.0, "mm", prob=1.0)
    pipeline = loading(noise)
    noisy = pipeline(items[0])
    noise.prob = 0.0
    clean = pipeline(items[0])
    assert len(noisy["label"].applied_operations) == len(clean["label"].applied_operations) > 0
    back = [Invertd("label", pipeline)(item)["label"] for item in (noisy, clean)]
    for label in back:
        assert label.shape == (1, 14, 20, 16)
        np.testing.assert_allclose(label.affine.numpy(), AFFINE, atol=1e-5)
        assert label.applied_operations == []
    shares = [(a != b).float().mean().item() for a, b in (back, (noisy["label"], clean["label"]))]
    assert shares[0] == pytest.approx(shares[1], rel=0.3)
    assert shares[1] > 0.03


# Cuts


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


def network(images):
    """Stand for one that was trained: a softmax of three classes about 0, 1 and 2."""
    smooth = torch.nn.functional.avg_pool3d(images, 3, 1, 1)
    return torch.cat([-((smooth - centre) ** 2) / 0.3 for centre in (0, 1, 2)], 1).softmax(1)


@pytest.mark.parametrize("exclusive", [True, False])
def test_from_files_to_a_segmentation_on_the_grid_of_the_scan(items, tmp_path, exclusive):
    """Loaded, resampled, inferred in windows, taken apart, brought back, cut, saved, scored."""
    before = loading()
    after = Compose(
        [
            Invertd("pred", before, orig_keys="image", nearest_interp=False),
            DiceOptimald("pred", exclusive=exclusive, to_onehot=3 if exclusive else None),
        ]
    )
    loader = DataLoader(Dataset(items[:2], before), batch_size=2, collate_fn=list_data_collate)
    (batch,) = loader
    batch["pred"] = SlidingWindowInferer((16, 16, 16), 2, 0.5, "gaussian")(batch["image"], network)
    cut = [after(item) for item in decollate_batch(batch)]
    assert len(cut) == 2
    truth = torch.from_numpy(np.asarray(nibabel.load(items[0]["label"]).dataobj))
    for item in cut:
        pred = item["pred"]
        assert type(pred) is MetaTensor
        assert pred.shape == (3, 14, 20, 16)
        np.testing.assert_allclose(pred.affine.numpy(), AFFINE, atol=1e-5)
        scores = DiceMetric(include_background=False)(
            pred.as_tensor()[None], torch.stack([truth == c for c in range(3)])[None]
        )
        assert (scores > 0.6).all()
    saving = SaveImaged(
        "pred",
        output_dir=tmp_path / "out",
        output_postfix="",
        separate_folder=False,
        print_log=False,
    )
    saving(cut[0])
    written = nibabel.load(tmp_path / "out" / "image.nii.gz")
    assert written.shape == (14, 20, 16, 3)
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
    assert np.array_equal(np.moveaxis(np.asarray(written.dataobj), -1, 0), cut[0]["pred"].numpy())
