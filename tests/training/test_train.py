from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from marginseg.study.evaluation import evaluate
from marginseg.training.device import TrainedOn, computing_dtype
from marginseg.training.state import LOSSES, Epoch, TrainingSettings
from marginseg.training.train import predict, train

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = TrainingSettings(features=(2, 4), epochs=4, learning_rate=1e-2, plateau_patience=1)


def cases(n: int = 4) -> tuple[list[Tensor], list[Tensor]]:
    source = torch.Generator().manual_seed(0)
    labels = []
    for place in range(n):
        label = torch.zeros(8, 8, 8, dtype=torch.uint8)
        label[2 : 5 + place % 3, 2:6, 1:6] = 1
        labels.append(label)
    images = [label + 0.3 * torch.randn(8, 8, 8, generator=source) for label in labels]
    return images, labels


class StopError(Exception):
    pass


@pytest.mark.parametrize(
    ("loss", "schedule"),
    [("cross_entropy", "plateau"), ("soft_dice", "plateau"), ("cross_entropy", "cosine")],
)
def test_going_on_from_a_checkpoint_gives_the_same_bits(
    tmp_path: Path, loss: str, schedule: str
) -> None:
    images, labels = cases()
    settings = dataclasses.replace(SMALL, loss=loss, schedule=schedule)
    straight = train(images, labels, settings)

    def stop(epochs: list[Epoch]) -> None:
        if len(epochs) == 2:
            raise StopError

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(StopError):
        train(images, labels, settings, checkpoint=checkpoint, on_epoch=stop)
    seen: list[int] = []
    resumed = train(
        images,
        labels,
        settings,
        checkpoint=checkpoint,
        on_epoch=lambda epochs: seen.append(epochs[-1].epoch),
    )
    assert seen == [3, 4]
    assert resumed.epochs == straight.epochs
    for (key, one), other in zip(
        straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), key
    assert torch.equal(predict(straight.model, images[0]), predict(resumed.model, images[0]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt"]


def test_a_training_knows_what_computed_it(tmp_path: Path) -> None:
    """All that did, where it goes on in another precision, as on another machine."""
    images, labels = cases(1)
    settings = dataclasses.replace(SMALL, epochs=1, precision="float32")
    checkpoint = tmp_path / "checkpoint.pt"
    first = train(images, labels, settings, checkpoint=checkpoint)
    assert first.trained_on == [TrainedOn("cpu", "float32")]
    other = dataclasses.replace(settings, precision="bfloat16")
    # It is done: nothing is computed in the other precision.
    assert train(images, labels, other, checkpoint=checkpoint).trained_on == first.trained_on
    further = dataclasses.replace(other, epochs=2)
    both = [TrainedOn("cpu", "float32"), TrainedOn("cpu", "bfloat16")]
    assert train(images, labels, further, checkpoint=checkpoint).trained_on == both
    older = torch.load(checkpoint, weights_only=True)
    del older["trained_on"]
    torch.save(older, checkpoint)
    unknown = [TrainedOn("unknown", "unknown")]
    assert train(images, labels, further, checkpoint=checkpoint).trained_on == unknown


def test_a_damaged_checkpoint_is_started_over(tmp_path: Path) -> None:
    images, labels = cases(2)
    settings = dataclasses.replace(SMALL, epochs=1)
    straight = train(images, labels, settings)
    checkpoint = tmp_path / "checkpoint.pt"
    train(images, labels, settings, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert train(images, labels, settings, checkpoint=checkpoint).epochs == straight.epochs


def test_a_checkpoint_that_is_not_ours_is_started_over(tmp_path: Path) -> None:
    """It would make the run fail at every try, for nobody but the run removes it."""
    images, labels = cases(2)
    settings = dataclasses.replace(SMALL, epochs=2)
    straight = train(images, labels, settings)
    path = tmp_path / "checkpoint.pt"
    train(images, labels, dataclasses.replace(settings, epochs=1), checkpoint=path)
    ours = torch.load(path, weights_only=True)
    train(images, labels, dataclasses.replace(SMALL, features=(3, 4), epochs=1), checkpoint=path)
    others = torch.load(path, weights_only=True)
    foreign = [
        {},
        [],
        torch.zeros(3),
        {"model": {"x": torch.zeros(1)}, "best": {}},
        {"features": [2, 4], "state": ours["model"]},
        others,
        {**ours, "epochs": []},
        {**ours, "epochs": ours["epochs"] * 2},
        # These have taken over the weights of another training before anything is amiss.
        *({**ours, part: others[part]} for part in ("model", "best", "optimiser")),
        *({**ours, part: None} for part in ours),
        {**ours, "optimiser": {}},
        {**ours, "scheduler": {"patience": 3}},
        {**ours, "generator": torch.zeros(3)},
    ]
    for content in foreign:
        torch.save(content, path)
        found = train(images, labels, settings, checkpoint=path)
        assert found.epochs == straight.epochs
        assert found.trained_on == straight.trained_on
        for key, value in found.model.state_dict().items():
            assert torch.equal(value, straight.model.state_dict()[key])


def test_the_model_of_the_best_metric_is_kept(tmp_path: Path) -> None:
    # A learning rate of 100 wrecks the network after its first, best epoch.
    images, labels = cases(1)
    settings = dataclasses.replace(SMALL, learning_rate=100.0, augmentation=0.0, epochs=3)
    trained = train(images, labels, settings)
    assert trained.epochs[0].metric > max(epoch.metric for epoch in trained.epochs[1:])
    first = train(images, labels, dataclasses.replace(settings, epochs=1))
    for one, other in zip(
        trained.model.state_dict().values(), first.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_learning_rate_falls_on_a_plateau() -> None:
    images, labels = cases(1)
    settings = dataclasses.replace(
        SMALL, learning_rate=100.0, augmentation=0.0, epochs=6, plateau_patience=1
    )
    rates = [epoch.learning_rate for epoch in train(images, labels, settings).epochs]
    # One best epoch, two without improvement, then a fifth of the rate.
    assert rates[:3] == [100.0] * 3
    assert rates[3] == pytest.approx(20.0)


def test_learning_rate_falls_as_half_a_cosine() -> None:
    images, labels = cases(1)
    settings = dataclasses.replace(SMALL, schedule="cosine", learning_rate=0.02, epochs=4)
    rates = [epoch.learning_rate for epoch in train(images, labels, settings).epochs]
    # (1 + cos φ) / 2 at φ = 0, 45, 90 and 135 degrees.
    half = math.sqrt(0.5)
    expected = [0.02, 0.01 * (1 + half), 0.01, 0.01 * (1 - half)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_it_learns(loss: str) -> None:
    images, labels = cases()
    settings = dataclasses.replace(SMALL, loss=loss, epochs=20, augmentation=0.0)
    trained = train(images, labels, settings)
    assert trained.epochs[-1].loss < trained.epochs[0].loss / 2
    for image, label in zip(images, labels, strict=True):
        probabilities = predict(trained.model, image)
        assert probabilities.dtype == torch.float32
        found = evaluate(probabilities, loss, clean=label, noisy=label, marginal=label.float())[
            "methods"
        ]
        assert all(scores["dice_clean"] > 0.9 for scores in found.values())


def test_background_starts_calibrated() -> None:
    images, labels = cases(1)
    settings = dataclasses.replace(SMALL, learning_rate=1e-9, epochs=1, augmentation=0.0)
    share = float(labels[0].double().mean())
    mean = float(torch.logit(predict(train(images, labels, settings).model, images[0])).mean())
    # The output is linear in features whose share of the logit is below 1 at the start.
    assert abs(mean - math.log(share / (1 - share))) < 1.0


@pytest.mark.parametrize("content", [0, 1])
def test_labels_that_are_all_the_same_are_no_error(content: int) -> None:
    images = [torch.rand(8, 8, 8)]
    labels = [torch.full((8, 8, 8), content, dtype=torch.uint8)]
    for loss in LOSSES:
        trained = train(images, labels, dataclasses.replace(SMALL, loss=loss, epochs=1))
        assert math.isfinite(trained.epochs[0].loss)


def test_two_dimensions() -> None:
    images, labels = cases(2)
    trained = train([i[4] for i in images], [x[4] for x in labels], SMALL)
    assert predict(trained.model, images[0][4]).shape == (8, 8)


def test_bad_arguments() -> None:
    images, labels = cases(2)
    with pytest.raises(ValueError, match="^labels: "):
        train(images, labels[:1], SMALL)
    with pytest.raises(ValueError, match="^loss: "):
        train(images, labels, dataclasses.replace(SMALL, loss="dice"))
    with pytest.raises(ValueError, match="^schedule: expected one of plateau, cosine, got 'step'"):
        train(images, labels, dataclasses.replace(SMALL, schedule="step"))
    with pytest.raises(ValueError, match="^precision: "):
        computing_dtype("half")
    images[1][0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train(images, labels, SMALL)
