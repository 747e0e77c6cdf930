"""One run: train a U-Net (§5.3), go on from a checkpoint, predict."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from marginseg.files.atomic import replacing
from marginseg.losses import cross_entropy, soft_dice
from marginseg.training.augmentation import augment
from marginseg.training.step import (
    CapturedStep,
    Criterion,
    Step,
    adam,
    channels_last,
    ieee_float32,
    logits_of,
)
from marginseg.training.unet import UNet

LOSSES = ("cross_entropy", "soft_dice")
PRECISIONS = ("auto", "bfloat16", "float32")
COMPUTING_PRECISIONS = PRECISIONS[1:]
UNKNOWN = "unknown"
DEVICES = ("auto", "cpu", "cuda")
SCHEDULES = ("plateau", "cosine")

#: What changes in torch's scheduler of plateaus.
SCHEDULER = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")

#: Initial weights come from torch's global generator, which threads share.
_initialising = threading.Lock()

_CRITERIA: dict[str, Criterion] = {
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
        learning_rate: Adam's, in the first epoch.
        weight_decay: L2 penalty.
        schedule: ``"plateau"``: the learning rate falls where the training metric no longer rises;
            ``"cosine"``: it falls from epoch to epoch as half a cosine, towards 0 after the last.
            Where epochs are few, a network comes to rest only so.
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
    schedule: str = "plateau"
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
class TrainedOn:
    """What computed a training.

    Attributes:
        device: ``"cpu"``, or what the GPU is called; ``UNKNOWN`` where nobody wrote it down.
        precision: The dtype of the convolutions, one of ``COMPUTING_PRECISIONS``, or ``UNKNOWN``.

    """

    device: str
    precision: str


@dataclass(frozen=True)
class Trained:
    """The model of the best training metric, in evaluation mode, and how it came to be.

    What it was trained on is one device in one precision, unless it went on elsewhere.
    """

    model: UNet
    epochs: list[Epoch]
    trained_on: list[TrainedOn]


def computing_device(device: str = "auto") -> torch.device:
    """Return where to train: for ``"auto"`` the GPU that torch calls current, if there is one.

    Raises:
        ValueError: ``device`` is unknown, or there is no GPU.

    Example:
        >>> computing_device("cpu")
        device(type='cpu')

    """
    if device not in DEVICES:
        raise ValueError(f"device: expected one of {', '.join(DEVICES)}, got {device!r}")
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise ValueError("device: torch finds no GPU for 'cuda'")
    return torch.device("cuda" if present and device != "cpu" else "cpu")


def computing_dtype(precision: str = "auto", device: torch.device | str = "cpu") -> torch.dtype:
    """Return the dtype of the network's convolutions.

    ``"auto"`` is bfloat16 where the device computes in it: GPUs of compute capability 8.0 or later,
    CPUs with AMX or AVX512-BF16. There it is faster than float32, also with the convolutions of
    :mod:`marginseg.training.convolution`.

    Raises:
        ValueError: ``precision`` is unknown.

    Example:
        >>> computing_dtype("float32")
        torch.float32

    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        if torch.device(device).type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            cpu: Any = torch.cpu
            probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
            native = any(getattr(cpu, probe, bool)() for probe in probes)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def training_on(precision: str = "auto", device: torch.device | str = "cpu") -> TrainedOn:
    """Return what computes a training on a device.

    Raises:
        ValueError: ``precision`` is unknown.

    Example:
        >>> training_on("float32")
        TrainedOn(device='cpu', precision='float32')

    """
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return TrainedOn(name, str(computing_dtype(precision, device)).removeprefix("torch."))


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
    state = _State(images, labels, settings, device)
    if checkpoint is not None and not state.load(checkpoint):
        # Some of what was no checkpoint may be in the state already.
        state = _State(images, labels, settings, device)
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


