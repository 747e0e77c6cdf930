"""Train a network with two losses, and see which rule each of them asks for.

Trains a small MONAI U-Net twice on the same scans, with Dice plus cross-entropy and with
cross-entropy alone. The softmax maps of cases that neither has seen are written as NIfTI, on the
scans' own grids, as MONAI's SaveImaged writes them; ``marginseg evaluate`` then says for each
network which rule turns its maps into the best segmentations.

The data is Task04_Hippocampus of the Medical Segmentation Decathlon (http://medicaldecathlon.com):
a folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``. The trainings need no GPU.

    pip install 'marginseg[monai]'
    python examples/hippocampus_monai.py Task04_Hippocampus -o hippocampus_maps
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader, decollate_batch
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import UNet
from monai.transforms import (
    AsDiscrete,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    SaveImaged,
    SpatialPadd,
)
from monai.utils import set_determinism
from torch import Tensor

from marginseg.integrations.monai import DiceOptimal

NAMES = ("anterior", "posterior")
CLASSES = 1 + len(NAMES)  # channel 0 is the background
BOTH = ("image", "label")

#: The largest scan is within it, and it halves twice.
SIZE = (48, 64, 48)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Take a label as MONAI's losses do: (batch, 1, *spatial), floating."""
    return torch.nn.functional.cross_entropy(logits, label[:, 0].long())


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dice_ce": DiceCELoss(softmax=True, to_onehot_y=True),
    "cross_entropy": cross_entropy,
}


def main() -> None:
    """Train with each loss, write the maps, and have them evaluated."""
    options = arguments()
    training, held_out = split(options.data, options.train, options.held_out, options.seed)
    print(f"{len(training)} cases to train with, {len(held_out)} held out")
    # Labels of the training are padded with their scans; those held out stay as they were drawn.
    seen = CacheDataset(training, before(padded=BOTH), progress=False)
    unseen = CacheDataset(held_out, before(padded=("image",)), progress=False)
    for name, loss in LOSSES.items():
        network = train(seen, loss, options.epochs, options.seed)
        maps = options.output / name
        argmax, optimal = write_maps(network, unseen, maps)
        print(f"{name}: Dice {argmax:.3f} by argmax, {optimal:.3f} by optimal labels; {maps}")
    for name in LOSSES:
        evaluate(options.output / name, options.data / "labelsTr")


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder Task04_Hippocampus")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the maps go")
    parser.add_argument("--train", type=int, default=60, help="cases to train with")
    parser.add_argument("--held-out", type=int, default=40, help="cases to write maps of")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in LOSSES:
        # Those of another network would be evaluated as if they were this one's.
        maps = options.output / name
        if any(maps.glob("*")):
            parser.error(f"--output: expected no maps of an earlier run, got {maps}")
    return options


def split(data: Path, train: int, held_out: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Deal the cases that have labels into those to train with and those held out."""
    listed = json.loads((data / "dataset.json").read_text(encoding="utf-8"))["training"]
    cases = [{key: str(data / case[key]) for key in BOTH} for case in listed]
    random.Random(seed).shuffle(cases)
    return cases[:train], cases[train : train + held_out]


def before(padded: tuple[str, ...]) -> Compose:
    """Return what is done to a case before the network sees it."""
    return Compose(
        [
            LoadImaged(BOTH),
            EnsureChannelFirstd(BOTH),
            NormalizeIntensityd("image"),
            SpatialPadd(padded, SIZE),
        ]
    )


def train(
    cases: CacheDataset, loss: Callable[[Tensor, Tensor], Tensor], epochs: int, seed: int
) -> UNet:
    """Train from the same start, in the same order, whatever the loss."""
    set_determinism(seed)
    network = UNet(
        spatial_dims=3, in_channels=1, out_channels=CLASSES, channels=(16, 32, 64), strides=(2, 2)
    )
    loader = DataLoader(cases, batch_size=2, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters())
    steps = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-2, total_steps=epochs * len(loader))
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            image, label = (batch[key].as_tensor() for key in BOTH)
            loss(network(image), label).backward()
            optimizer.step()
            steps.step()
    return network.eval()


@torch.no_grad()
def write_maps(network: UNet, cases: CacheDataset, folder: Path) -> tuple[float, float]:
    """Write a softmax map of each case; return the mean Dice by argmax and by optimal labels."""
    # The map takes the way of its scan back: here the padding is cut off again.
    after = Compose(
        [
            Invertd("map", cases.transform, orig_keys="image", nearest_interp=False),
            SaveImaged(
                "map",
                output_dir=folder,
                output_postfix="",  # so that a map has the name of its label
                separate_folder=False,
                print_log=False,
            ),
        ]
    )
    rules = (
        AsDiscrete(argmax=True, to_onehot=CLASSES),
        DiceOptimal(exclusive=True, to_onehot=CLASSES),
    )
    scores = [DiceMetric(include_background=False) for _ in rules]
    one_hot = AsDiscrete(to_onehot=CLASSES)
    for batch in DataLoader(cases, batch_size=1):
        batch["map"] = network(batch["image"]).softmax(dim=1)
        for case in map(after, decollate_batch(batch)):
            for rule, score in zip(rules, scores, strict=True):
                score([rule(case["map"])], [one_hot(case["label"])])
    argmax, optimal = (float(score.aggregate()) for score in scores)
    return argmax, optimal


def evaluate(maps: Path, labels: Path) -> None:
    """Ask the command line which rule is best for the maps."""
    command = ["evaluate", str(maps), str(labels), "--names", *NAMES, "-o", f"{maps}_evaluation"]
    print("\nmarginseg", *command, flush=True)
    program = "from marginseg_command import main; main()"
    subprocess.run([sys.executable, "-c", program, *command], check=True)


if __name__ == "__main__":
    main()
