"""One run: train a U-Net (§5.3), go on from a checkpoint, predict."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from marginseg.atomic import replacing
from marginseg.augmentation import augment
from marginseg.losses import cross_entropy, soft_dice
from marginseg.unet import UNet

LOSSES = ("cross_entropy", "soft_dice")
PRECISIONS = ("auto", "bfloat16", "float32")

_CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "soft_dice": soft_dice,
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained; the defaults are §5.3's.

    Attributes:
        loss: ``"cross_entropy"`` or ``"soft_dice"``.
        features: Channels of the U-Net's levels.
        epochs: Passes over the cases, batch 1.
        learning_rate: Adam's.
        weight_decay: L2 penalty.
        plateau_patience: Epochs without improvement before the learning rate falls.
        plateau_factor: By which it is then multiplied.
        augmentation: Probability of each augmentation.
        precision: See :func:`computing_dtype`.
        seed: Of initial weights, order and augmentation.

    """

    loss: str = "cross_entropy"
    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    epochs: int = 100
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    plateau_patience: int = 30
    plateau_factor: float = 0.2
    augmentation: float = 0.5
    precision: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training cases gave.

    Attributes:
        epoch: Its number, from 1.
        loss: Mean over the pass.
        metric: What the best model is chosen by, larger is better: the soft Dice, 1 − loss, for
            soft-Dice; the log-likelihood a voxel, −loss, for cross-entropy. Dice at ½ would not
            do: under strong noise it is 0 for the best of cross-entropy's minimisers.
        learning_rate: During the pass.
        seconds: That it took; no part of comparisons.

    """

    epoch: int
    loss: float
    metric: float
    learning_rate: float
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Trained:
    """The model of the best training metric, in evaluation mode, and how it came to be."""

    model: UNet
    epochs: list[Epoch]


def computing_dtype(precision: str = "auto") -> torch.dtype:
    """Return the dtype of the network's convolutions.

    ``"auto"`` is bfloat16 where the CPU computes in it (AMX or AVX512-BF16). One step of the small
    U-Net (8-16-32, 32³, batch 1, one thread) took 26 ms with it and 284 ms without: for a batch of
    one and one thread, torch has no fast float32 convolution in 3-D.

    Raises:
        ValueError: ``precision`` is unknown.

    Example:
        >>> computing_dtype("float32")
        torch.float32

    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        cpu: Any = torch.cpu
        probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        native = any(getattr(cpu, probe, bool)() for probe in probes)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def predict(model: nn.Module, image: Tensor, *, precision: str = "auto") -> Tensor:
    """Return the foreground probability of every voxel.

    Args:
        model: Maps (1, 1, *spatial) to logits of the same shape.
        image: Shape (*spatial), float32.
        precision: As in training.

    Returns:
        float32 tensor of the image's shape, within [0, 1].

    """
    with torch.inference_mode():
        return torch.sigmoid(_logits(model, image, precision)[0, 0])


def train(
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    settings: TrainingSettings,
    *,
    spacings: Sequence[Sequence[float]] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[list[Epoch]], None] | None = None,
) -> Trained:
    """Train a U-Net on pairs of images and labels.

    Adam with an L2 penalty, batch 1, the learning rate divided after a plateau of the training
    metric; the model of the best training metric is what comes back. The output's bias starts at
    the logit of the labels' mean: cross-entropy is then calibrated in its background from the
    start.

    With a ``checkpoint`` its state is written there after every epoch, and where the file is there
    already, training goes on from it: on the CPU the result has the same bits as one that was
    never interrupted (for the same number of threads). A file that cannot be read is ignored.

    Args:
        images: Each (*spatial), float32, all of one shape.
        labels: Each of its image's shape, 0 and 1.
        settings: How to train.
        spacings: Voxel sizes of each case, for the rotations; None: equal along all axes.
        checkpoint: File to go on from and to write.
        on_epoch: Called with all epochs so far, after each one.

    Raises:
        ValueError: There are no images, their number is not the labels', or a setting is unknown.
        FloatingPointError: The loss is no longer finite.

    """
    if not images or len(images) != len(labels):
        raise ValueError(
            f"labels: expected one for each of 1 or more images, got {len(images)} images and "
            f"{len(labels)} labels"
        )
    state = _State(images, labels, settings)
    if checkpoint is not None:
        state.load(checkpoint)
    criterion = _CRITERIA[settings.loss]
    while len(state.epochs) < settings.epochs:
        started = time.monotonic()
        learning_rate = float(state.optimiser.param_groups[0]["lr"])
        total = 0.0
        order = torch.randperm(len(images), generator=state.generator).tolist()
        for place in order:
            image, label = augment(
                images[place],
                labels[place],
                generator=state.generator,
                probability=settings.augmentation,
                spacing=None if spacings is None else spacings[place],
            )
            logits = _logits(state.model, image, settings.precision)
            loss = criterion(logits, label[None, None])
            state.optimiser.zero_grad()
            loss.backward()
            state.optimiser.step()
            total += loss.item()
        mean = total / len(images)
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
    return Trained(state.model.eval(), state.epochs)


def _logits(model: nn.Module, image: Tensor, precision: str) -> Tensor:
    dtype = computing_dtype(precision)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        return model(image[None, None]).float()


class _State:
    """All that training changes: what a checkpoint has to hold."""

    def __init__(
        self, images: Sequence[Tensor], labels: Sequence[Tensor], settings: TrainingSettings
    ) -> None:
        if settings.loss not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {settings.loss!r}")
        self.generator = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = UNet(spatial_dims=images[0].ndim, features=settings.features)
        # Within (0, 1) for labels that are all empty or all full.
        voxels = sum(label.numel() for label in labels)
        volume = sum(int(label.count_nonzero()) for label in labels)
        share = (volume + 0.5) / (voxels + 1.0)
        bias = self.model.output.bias
        if bias is not None:
            nn.init.constant_(bias, math.log(share / (1.0 - share)))
        self.optimiser = torch.optim.Adam(
            self.model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser,
            mode="max",
            factor=settings.plateau_factor,
            patience=settings.plateau_patience,
        )
        self.epochs: list[Epoch] = []
        self.best: dict[str, Tensor] = {}

    def finish(self, epoch: Epoch) -> None:
        if all(epoch.metric > earlier.metric for earlier in self.epochs):
            self.best = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.epochs.append(epoch)
        self.scheduler.step(epoch.metric)

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }
        with replacing(path) as file:
            torch.save(state, file)

    def load(self, path: Path) -> None:
        try:
            saved = torch.load(path, weights_only=True)
        except FileNotFoundError:
            return
        except Exception:  # a damaged archive raises whatever zip and unpickler raise
            return
        self.model.load_state_dict(saved["model"])
        self.best = saved["best"]
        self.optimiser.load_state_dict(saved["optimiser"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.generator.set_state(saved["generator"])
        self.epochs = [Epoch(**epoch) for epoch in saved["epochs"]]
