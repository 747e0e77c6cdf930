"""One step of training: forwards, backwards, and the optimiser; on a GPU as a captured graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Criterion = Callable[[Tensor, Tensor], Tensor]

#: Only one thread at a time captures a graph, or warms up for it: CUDA forbids that they meet.
_capturing = threading.Lock()

#: How many passes precede a capture. In the first ones libraries choose their kernels and allocate
#: their workspaces, which they must not do within it.
WARM_UP = 3


def logits_of(model: nn.Module, image: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the float32 logits of one image.

    Args:
        model: Maps (1, 1, *spatial) to logits of the same shape.
        image: Shape (*spatial), float32.
        dtype: What convolutions compute in: float32, or bfloat16 by autocast.

    """
    batch = image[None, None].contiguous(memory_format=channels_last(image.ndim))
    half = dtype is torch.bfloat16
    with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=half):
        logits: Tensor = model(batch)
    return logits.float()


def channels_last(spatial_dims: int) -> torch.memory_format:
    """Return the format in which bfloat16 convolutions are fastest, on CPUs and on GPUs."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def adam(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Adam:
    """Return Adam with an L2 penalty; on a GPU fit for capture, where its rate is a tensor."""
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    rate = torch.tensor(learning_rate, device=device) if on_gpu else learning_rate
    return torch.optim.Adam(
        model.parameters(), lr=rate, weight_decay=weight_decay, fused=True, capturable=on_gpu
    )


class Step:
    """Takes steps one by one, and adds up their losses.

    Args:
        model: To train.
        optimiser: Of its parameters.
        criterion: Gives the loss of logits and a label, both (1, 1, *spatial).
        dtype: What convolutions compute in.

    Attributes:
        total: The sum of the losses since it was last set to 0, 0-dim float64 on the model's
            device: nothing waits for it.

    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        criterion: Criterion,
        dtype: torch.dtype,
    ) -> None:
        self.model, self.optimiser = model, optimiser
        self.criterion, self.dtype = criterion, dtype
        device = next(model.parameters()).device
        self.total = torch.zeros((), dtype=torch.float64, device=device)

    def __call__(self, image: Tensor, label: Tensor) -> None:
        """Take one step on an image (*spatial) and its label of the same shape."""
        self.optimiser.zero_grad()
        loss = self._differentiate(image, label)
        self.optimiser.step()
        self.total += loss.detach()

    def _differentiate(self, image: Tensor, label: Tensor) -> Tensor:
        with ieee_float32():
            loss = self.criterion(logits_of(self.model, image, self.dtype), label[None, None])
            loss.backward()
        return loss


class CapturedStep(Step):
    """The same step as a CUDA graph: one launch instead of one a kernel.

    It is captured at the first call, on the shape that comes; all that come have the same. The
    parameters and the optimiser's state must stay where they are from then on.
    """

    _graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, image: Tensor, label: Tensor) -> None:
        """Take one step; queued on the current stream, like any kernel."""
        if self._graph is None:
            self._image, self._label = image.clone(), label.clone()
            self._graph = self._captured()
        self._image.copy_(image)
        self._label.copy_(label)
        self._graph.replay()

    def _captured(self) -> torch.cuda.CUDAGraph:
        device = self._image.device
        current, stream = torch.cuda.current_stream(device), capture_stream(device)
        graph = torch.cuda.CUDAGraph()
        with _capturing, _fastest_convolutions():
            allocate_state(self.optimiser)
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                # These passes compute gradients and take no step, so that the result is the same
                # with and without a capture.
                for _ in range(WARM_UP):
                    self._differentiate(self._image, self._label)
                self.optimiser.zero_grad()
                # Other threads go on training on this device meanwhile, and may call what a capture
                # forbids to its own thread. torch.cuda.graph would first wait for all of them, and
                # empty the caches that they allocate from.
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    super().__call__(self._image, self._label)
                finally:
                    graph.capture_end()
            current.wait_stream(stream)
        return graph


def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream to capture a graph on: the current one, or another for the default one.

    torch hands out 32 streams again and again. Whoever shares the stream of a capture finds its
    kernels in the graph, so the caller's own stream is the safe one. The default stream can't be
    captured; the one in its place is of high priority, for which torch has other streams.
    """
    current = torch.cuda.current_stream(device)
    if current != torch.cuda.default_stream(device):
        return current
    return torch.cuda.Stream(device, priority=-1)


_in_ieee = threading.Lock()
_users_of_ieee = 0
_before_ieee: list[str] = []


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Compute float32 as float32 on a GPU, for as long as any thread is within.

    cuDNN's default are the tensor cores' TF32, which have 10 bits of fraction. The setting is one
    for all threads of the process: the first one that comes makes it, and the last one that leaves
    puts back what was.
    """
    global _users_of_ieee  # noqa: PLW0603
    backends: Any = torch.backends  # annotated in part
    settings = backends.cudnn.conv, backends.cuda.matmul
    with _in_ieee:
        if _users_of_ieee == 0:
            _before_ieee[:] = [setting.fp32_precision for setting in settings]
            for setting in settings:
                setting.fp32_precision = "ieee"
        _users_of_ieee += 1
    try:
        yield
    finally:
        with _in_ieee:
            _users_of_ieee -= 1
            if _users_of_ieee == 0:
                for setting, precision in zip(settings, _before_ieee, strict=True):
                    setting.fp32_precision = precision


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN try its algorithms; a graph keeps the ones that were chosen."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def allocate_state(optimiser: torch.optim.Optimizer) -> None:
    """Make Adam's state, all zeros, without a step; it is left alone where it is there.

    Adam makes it in its first step. In a graph, each replay would set it to 0 again.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    if any(optimiser.state[p] for p in parameters):
        return
    rates = [group["lr"] for group in optimiser.param_groups]
    for group in optimiser.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if torch.is_tensor(group["lr"]) else 0.0
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad()
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate
    for parameter in parameters:
        for value in optimiser.state[parameter].values():
            value.zero_()
