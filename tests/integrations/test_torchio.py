"""TorchIO's own machinery runs the transforms: subjects, history, queues, files."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import marginseg
from marginseg.classes import Classes
from marginseg.rule import Rule

torchio = pytest.importorskip("torchio")
from marginseg.integrations.torchio import DiceOptimal, LabelNoise, RandomLabelNoise  # noqa: E402

SPACING = (1.0, 2.0, 0.5)
SHAPE = (24, 20, 28)


def a_subject(**others: Any) -> Any:
    label = torch.zeros(1, *SHAPE, dtype=torch.int16)
    label[:, 6:18, 5:15, 8:20] = 1
    label[:, 10:14, 8:12, 12:16] = 7
    affine = np.diag([*SPACING, 1.0])
    return torchio.Subject(
        scan=torchio.ScalarImage(tensor=torch.rand(1, *SHAPE), affine=affine),
        organ=torchio.LabelMap(tensor=label, affine=affine),
        **others,
    )


def test_millimetres_come_from_the_image():
    """The same as the noise model with that spacing and the seed that stands in the history."""
    noisy = RandomLabelNoise(std=1.5, length_scale=8)(a_subject())
    (name, arguments) = noisy.applied_transforms[-1]
    assert name == "LabelNoise"
    noise = marginseg.GaussianFieldNoise(1.5, 8, "mm", spacing=SPACING)
    generator = torch.Generator().manual_seed(arguments["seed"])
    expected = noise.sample(a_subject().organ.data, generator=generator)[0]
    assert torch.equal(noisy.organ.data, expected)
    assert not torch.equal(noisy.organ.data, a_subject().organ.data)
    assert set(noisy.organ.data.unique().tolist()) <= {0, 1, 7}


@pytest.mark.slow
def test_millimetres_agree_with_the_marginals():
    """Means over seeds, along an axis with large voxels, against Theorem 1 in closed form.

    A half-space, so the marginal is a normal distribution function of the distance in millimetres.
    """
    label = torch.zeros(1, 1, 40, 1, dtype=torch.uint8)
    label[:, :, :20] = 1
    image = torchio.LabelMap(tensor=label, affine=np.diag([1.0, 2.0, 1.0, 1.0]))
    transform = RandomLabelNoise(std=3, length_scale=10)
    n = 2000
    mean = sum(transform(image).data.double() for _ in range(n)).flatten() / n
    # Voxel i holds [2i - 1, 2i + 1] mm; the border lies at 39 mm, the image begins at -1 mm.
    centre = 2.0 * torch.arange(40, dtype=torch.float64)
    cdf = torch.distributions.Normal(0.0, 3.0).cdf
    expected = cdf(39.0 - centre) - cdf(-1.0 - centre)
    bound = 5 * (expected * (1 - expected) / n).sqrt() + 5 / n
    assert ((mean - expected).abs() <= bound).all()


def test_one_field_for_all_label_maps_and_none_for_images():
    subject = a_subject()
    copy = torchio.LabelMap(tensor=subject.organ.data.to(torch.int32), affine=subject.organ.affine)
    subject.add_image(copy, "second")
    noisy = RandomLabelNoise(std=2, length_scale=8)(subject)
    assert torch.equal(noisy.second.data, noisy.organ.data.to(torch.int32))
    assert noisy.second.data.dtype == torch.int32
    assert torch.equal(noisy.scan.data, subject.scan.data)
    only = RandomLabelNoise(std=2, length_scale=8, include=["second"])(subject)
    assert torch.equal(only.organ.data, subject.organ.data)
    assert not torch.equal(only.second.data, subject.second.data)


def test_history_replays_exactly():
    subject = a_subject()
    chain = torchio.Compose(
        [
            torchio.RandomFlip(axes=(0, 1, 2)),
            RandomLabelNoise(std=(0.5, 3), length_scale=(5, 20)),
            torchio.RandomNoise(),
        ]
    )
    noisy = chain(subject)
    drawn = dict(noisy.applied_transforms)["LabelNoise"]
    assert 0.5 <= drawn["std"] <= 3
    assert 5 <= drawn["length_scale"] <= 20
    torch.manual_seed(12345)  # a replay draws nothing
    again = noisy.get_composed_history()(subject)
    assert torch.equal(again.organ.data, noisy.organ.data)
    assert torch.equal(again.scan.data, noisy.scan.data)
    assert [type(step).__name__ for step in noisy.history].count("LabelNoise") == 1
    with pytest.warns(RuntimeWarning, match="LabelNoise"):  # a field cannot be undone
        noisy.get_inverse_transform()


def test_randomness_is_torchs():
    transform = RandomLabelNoise(std=2, length_scale=8)

    def draw() -> list[torch.Tensor]:
        return [transform(a_subject()).organ.data for _ in range(2)]

    torch.manual_seed(3)
    first = draw()
    torch.manual_seed(3)
    second = draw()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(*first)
    # The field has a generator of its own: it draws nothing from the global one.
    subject = a_subject()
    state = torch.get_rng_state()
    LabelNoise(2, 8, "voxel", seed=1)(subject)
    drawn = torch.get_rng_state()
    torch.set_rng_state(state)
    torch.rand(1)  # which TorchIO draws for p
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_queue_with_workers():
    subjects = [a_subject(number=i) for i in range(4)]
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects, transform=RandomLabelNoise(std=2, length_scale=8)),
        max_length=8,
        samples_per_volume=2,
        sampler=torchio.UniformSampler((8, 8, 8)),
        num_workers=2,
    )
    loader = torchio.SubjectsLoader(queue, batch_size=4)
    labels = [batch["organ"][torchio.DATA] for batch in loader]
    assert [tuple(label.shape) for label in labels] == [(4, 1, 8, 8, 8)] * 2
    assert set(torch.cat(labels).unique().tolist()) <= {0, 1, 7}
    whole = torchio.SubjectsLoader(queue.subjects_dataset, batch_size=4, num_workers=2)
    batch = next(iter(whole))["organ"][torchio.DATA]
    assert len({label.numpy().tobytes() for label in batch}) == 4  # each its own field


def test_2d_images_stay_in_their_plane():
    """Along an axis of one voxel all that moved would leave the image."""
    label = torch.zeros(1, 64, 64, 1, dtype=torch.uint8)
    label[:, 16:48, 16:48] = 1
    volumes = torch.tensor(
        [RandomLabelNoise(2, 15, "voxel")(label_map(label)).count_nonzero() for _ in range(20)]
    )
    # Nothing reaches the image's border, so E|L| = |l| (Theorem 2).
    assert abs(volumes.double().mean() - 32 * 32) < 5 * volumes.double().std() / math.sqrt(20)
    flat = label_map(torch.rot90(label, 1, (1, 3)))  # the single voxel along another axis
    assert RandomLabelNoise(2, 15, "voxel")(flat).count_nonzero() > 500


def label_map(tensor: torch.Tensor) -> Any:
    return torchio.LabelMap(tensor=tensor)


def test_files_of_floats_and_what_is_no_label(tmp_path):
    subject = a_subject()
    torchio.LabelMap(tensor=subject.organ.data.float(), affine=subject.organ.affine).save(
        tmp_path / "organ.nii.gz"
    )
    read = torchio.Subject(organ=torchio.LabelMap(tmp_path / "organ.nii.gz"))
    noise = LabelNoise(2, 8, seed=5)
    assert noise(read).organ.data.dtype == torch.float32
    assert torch.equal(noise(read).organ.data, noise(subject).organ.data.float())
    tissue = torchio.Subject(tissue=label_map(torch.full((1, 4, 4, 4), 0.5)))
    with pytest.raises(TypeError, match="^label map tissue: expected whole numbers"):
        noise(tissue)


def test_label_maps_of_two_spaces_are_refused():
    subject = a_subject(other=label_map(torch.zeros(1, *SHAPE, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="^label map other: expected the spacing of organ"):
        RandomLabelNoise(std=2, length_scale=8)(subject)
    RandomLabelNoise(std=2, length_scale=8, exclude=["other"])(subject)
    subject = a_subject(other=label_map(torch.zeros(1, 3, 3, 3, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="^label map other: expected the spatial_shape of organ"):
        RandomLabelNoise(std=2, length_scale=8)(subject)


def test_label_maps_stored_the_other_way_round_are_refused():
    """The same organ would be deformed otherwise; after ToCanonical it is not."""
    organ = a_subject().organ
    turned = organ.affine.copy()
    turned[0, 0], turned[0, 3] = -SPACING[0], SPACING[0] * (SHAPE[0] - 1)
    other = torchio.LabelMap(tensor=organ.data.flip(1), affine=turned)
    subject = a_subject(other=other)
    noise = RandomLabelNoise(std=2, length_scale=8)
    expected = "^label map other: expected the orientation of organ, .* put ToCanonical before"
    with pytest.raises(ValueError, match=expected):
        noise(subject)
    noisy = noise(torchio.ToCanonical()(subject))
    assert torch.equal(noisy.organ.data, noisy.other.data)
    assert not torch.equal(noisy.organ.data, organ.data)
    # Of an oblique one the letters are the same, and it has to be resampled.
    turn = np.eye(4)
    turn[:2, :2] = [[0.96, -0.28], [0.28, 0.96]]
    oblique = torchio.LabelMap(tensor=organ.data, affine=turn @ organ.affine)
    with pytest.raises(ValueError, match=r"the axes of organ, .* or resample it$"):
        noise(a_subject(other=oblique))
    moved = organ.affine + 1e-5
    moved[:3, 3] += 40
    noise(a_subject(other=torchio.LabelMap(tensor=organ.data, affine=moved)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": -1, "length_scale": 5}, "^std: expected finite numbers >= 0"),
        ({"std": (2, 1), "length_scale": 5}, "^std: expected a range of increasing numbers"),
        ({"std": (1, 1, 1, 1), "length_scale": 5}, "^std: expected one number or up to three"),
        ({"std": 1}, "^length_scale: needed with units='mm'"),
        ({"std": 1, "length_scale": (0, 5)}, "^length_scale: expected finite numbers > 0"),
        ({"std": 1, "length_scale": 5, "units": "cm"}, "^units: expected one of extent, mm, voxel"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomLabelNoise(**arguments)


def test_arguments_are_shown_and_fractions_of_the_extent_have_a_default():
    assert repr(RandomLabelNoise(0.02, units="extent")) == (
        "RandomLabelNoise(std=0.02, length_scale=None, units=extent)"
    )
    noisy = LabelNoise(0.1, units="extent", seed=2)(a_subject())
    noise = marginseg.GaussianFieldNoise(0.1, spatial_dims=3)
    expected = noise.sample(a_subject().organ.data, generator=torch.Generator().manual_seed(2))
    assert torch.equal(noisy.organ.data, expected[0])


def best_by_brute_force(probabilities: torch.Tensor) -> torch.Tensor:
    """Try every cut of a map."""
    m = probabilities.double()
    cuts = [m >= t for t in m.unique()]
    scores = [2 * m[cut].sum() / (m.sum() + cut.sum()) for cut in cuts]
    return cuts[int(torch.stack(scores).argmax())]


def test_maps_become_label_maps():
    torch.manual_seed(0)
    probabilities = torch.rand(2, 5, 4, 3) ** 3
    affine = np.diag([*SPACING, 1.0])
    subject = a_subject(
        prediction=torchio.ScalarImage(tensor=probabilities, affine=affine),
    )
    keep = {"prediction": "probabilities"}
    cut = DiceOptimal(exclusive=False, include=["prediction"], keep=keep)(subject)
    assert isinstance(cut.prediction, torchio.LabelMap)
    assert cut.prediction.data.dtype == torch.uint8
    for channel in range(2):
        expected = best_by_brute_force(probabilities[channel])
        assert torch.equal(cut.prediction.data[channel].bool(), expected)
        assert (expected != (probabilities[channel] >= 0.5)).any()
    assert torch.equal(cut.probabilities.data, probabilities)
    assert np.array_equal(cut.prediction.affine, affine)
    assert torch.equal(cut.scan.data, subject.scan.data)
    assert isinstance(subject.prediction, torchio.ScalarImage)


def test_exclusive_classes_get_one_label_map():
    torch.manual_seed(1)
    softmax = torch.softmax(3 * torch.randn(4, 6, 6, 6), 0)
    image = torchio.ScalarImage(tensor=softmax)
    found = DiceOptimal(exclusive=True)(image)
    best = marginseg.optimal_labels(softmax, spatial_dims=3)
    assert isinstance(found, torchio.LabelMap)
    assert torch.equal(found.data[0], best.labels)
    last = DiceOptimal(exclusive=True, background=3)(image)
    expected = marginseg.optimal_labels(softmax, background=3, spatial_dims=3).labels
    assert torch.equal(last.data[0], expected)
    assert not torch.equal(last.data, found.data)


def test_a_rule_decides_instead(tmp_path):
    """By itself and by its file, with a label map and with masks, and again from the history."""
    probabilities = torch.rand(2, 5, 4, 3)
    subject = torchio.Subject(prediction=torchio.ScalarImage(tensor=probabilities))
    values = {"whole": (1, 2), "core": (2,)}
    painted = Rule(Classes.regions(values, painted=(4, 5)), "fixed", (0.25, 0.75))
    painted.save(tmp_path / "rule.json")
    core, whole = probabilities[1] >= 0.75, probabilities[0] >= 0.25
    expected = torch.where(core, 5, torch.where(whole, 4, 0))[None]
    for rule in (painted, tmp_path / "rule.json", str(tmp_path / "rule.json")):
        found = DiceOptimal(rule=rule)(subject)
        assert torch.equal(found.prediction.data, expected)
        again = found.get_composed_history()(subject)
        assert torch.equal(again.prediction.data, expected)
    masks = DiceOptimal(rule=Rule(Classes.regions(values), "fixed", (0.25, 0.75)))(subject)
    assert torch.equal(masks.prediction.data.bool(), torch.stack([whole, core]))


def test_a_rule_is_not_contradicted_and_is_read_at_once(tmp_path):
    regions = Rule(Classes.regions({"whole": (1, 2), "core": (2,)}, painted=(1, 2)), "half")
    with pytest.raises(ValueError, match="^exclusive: expected False, as the rule says, got True"):
        DiceOptimal(exclusive=True, rule=regions)
    with pytest.raises(ValueError, match="^exclusive: expected True, as the rule says, got False"):
        DiceOptimal(exclusive=False, rule=Rule(Classes.softmax(["organ"])))
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        DiceOptimal(rule=tmp_path / "none.json")
    regions.save(tmp_path / "rule.json")
    cut = DiceOptimal(exclusive=False, rule=tmp_path / "rule.json")
    (tmp_path / "rule.json").unlink()
    maps = torch.rand(2, 4, 4, 4)
    assert torch.equal(cut(maps)[0] == 2, maps[1] > 0.5)


def test_what_is_no_map_is_refused_by_name():
    subject = a_subject()
    subject.scan.set_data(100 * subject.scan.data)
    with pytest.raises(ValueError, match=r"^image scan: probabilities: expected values within"):
        DiceOptimal(exclusive=False)(subject)


def test_it_has_to_be_said_whether_classes_exclude_each_other():
    with pytest.raises(TypeError, match="^exclusive: expected True for a softmax or False"):
        DiceOptimal()
