"""The step that trains: against the obvious loop, and captured on a GPU."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from marginseg import UNet, cross_entropy, soft_dice
from marginseg.training.state import TrainingSettings
from marginseg.training.step import CapturedStep, Step, adam, allocate_state, ieee_float32
from marginseg.training.train import predict, train
from marginseg.training.unet import InstanceNorm

pytestmark = pytest.mark.usefixtures("one_thread")

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")

SETTINGS = TrainingSettings(
    features=(4, 8), epochs=6, learning_rate=3e-3, augmentation=0.0, plateau_patience=100
)
DEVICES = ["cpu", pytest.param("cuda", marks=on_gpu)]


def _cases(count: int = 6) -> tuple[list[Tensor], list[Tensor]]:
    source = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij"))
    labels, images = [], []
    for _ in range(count):
        centre = (6 + 4 * torch.rand(3, generator=source)).reshape(3, 1, 1, 1)
        label = ((grid - centre) ** 2).sum(0) < 20
        labels.append(label.to(torch.uint8))
        images.append(label + 0.7 * torch.randn(label.shape, generator=source))
    return images, labels


def _obvious_loop(images: list[Tensor], labels: list[Tensor], loss: str) -> list[float]:
    """What one would write first: float32, torch's instance norm, torch's Adam; the same order."""
    generator = torch.Generator().manual_seed(SETTINGS.seed)
    torch.manual_seed(SETTINGS.seed)
    network = UNet(3, features=SETTINGS.features)
    share = (sum(int(x.sum()) for x in labels) + 0.5) / (sum(x.numel() for x in labels) + 1.0)
    nn.init.constant_(network.output.bias, float(torch.logit(torch.tensor(share))))
    for block in (*network.encoder, *network.decoder):
        for place, layer in enumerate(block):
            if isinstance(layer, InstanceNorm):
                block[place] = nn.InstanceNorm3d(len(layer.weight), affine=True)
    optimiser = torch.optim.Adam(
        network.parameters(), SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay
    )
    criterion = {"cross_entropy": cross_entropy, "soft_dice": soft_dice}[loss]
    curve = []
    for _ in range(SETTINGS.epochs):
        losses = []
        for place in torch.randperm(len(images), generator=generator).tolist():
            # What the augmentation would draw.
            torch.rand(10, generator=generator, dtype=torch.float64)
            optimiser.zero_grad()
            value = criterion(network(images[place][None, None]), labels[place][None, None])
            value.backward()
            optimiser.step()
            losses.append(value.item())
        curve.append(sum(losses) / len(losses))
    return curve


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", ["cross_entropy", "soft_dice"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.01)])
def test_same_loss_curve_as_the_obvious_loop(
    device: str, loss: str, precision: str, tolerance: float
) -> None:
    """Within the precision: bfloat16 has 8 bits, a relative rounding of 2^-9, over 36 steps."""
    images, labels = _cases()
    settings = dataclasses.replace(SETTINGS, loss=loss, precision=precision)
    curve = [epoch.loss for epoch in train(images, labels, settings, device=device).epochs]
    expected = _obvious_loop(images, labels, loss)
    assert all(later < earlier for earlier, later in pairwise(expected))
    assert expected[-1] < 0.8 * expected[0]
    assert curve == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_allocating_adams_state_changes_no_step(device: str) -> None:
    def stepped(*, early: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2).to(device)
        optimiser = adam(model, 0.1, 0.01)
        if early:
            allocate_state(optimiser)
            assert all(not v.any() for p in model.parameters() for v in optimiser.state[p].values())
        for _ in range(3):
            optimiser.zero_grad()
            model(torch.ones(4, 3, device=device)).square().sum().backward()
            optimiser.step()
            allocate_state(optimiser)  # leaves what is there alone
        return [parameter.detach().clone() for parameter in model.parameters()]

    for one, other in zip(stepped(early=True), stepped(early=False), strict=True):
        assert torch.equal(one, other)


def test_float32_is_no_tf32_on_a_gpu() -> None:
    """From the first convolution to the last gradient, and only so long."""
    settings = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    seen: list[tuple[str, ...]] = []

    class Watched(nn.Linear):
        def forward(self, value: Tensor) -> Tensor:
            see = lambda *_: seen.append(tuple(s.fp32_precision for s in settings))  # noqa: E731
            see()
            result = super().forward(value)
            result.register_hook(see) if result.requires_grad else None
            return result

    before = [setting.fp32_precision for setting in settings]
    model = Watched(8, 8)
    step = Step(model, adam(model, 0.1, 0.0), soft_dice, torch.float32)
    image, label = torch.rand(8, 8, 8), torch.ones(8, 8, 8, dtype=torch.uint8)
    step(image, label)
    predict(model, image, precision="float32")
    assert seen == [("ieee", "ieee")] * 3
    assert [setting.fp32_precision for setting in settings] == before != ["ieee", "ieee"]


def test_threads_do_not_take_ieee_from_each_other() -> None:
    """The first one to leave must not put TF32 back while another computes."""
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with ieee_float32():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=other)
    with ieee_float32():
        thread.start()
        assert entered.wait(10)
    assert conv.fp32_precision == "ieee"
    left.set()
    thread.join()
    assert conv.fp32_precision == before


class _Stream(NamedTuple):
    """Stands in for a stream of CUDA."""

    name: str
    priority: int = 0

    def wait_stream(self, other: _Stream) -> None:
        """Streams of one queue are in order."""


class _Cuda:
    """Stands in for what a capture asks of CUDA: kernels run at once, and a replay does nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, current: _Stream) -> None:
        self.current, self.captured_on = current, []
        cuda = self

        class Graph:
            def capture_begin(self, capture_error_mode: str) -> None:
                assert capture_error_mode == "thread_local"
                cuda.captured_on.append(cuda.current)

            def capture_end(self) -> None:
                pass

            def replay(self) -> None:
                pass

        @contextmanager
        def on(stream: _Stream) -> Iterator[None]:
            before, self.current = self.current, stream
            yield
            self.current = before

        def refuse(*_: object) -> None:
            raise AssertionError("it waits for the whole device, which breaks another's capture")

        replacements = {
            "current_stream": lambda device: self.current,
            "default_stream": lambda device: _Stream("default"),
            "Stream": lambda device, priority: _Stream("new", priority),
            "stream": on,
            "CUDAGraph": Graph,
            "synchronize": refuse,
        }
        for name, replacement in replacements.items():
            monkeypatch.setattr(torch.cuda, name, replacement)


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (_Stream("of a worker"), _Stream("of a worker")),
        (_Stream("default"), _Stream("new", -1)),
    ],
)
def test_a_graph_is_captured_on_the_stream_of_its_thread(
    monkeypatch: pytest.MonkeyPatch, current: _Stream, expected: _Stream
) -> None:
    """No other's kernels are on it; the default one has a stand-in of another priority."""
    cuda = _Cuda(monkeypatch, current)
    model = nn.Linear(8, 8)
    step = CapturedStep(model, adam(model, 0.1, 0.0), soft_dice, torch.float32)
    step(torch.rand(8, 8, 8), torch.ones(8, 8, 8, dtype=torch.uint8))
    assert cuda.captured_on == [expected]
    assert cuda.current == current


@on_gpu
def test_threads_train_side_by_side_on_a_gpu() -> None:
    """Each on a stream of its own; the curves are those of training alone."""
    images, labels = _cases()
    settings = [
        dataclasses.replace(SETTINGS, loss=loss, seed=seed, augmentation=0.5)
        for loss in ("cross_entropy", "soft_dice")
        for seed in range(2)
    ]
    alone = [[e.loss for e in train(images, labels, s, device="cuda").epochs] for s in settings]
    together: list[list[float]] = [[] for _ in settings]

    def work(place: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            trained = train(images, labels, settings[place], device="cuda")
        together[place] = [epoch.loss for epoch in trained.epochs]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(settings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, rel=0.01)
