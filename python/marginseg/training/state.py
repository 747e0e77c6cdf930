"""All that training changes, and the checkpoint that holds it."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from marginseg.files.atomic import replacing
from marginseg.training.device import UNKNOWN, TrainedOn
from marginseg.training.step import adam, channels_last
from marginseg.training.unet import UNet

LOSSES = ("cross_entropy", "soft_dice")
SCHEDULES = ("plateau", "cosine")

#: What changes in torch's scheduler of plateaus.
SCHEDULER = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")

#: Initial weights come from torch's global generator, which threads share.
_initialising = threading.Lock()


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


class State:
    """All that training changes: what a checkpoint has to hold.

    Args:
        images: Each (*spatial); only how many axes they have is asked.
        labels: 0 and 1; the output's bias starts at the logit of their mean.
        settings: How to train.
        device: Where to train.

    Raises:
        ValueError: The loss or the schedule is unknown.

    """

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
        """Keep what an epoch gave, the weights if they are the best, and set the next rate."""
        if all(epoch.metric > earlier.metric for earlier in self.epochs):
            self.best = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.epochs.append(epoch)
        if self.settings.schedule == "plateau":
            self.scheduler.step(epoch.metric)
        else:
            done = len(self.epochs) / self.settings.epochs
            self.learning_rate = self.settings.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
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
