"""nnU-Net's own code calls the label manager, the predictor and the transform."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import documents
import marginseg
from marginseg.classes import Classes
from marginseg.rule import Rule

nnunetv2 = pytest.importorskip("nnunetv2")
from batchgenerators.dataloading.data_loader import DataLoader  # noqa: E402
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import (  # noqa: E402
    NonDetMultiThreadedAugmenter,
)
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms  # noqa: E402
from batchgeneratorsv2.transforms.utils.random import RandomTransform  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from nnunetv2.utilities import label_handling  # noqa: E402
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class  # noqa: E402
from nnunetv2.utilities.label_handling.label_handling import LabelManager  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

from marginseg.integrations.nnunet import (  # noqa: E402
    LabelNoiseTransform,
    RuleLabelManager,
    RulePlansManager,
    use_rule,
)

SOFTMAX = {"background": 0, "organ": 1, "core": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}


EXCLUSIVE = Rule(Classes.softmax(["organ", "core"]), "fixed", (0.25, 0.25))
OVERLAPPING = Rule(
    Classes.regions({"whole": (1, 2), "core": (2,)}, painted=(1, 2)), "fixed", (0.25, 0.25)
)


def from_a_quarter(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Return the labels of the rules above: what has a quarter or more is no background."""
    if regions:
        whole, core = probabilities >= 0.25
        return np.where(core, 2, np.where(whole, 1, 0))
    foreground = probabilities[1:]
    return np.where(foreground.max(0) >= 0.25, 1 + foreground.argmax(0), 0)


def maps(dataset: Path, regions: bool) -> list[np.ndarray]:
    """Return probability maps as nnU-Net wrote them."""
    folder = dataset / "predicted_regions" if regions else dataset / "results"
    found = sorted(folder.rglob("*.npz"))[:3]
    assert found
    return [np.load(path)["probabilities"] for path in found]


def logits_of(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    safe = probabilities.astype(np.float64).clip(1e-9, 1 - 1e-9)
    return (np.log(safe / (1 - safe)) if regions else np.log(safe)).astype(np.float32)


@pytest.mark.parametrize("regions", [False, True])
def test_without_a_rule_it_is_nnunets_own(nnunet_dir, regions):
    names = ("raw/Dataset902_TinyRegions" if regions else "raw/Dataset901_TinyClasses",)
    dataset = json.loads((nnunet_dir / names[0] / "dataset.json").read_text())
    arguments = (dataset["labels"], dataset.get("regions_class_order"))
    own, ours = LabelManager(*arguments), RuleLabelManager(*arguments)
    for probabilities in maps(nnunet_dir, regions):
        logits = logits_of(probabilities, regions)
        for given in (probabilities, torch.from_numpy(probabilities)):
            same(
                ours.convert_probabilities_to_segmentation(given),
                own.convert_probabilities_to_segmentation(given),
            )
        for given in (logits, torch.from_numpy(logits)):
            same(
                ours.convert_logits_to_segmentation(given),
                own.convert_logits_to_segmentation(given),
            )


def same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    assert found.dtype == expected.dtype
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("regions", [False, True])
def test_a_rule_decides_and_the_kinds_stay_nnunets(nnunet_dir, regions):
    labels, order = (REGIONS, [1, 2]) if regions else (SOFTMAX, None)
    rule = OVERLAPPING if regions else EXCLUSIVE
    own, ours = LabelManager(labels, order), RuleLabelManager(labels, order, rule=rule)
    for probabilities in maps(nnunet_dir, regions):
        expected = from_a_quarter(probabilities, regions)
        usual = own.convert_probabilities_to_segmentation(probabilities)
        assert not np.array_equal(expected, usual)
        logits = logits_of(probabilities, regions)
        # Where a probability is a quarter within rounding, logits may stand on the other side.
        sure = (abs(probabilities - 0.25) > 1e-5).all(0)
        for kind in (np.asarray, torch.from_numpy):
            found = ours.convert_probabilities_to_segmentation(kind(probabilities))
            assert np.array_equal(np.asarray(found), expected)
            own_kind = own.convert_probabilities_to_segmentation(kind(probabilities))
            assert (type(found), found.dtype) == (type(own_kind), own_kind.dtype)
            found = ours.convert_logits_to_segmentation(kind(logits))
            assert (type(found), found.dtype) == (type(own_kind), own_kind.dtype)
            assert np.array_equal(np.asarray(found)[sure], expected[sure])


@pytest.mark.parametrize("regions", [False, True])
def test_a_real_rule_at_half_is_nnunets_own(nnunet_dir, tmp_path, monkeypatch, regions):
    """Through the file that the environment names."""
    labels, order = (REGIONS, [1, 2]) if regions else (SOFTMAX, None)
    classes = OVERLAPPING.classes if regions else EXCLUSIVE.classes
    Rule(classes, decision="half").save(tmp_path / "rule.json")
    monkeypatch.setenv("MARGINSEG_RULE", str(tmp_path / "rule.json"))
    own, ours = LabelManager(labels, order), RuleLabelManager(labels, order)
    assert ours.rule.decision == "half"
    for probabilities in maps(nnunet_dir, regions):
        for given in (probabilities, torch.from_numpy(probabilities)):
            same(
                ours.convert_probabilities_to_segmentation(given),
                own.convert_probabilities_to_segmentation(given),
            )


def test_a_real_rule_cuts_at_t(nnunet_dir):
    """Regions overlap, so each has the cut that the ops find."""
    ours = RuleLabelManager(REGIONS, [1, 2], rule=Rule(OVERLAPPING.classes))
    for probabilities in maps(nnunet_dir, regions=True):
        given = torch.from_numpy(probabilities)
        whole, core = marginseg.optimal_segmentation(given, spatial_dims=3)
        expected = torch.where(core, 2, torch.where(whole, 1, 0))
        found = ours.convert_probabilities_to_segmentation(probabilities)
        assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    ("labels", "order", "rule"),
    [
        (SOFTMAX, None, OVERLAPPING),
        (REGIONS, [1, 2], EXCLUSIVE),
        (REGIONS, [2, 1], OVERLAPPING),
        ({"background": 0, "organ": 1}, None, EXCLUSIVE),
        ({**SOFTMAX, "tumour": 3}, None, EXCLUSIVE),
    ],
)
def test_a_rule_for_other_classes_is_refused(labels, order, rule):
    with pytest.raises(ValueError, match=r"^rule: expected one for (labels|regions) .*, got "):
        RuleLabelManager(labels, order, rule=rule)


