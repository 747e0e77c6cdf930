"""One step of training: forwards, backwards, and the optimiser; on a GPU as a captured graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    on_gpu = next(model.parameters()).is_cuda
    rate = torch.tensor(learning_rate, device="cuda") if on_gpu else learning_rate
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
        with _capturing, _fastest_convolutions():
            allocate_state(self.optimiser)
            stream, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(stream)
            with torch.cuda.stream(side):
                # These passes compute gradients and take no step, so that the result is the same
                # with and without a capture.
                for _ in range(WARM_UP):
                    self._differentiate(self._image, self._label)
            stream.wait_stream(side)
            self.optimiser.zero_grad()
            graph = torch.cuda.CUDAGraph()
            # Other threads go on training on this device meanwhile, and may call what a capture
            # forbids to its own thread.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                super().__call__(self._image, self._label)
            return graph


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
