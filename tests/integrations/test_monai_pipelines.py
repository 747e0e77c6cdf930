"""MONAI's pipelines with noise and Dice-optimal cuts in them."""

from __future__ import annotations

import itertools
import warnings

import nibabel
import numpy as np
import pytest
import torch

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

from marginseg.integrations.monai import DiceOptimald, RandLabelNoised

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