def test_wrong_channels_are_refused():
    manager = RuleLabelManager(SOFTMAX, None, rule=EXCLUSIVE)
    with pytest.raises(ValueError, match="^probabilities: expected 3 channels, got 2"):
        manager.convert_probabilities_to_segmentation(np.zeros((2, 3, 3)))


def test_the_ignore_label_has_no_channel():
    manager = RuleLabelManager({**SOFTMAX, "ignore": 3}, None, rule=EXCLUSIVE)
    assert manager.ignore_label == 3
    assert manager.convert_probabilities_to_segmentation(np.full((3, 2), 0.3)).tolist() == [1, 1]


def test_plans_name_it(tmp_path, monkeypatch):
    """A module in nnU-Net's folder of label managers; here that folder is another one."""
    folder = tmp_path / "utilities" / "label_handling"
    folder.mkdir(parents=True)
    (folder / "with_rule.py").write_text(
        "from marginseg.integrations.nnunet import RuleLabelManager\n"
    )
    monkeypatch.setattr(nnunetv2, "__path__", [str(tmp_path), *nnunetv2.__path__])
    monkeypatch.setattr(label_handling, "__path__", [*label_handling.__path__, str(folder)])
    plans = PlansManager({"label_manager": "RuleLabelManager"})
    manager = plans.get_label_manager({"labels": SOFTMAX})
    assert type(manager) is RuleLabelManager
    assert manager.rule is None


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MARGINSEG_RULE", str(tmp_path / "gone.json"))
    with pytest.raises(OSError, match=r"gone\.json"):
        RuleLabelManager(SOFTMAX, None)


class Brightness(torch.nn.Module):
    """A network whose regions are the brighter the surer."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([2 * image - 1, 2 * image - 3], 1)


def a_predictor(folder: Path) -> nnUNetPredictor:
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    plans = PlansManager(str(folder / "plans.json"))
    network = Brightness()
    predictor.manual_initialization(
        network,
        plans,
        plans.get_configuration("3d_fullres"),
        [network.state_dict()],
        json.loads((folder / "dataset.json").read_text()),
        "nnUNetTrainer",
        None,
    )
    return predictor


def an_image(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return noise that the plans' normalisation makes one of variance 4, more or less."""
    plans = json.loads((folder / "plans.json").read_text())
    usual = plans["foreground_intensity_properties_per_channel"]["0"]
    noise = np.random.default_rng(0).normal(size=shape)
    return (usual["mean"] + 2 * usual["std"] * noise).astype(np.float32)


