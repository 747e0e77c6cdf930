"""Whatever torch's default device is, results are those of the tensors' own device.

Nothing can be computed on the device ``meta``: what is made without a device named fails there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import marginseg
from marginseg.training.augmentation import augment
from marginseg.training.state import TrainingSettings
from marginseg.training.train import train

SHAPE = (8, 10, 12)


def _label() -> Tensor:
    label = torch.zeros(SHAPE, dtype=torch.uint8, device="cpu")
    label[2:6, 2:7, 3:8] = 1
    return label


def _map() -> Tensor:
    generator = torch.Generator("cpu").manual_seed(1)
    return torch.rand(SHAPE, generator=generator, device="cpu")


def _noise() -> marginseg.GaussianFieldNoise:
    return marginseg.GaussianFieldNoise(std=0.05, spatial_dims=3)


def _generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(0)


def _trained() -> list[Tensor]:
    settings = TrainingSettings(features=(2, 4), epochs=2, precision="float32")
    trained = train([_map()], [_label()], settings)
    losses = torch.tensor([epoch.loss for epoch in trained.epochs], device="cpu")
    return [losses, *trained.model.parameters()]


CALLS: dict[str, Callable[[], Any]] = {
    "sample": lambda: _noise().sample(_label(), 2, generator=_generator()),
    "displacement": lambda: _noise().displacement(SHAPE, generator=_generator()),
    "convolution": lambda: _noise().displacement(
        SHAPE, generator=_generator(), method="convolution"
    ),
    "marginals": lambda: _noise().marginals(_label()),
    "marginals of classes": lambda: _noise().marginals(_label(), classes=[0, 1]),
    "expected volume": lambda: _noise().expected_volume(_label()),
    "volume loss": lambda: _noise().volume_loss(_label()),
    "sample and folds": lambda: _noise().sample_folded(_label(), 2, generator=_generator()),
    "folded share": lambda: marginseg.folded_share(
        _noise().displacement(SHAPE, 2, generator=_generator())
    ),
    "warp": lambda: marginseg.warp(
        _map(), _noise().displacement(SHAPE, generator=_generator()), mode="reflect"
    ),
    "filter": lambda: marginseg.gaussian_filter(_map(), 1.0, mode="mirror"),
    "threshold": lambda: marginseg.optimal_threshold(_map()),
    "segmentation": lambda: marginseg.optimal_segmentation(_map().half()),
    "accuracy": lambda: marginseg.optimal_segmentation(_map(), "accuracy"),
    "labels": lambda: marginseg.optimal_labels(torch.softmax(_map(), 0)),
    "cut": lambda: marginseg.cut(_map().bfloat16(), 0.3),
    "curve": lambda: marginseg.dice_curve(_map()),
    "cross-entropy": lambda: marginseg.cross_entropy(_map(), _label()),
    "soft Dice": lambda: marginseg.soft_dice(_map(), _label()),
    "Dice": lambda: marginseg.dice(_label(), _map() > 0.5),
    "bias": lambda: marginseg.volume_bias(_label(), _map() > 0.5),
    "calibration": lambda: marginseg.expected_calibration_error(_map(), _label()),
    "augmentation": lambda: augment(_map(), _label(), generator=_generator(), probability=1.0),
    "training": _trained,
}


@pytest.mark.parametrize("name", list(CALLS))
def test_no_result_depends_on_the_default_device(name: str) -> None:
    expected = CALLS[name]()
    with torch.device("meta"):
        found = CALLS[name]()
    if isinstance(expected, Tensor):
        expected, found = [expected], [found]
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


def test_nor_do_derivatives() -> None:
    def gradient() -> Tensor:
        image = _map().requires_grad_()
        field = _noise().displacement(SHAPE, generator=_generator())
        moved = marginseg.warp(marginseg.gaussian_filter(image, 0.7, mode="wrap"), field)
        moved.square().sum().backward()
        assert image.grad is not None
        return image.grad

    expected = gradient()
    with torch.device("meta"):
        assert torch.equal(gradient(), expected)