class _State:
    """All that training changes: what a checkpoint has to hold."""

    def __init__(
        self,
        images: Sequence[Tensor],
        labels: Sequence[Tensor],
        settings: TrainingSettings,
        device: torch.device,
    ) -> None:
        if settings.loss not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {settings.loss!r}")
        if settings.schedule not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise ValueError(f"schedule: expected one of {known}, got {settings.schedule!r}")
        self.settings = settings
        self.generator = torch.Generator("cpu").manual_seed(settings.seed)
        dims = images[0].ndim
        with _initialising, torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(settings.seed)
            model = UNet(spatial_dims=dims, features=settings.features)
        # Half a voxel more, of one voxel more: the share is within (0, 1) also for labels that are
        # all empty or all full, and has a logit.
        voxels = sum(label.numel() for label in labels)
        volume = sum(int(label.count_nonzero()) for label in labels)
        share = (volume + 0.5) / (voxels + 1.0)
        bias = model.output.bias
        if bias is not None:
            nn.init.constant_(bias, math.log(share / (1.0 - share)))
        self.model: UNet = model.to(device, memory_format=channels_last(dims))  # type: ignore[call-overload]
        self.optimiser = adam(self.model, settings.learning_rate, settings.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser,
            mode="max",
            factor=settings.plateau_factor,
            patience=settings.plateau_patience,
        )
        self.epochs: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self.trained_on: list[TrainedOn] = []

    @property
    def learning_rate(self) -> float:
        """Adam's; a tensor on a GPU."""
        return float(self.optimiser.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def finish(self, epoch: Epoch) -> None:
        if all(epoch.metric > earlier.metric for earlier in self.epochs):
            self.best = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.epochs.append(epoch)
        if self.settings.schedule == "plateau":
            self.scheduler.step(epoch.metric)
        else:
            done = len(self.epochs) / self.settings.epochs
            self.learning_rate = self.settings.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict()["state"],
            "learning_rate": self.learning_rate,
            "scheduler": {
                key: value for key, value in self.scheduler.state_dict().items() if key in SCHEDULER
            },
            "generator": self.generator.get_state(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "trained_on": [asdict(place) for place in self.trained_on],
        }
        with replacing(path) as file:
            torch.save(state, file)

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint, and return whether that could be done; no file is no hindrance.

        A file may be damaged, or hold anything: then the state is good for nothing.
        """
        device = next(self.model.parameters()).device
        try:
            self._take(torch.load(path, weights_only=True, map_location=device))
        except FileNotFoundError:
            return True
        except Exception:  # zip, unpickler, and whatever takes the wrong thing apart
            return False
        return True

    def _take(self, saved: dict[str, Any]) -> None:
        """Take over what `save` has written.

        Raises:
            Exception: It is anything else.

        """
        epochs = [Epoch(**epoch) for epoch in saved["epochs"]]
        if [epoch.epoch for epoch in epochs] != list(range(1, len(epochs) + 1)) or not epochs:
            raise ValueError("epochs: expected them from the first on")
        if _shapes(saved["best"]) != _shapes(self.model.state_dict()):
            raise ValueError("best: expected the network's parameters")
        self.model.load_state_dict(saved["model"])
        self.best = saved["best"]
        # The checkpoint says where Adam was. How it works (fused, capturable) depends on the device
        # and stays as it is here.
        moments = [_shapes(of) for _, of in sorted(saved["optimiser"].items())]
        if moments != [
            {"step": (), "exp_avg": (*p.shape,), "exp_avg_sq": (*p.shape,)}
            for p in self.model.parameters()
        ]:
            raise ValueError("optimiser: expected Adam's moments of each parameter")
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": saved["optimiser"], "param_groups": groups})
        self.learning_rate = float(saved["learning_rate"])
        if saved["scheduler"].keys() != set(SCHEDULER):
            raise ValueError(f"scheduler: expected {', '.join(SCHEDULER)}")
        self.scheduler.load_state_dict(saved["scheduler"])
        self.generator.set_state(saved["generator"].cpu())
        self.epochs = epochs
        unknown = [asdict(TrainedOn(UNKNOWN, UNKNOWN))]
        self.trained_on = [TrainedOn(**place) for place in saved.get("trained_on", unknown)]


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: (*tensor.shape,) for name, tensor in tensors.items()}