def test_a_predictor_of_nnunet_decides_by_the_rule(nnunet_dir):
    """Its own inference from an image to a label map: sliding window, resampling and all."""
    folder = nnunet_dir / "predicted_regions"
    image = an_image(folder, (1, 24, 40, 40))
    properties = {"spacing": [2.0, 1.0, 1.0]}
    predictor = a_predictor(folder)
    plain, probabilities = predictor.predict_single_npy_array(
        image, properties, save_or_return_probabilities=True
    )
    use_rule(predictor, OVERLAPPING)
    ruled, again = predictor.predict_single_npy_array(
        image, properties, save_or_return_probabilities=True
    )
    without = predictor.predict_single_npy_array(image, properties)
    assert np.array_equal(again, probabilities)
    assert np.array_equal(ruled, from_a_quarter(probabilities, regions=True))
    assert np.array_equal(without, ruled)
    assert ruled.dtype == plain.dtype
    assert 0 < plain.astype(bool).sum() < ruled.astype(bool).sum() < ruled.size


def test_the_rule_goes_along_into_other_processes(nnunet_dir):
    """nnU-Net sends plans to those that write files, and label managers to those that ensemble."""
    folder = nnunet_dir / "predicted_regions"
    predictor = a_predictor(folder)
    use_rule(predictor, OVERLAPPING)
    plans = pickle.loads(pickle.dumps(predictor.plans_manager))
    assert isinstance(plans, RulePlansManager)
    assert plans.get_label_manager(predictor.dataset_json).rule == OVERLAPPING
    assert pickle.loads(pickle.dumps(predictor.label_manager)).rule == OVERLAPPING
    with pytest.raises(ValueError, match="^predictor: expected one that has been initialised"):
        use_rule(nnUNetPredictor(device=torch.device("cpu")), OVERLAPPING)


@pytest.mark.slow
def test_files_are_written_by_the_rule(nnunet_dir, tmp_path):
    """Through nnU-Net's processes, one for the images and one for the label maps."""
    nibabel = pytest.importorskip("nibabel")
    folder = nnunet_dir / "predicted_regions"
    image = an_image(folder, (40, 40, 24))
    nibabel.save(nibabel.Nifti1Image(image, np.diag([1, 1, 2, 1])), tmp_path / "a_0000.nii.gz")
    predictor = a_predictor(folder)
    use_rule(predictor, OVERLAPPING)
    predictor.predict_from_files(
        [[str(tmp_path / "a_0000.nii.gz")]],
        [str(tmp_path / "a")],
        save_probabilities=True,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )
    probabilities = np.load(tmp_path / "a.npz")["probabilities"]
    written = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj)
    assert np.array_equal(written.T, from_a_quarter(probabilities, regions=True))


