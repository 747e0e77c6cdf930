"""One run: train a U-Net (§5.3), go on from a checkpoint, predict."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from marginseg.losses import cross_entropy, soft_dice
from marginseg.training.augmentation import augment
from marginseg.training.device import TrainedOn, computing_dtype, training_on
from marginseg.training.state import Epoch, State, TrainingSettings
from marginseg.training.step import CapturedStep, Criterion, Step, ieee_float32, logits_of
from marginseg.training.unet import UNet

_CRITERIA: dict[str, Criterion] = {
    "cross_entropy": cross_entropy,
    "soft_dice": soft_dice,
}


@dataclass(frozen=True)
class Trained:
    """The model of the best training metric, in evaluation mode, and how it came to be.

    What it was trained on is one device in one precision, unless it went on elsewhere.
    """

    model: UNet
    epochs: list[Epoch]
    trained_on: list[TrainedOn]


def predict(model: nn.Module, image: Tensor, *, precision: str = "auto") -> Tensor:
    """Return the foreground probability of every voxel.

    Args:
        model: Maps (1, 1, *spatial) to logits of the same shape.
        image: Shape (*spatial), float32, on the model's device.
        precision: As in training.

    Returns:
        float32 tensor of the image's shape, within [0, 1].

    """
    with torch.inference_mode(), ieee_float32():
        logits = logits_of(model, image, computing_dtype(precision, image.device))
        return torch.sigmoid(logits[0, 0])


def train(
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    settings: TrainingSettings,
    *,
    spacings: Sequence[Sequence[float]] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[list[Epoch]], None] | None = None,
    device: torch.device | str = "cpu",
) -> Trained:
    """Train a U-Net on pairs of images and labels.

    Adam with an L2 penalty, batch 1, the learning rate divided after a plateau of the training
    metric, or falling as a cosine; the model of the best training metric is what comes back. The
    output's bias starts at the logit of the labels' mean: cross-entropy is then calibrated in its
    background from the start.

    With a ``checkpoint`` its state is written there after every epoch, and where the file is there
    already, training goes on from it: on the CPU the result has the same bits as one that was
    never interrupted (for the same number of threads). A file that cannot be read is ignored,
    and so is one that holds anything but the state of such a training.

    On a GPU all cases go there once, the step is a captured graph, and the host waits for it once
    an epoch; the work is queued on the current stream, so that threads with streams of their own
    train side by side. The random numbers are the CPU's.

    Args:
        images: Each (*spatial), float32, all of one shape.
        labels: Each of its image's shape, 0 and 1.
        settings: How to train.
        spacings: Voxel sizes of each case, for the rotations; None: equal along all axes.
        checkpoint: File to go on from and to write.
        on_epoch: Called with all epochs so far, after each one.
        device: Where to train.

    Raises:
        ValueError: There are no images, their number is not the labels', or a setting is unknown.
        FloatingPointError: The loss is no longer finite.

    """
    if not images or len(images) != len(labels):
        raise ValueError(
            f"labels: expected one for each of 1 or more images, got {len(images)} images and "
            f"{len(labels)} labels"
        )
    device = torch.device(device)
    images = [image.to(device) for image in images]
    labels = [label.to(device) for label in labels]
    state = State(images, labels, settings, device)
    if checkpoint is not None and not state.load(checkpoint):
        # Some of what was no checkpoint may be in the state already.
        state = State(images, labels, settings, device)
    here = training_on(settings.precision, device)
    # A training that is done already is computed by nobody here.
    if here not in state.trained_on and len(state.epochs) < settings.epochs:
        state.trained_on.append(here)
    step_type = CapturedStep if device.type == "cuda" else Step
    step = step_type(
        state.model,
        state.optimiser,
        _CRITERIA[settings.loss],
        computing_dtype(settings.precision, device),
    )
    while len(state.epochs) < settings.epochs:
        started = time.monotonic()
        learning_rate = state.learning_rate
        step.total.zero_()
        order = torch.randperm(len(images), generator=state.generator, device="cpu").tolist()
        for place in order:
            step(
                *augment(
                    images[place],
                    labels[place],
                    generator=state.generator,
                    probability=settings.augmentation,
                    spacing=None if spacings is None else spacings[place],
                )
            )
        mean = float(step.total) / len(images)
        number = len(state.epochs) + 1
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean} in epoch {number}")
        metric = 1.0 - mean if settings.loss == "soft_dice" else -mean
        state.finish(Epoch(number, mean, metric, learning_rate, time.monotonic() - started))
        if checkpoint is not None:
            state.save(checkpoint)
        if on_epoch is not None:
            on_epoch(list(state.epochs))
    state.model.load_state_dict(state.best)
    return Trained(state.model.eval(), state.epochs, state.trained_on)