def a_segmentation(*shape: int, dtype: torch.dtype = torch.int16) -> torch.Tensor:
    segmentation = torch.zeros(1, *shape, dtype=dtype)
    inner = tuple(slice(size // 4, 3 * size // 4) for size in shape)
    segmentation[(0, *inner)] = 2
    return segmentation


@pytest.mark.parametrize("shape", [(20, 24, 28), (32, 40)])
def test_noise_is_the_models_inside_a_patch(shape):
    """Nothing of the field reaches the border, so nothing is different from a whole image."""
    segmentation = a_segmentation(*shape)
    transform = LabelNoiseTransform(std=1.0, length_scale=6)
    np.random.seed(4)  # noqa: NPY002
    found = transform(segmentation=segmentation.clone())["segmentation"]
    np.random.seed(4)  # noqa: NPY002
    seed = transform.get_parameters()["seed"]
    noise = marginseg.GaussianFieldNoise(1.0, 6, "voxel", spatial_dims=len(shape))
    generator = torch.Generator().manual_seed(seed)
    expected = noise.sample(segmentation, generator=generator)[0]
    assert torch.equal(found, expected)
    assert found.dtype == segmentation.dtype
    assert not torch.equal(found, segmentation)


def test_only_labels_move():
    """Padding and the ignore label stay, and nothing looks as if it came from under them."""
    segmentation = a_segmentation(24, 24, 24)
    segmentation[:, :, :, 15:] = -1
    segmentation[:, 15:, :, :15] = 3
    transform = LabelNoiseTransform(std=3, length_scale=6, fixed=(-1, 3))
    moved = 0
    for _ in range(20):
        found = transform(segmentation=segmentation.clone())["segmentation"]
        for value in (-1, 3):
            assert torch.equal(found == value, segmentation == value)
        assert set(found.unique().tolist()) == {-1, 0, 2, 3}
        moved += int((found != segmentation).sum())
    assert moved > 0


def test_what_comes_from_outside_the_patch_is_what_was_there():
    """A patch that lies within an organ stays so; so does one beside padding."""
    inside = torch.full((1, 12, 12, 12), 5, dtype=torch.int16)
    transform = LabelNoiseTransform(std=3, length_scale=6)
    padded = inside.clone()
    padded[:, :4] = -1
    for segmentation in (inside, padded):
        for _ in range(5):
            found = transform(segmentation=segmentation.clone())["segmentation"]
            assert torch.equal(found, segmentation)


def test_a_plane_among_volumes_is_redrawn_as_a_plane():
    """Along its axis of one voxel nothing is moved, so all of it is known."""
    plane = a_segmentation(40, 40)
    np.random.seed(3)  # noqa: NPY002
    expected = LabelNoiseTransform(2.0, 15)(segmentation=plane)["segmentation"]
    changed = torch.zeros(3)
    for axis in range(3):
        volume = plane.unsqueeze(1 + axis)
        for _ in range(10):
            found = LabelNoiseTransform(2.0, 15)(segmentation=volume)["segmentation"]
            changed[axis] += (found != volume).sum() / (expected != plane).sum() / 10
    # As many voxels as in a plane of two axes; it would be a fifth where most of it leaves.
    assert (changed > 0.6).all()


def test_units_and_channels():
    segmentation = a_segmentation(24, 24, 24).repeat(2, 1, 1, 1)
    np.random.seed(0)  # noqa: NPY002
    in_mm = LabelNoiseTransform(2.0, 10, "mm", spacing=(2.0, 1.0, 0.5))(segmentation=segmentation)
    np.random.seed(0)  # noqa: NPY002
    in_voxels = LabelNoiseTransform((1.0, 2.0, 4.0), (5.0, 10.0, 20.0))(segmentation=segmentation)
    assert torch.equal(in_mm["segmentation"], in_voxels["segmentation"])
    first, second = in_mm["segmentation"]
    assert torch.equal(second, segmentation[1])
    assert not torch.equal(first, segmentation[0])
    both = LabelNoiseTransform(2.0, 10, channels=None)(segmentation=segmentation)["segmentation"]
    assert torch.equal(both[0], both[1])
    assert not torch.equal(both[0], segmentation[0])
    assert torch.equal(segmentation[0], a_segmentation(24, 24, 24)[0])  # what came in is as it was


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_other_dtypes_and_what_is_no_label(dtype):
    transform = LabelNoiseTransform(1.0, 6)
    np.random.seed(1)  # noqa: NPY002
    expected = transform(segmentation=a_segmentation(20, 20))["segmentation"]
    np.random.seed(1)  # noqa: NPY002
    found = transform(segmentation=a_segmentation(20, 20, dtype=dtype))["segmentation"]
    assert found.dtype == dtype
    assert torch.equal(found.to(torch.int16), expected)
    with pytest.raises(TypeError, match="^segmentation: expected .* got torch.float32"):
        transform(segmentation=torch.zeros(1, 4, 4))


def test_in_a_pipeline_of_batchgenerators():
    segmentation, image = a_segmentation(24, 24, 24), torch.rand(1, 24, 24, 24)
    noise = LabelNoiseTransform(2.0, 8)
    pipeline = ComposeTransforms([RandomTransform(noise, apply_probability=0.5)])
    torch.manual_seed(2)
    results = [pipeline(image=image, segmentation=segmentation) for _ in range(40)]
    assert all(torch.equal(result["image"], image) for result in results)
    same = sum(torch.equal(result["segmentation"], segmentation) for result in results)
    assert abs(same - 20) < 5 * math.sqrt(40 / 4)
    assert len({result["segmentation"].numpy().tobytes() for result in results}) == 41 - same


class Seeds(DataLoader):  # type: ignore[misc]
    """Gives the seeds that a worker's transform draws, instead of batches."""

    def __init__(self) -> None:
        super().__init__(None, 1, 1, None, True, False, True)

    def generate_train_batch(self) -> dict[str, int]:
        seed = LabelNoiseTransform(1.0, 6).get_parameters()["seed"]
        return {"worker": self.thread_id, "seed": seed}


def test_each_worker_of_nnunets_augmenter_draws_fields_of_its_own():
    """Without seeds, as nnU-Net's trainer starts them: workers inherit torch's generator."""
    augmenter = NonDetMultiThreadedAugmenter(Seeds(), None, 2, 2, seeds=None)
    drawn: dict[int, list[int]] = {}
    for batch in augmenter:
        drawn.setdefault(batch["worker"], []).append(batch["seed"])
        if len(drawn) == 2:
            break
    augmenter._finish()
    seeds = [seed for of_worker in drawn.values() for seed in of_worker]
    assert len(set(seeds)) == len(seeds)


def a_trainer_of_the_guide(folder: Path, nnunet_dir: Path) -> Any:
    """Return what nnU-Net finds in a folder, without what it trains on."""
    guide = documents.ROOT / "docs" / "guides" / "integrations.md"
    (code,) = [block for block in documents.blocks(guide, "python") if "nnUNetTrainer)" in block]
    (folder / "with_noise.py").write_text(code)
    # As it looks in `nnUNet_extTrainer`, after all of its own, some of which need more packages.
    found = recursive_find_python_class(
        str(folder), "nnUNetTrainerLabelNoise", None, base_folder=str(folder)
    )
    assert found.__module__ == "with_noise"
    trainer = found.__new__(found)
    plans = PlansManager(str(nnunet_dir / "predicted_regions" / "plans.json"))
    trainer.configuration_manager = plans.get_configuration("3d_fullres")
    trainer.label_manager = LabelManager({**REGIONS, "ignore": 3}, [1, 2])
    return trainer


def test_the_trainer_of_the_guide(tmp_path, nnunet_dir):
    """Its noise is the only difference to nnU-Net's own augmentation, and comes where it should."""
    trainer = a_trainer_of_the_guide(tmp_path, nnunet_dir)
    regions, ignored = trainer.label_manager.foreground_regions, trainer.label_manager.ignore_label
    arguments = {
        "patch_size": (20, 32, 32),
        "rotation_for_DA": (-0.5, 0.5),
        "deep_supervision_scales": None,
        "mirror_axes": (0, 1, 2),
        "do_dummy_2d_data_aug": False,
        "use_mask_for_norm": [False],
        "regions": regions,
        "ignore_label": ignored,
    }
    pipeline = trainer.get_training_transforms(**arguments)
    own = nnUNetTrainer.get_training_transforms(**arguments)
    names = [type(step).__name__ for step in pipeline.transforms]
    place = names.index("LabelNoiseTransform")
    assert names[:place] + names[place + 1 :] == [type(step).__name__ for step in own.transforms]
    assert names[place + 1] == "RemoveLabelTransform"
    noise = pipeline.transforms[place]
    assert noise.fixed == (-1, 3)
    assert noise.spacing == [2.5, 1.0, 1.0]
    segmentation = torch.zeros(1, 32, 48, 48, dtype=torch.int16)
    segmentation[:, 8:24, 12:36, 12:36] = 1
    segmentation[:, 12:20, 20:28, 20:28] = 2
    segmentation[:, :, :, 40:] = 3
    image = torch.rand(1, 32, 48, 48)
    found = pipeline(image=image, segmentation=segmentation)
    assert found["image"].shape == (1, 20, 32, 32)
    assert found["segmentation"].shape == (3, 20, 32, 32)  # whole, core, ignored
    # All steps before, then the noise: what is ignored or padding stays.
    for step in pipeline.transforms[:place]:
        found = step(image=image, segmentation=segmentation)
        image, segmentation = found["image"], found["segmentation"]
    noisy = noise(image=image, segmentation=segmentation.clone())["segmentation"]
    assert torch.equal(noisy == 3, segmentation == 3)
    assert torch.equal(noisy == -1, segmentation == -1)
    assert not torch.equal(noisy, segmentation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": -1, "length_scale": 5}, "^std: "),
        ({"std": 1}, "^length_scale: needed with units='voxel'"),
        ({"std": 1, "length_scale": 5, "units": "mm"}, "^spacing: needed"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelNoiseTransform(**arguments)
