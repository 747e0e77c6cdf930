"""What is timed: an op on some input, and the peers that do the same work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Call = Callable[[], Any]


class Size(NamedTuple):
    """A cube of ``edge`` voxels, or a batch of such cubes."""

    edge: int
    batch: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (*((self.batch,) if self.batch else ()), *(self.edge,) * 3)

    @property
    def cubes(self) -> int:
        return self.batch or 1

    @property
    def voxels(self) -> int:
        return self.cubes * self.edge**3

    @property
    def name(self) -> str:
        return f"{self.batch}×{self.edge}³" if self.batch else f"{self.edge}³"

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``64`` or ``32x64``."""
        batch, _, edge = text.strip().rpartition("x")
        return cls(int(edge), int(batch or 0))


class Work(NamedTuple):
    """What no implementation can leave out: bytes to move and multiply-adds to do."""

    moved_bytes: float
    multiply_adds: float


class DifferenceError(Exception):
    """A peer's result does not resemble ours, so the times would not compare the same work."""


class MissingPeerError(Exception):
    """A peer's package is not installed."""


def optional(module: str) -> Any:
    """Import a peer; nothing but its own rows needs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPeerError(f"{module.partition('.')[0]} is not installed ({error})") from error


@dataclass(frozen=True)
class Peer:
    """Another way of doing what the case does.

    Attributes:
        name: Package and function.
        setting: The options it is given, and why.
        prepare: Makes the call that is timed; what it needs once is done here, untimed.
        check: Gets our result and the peer's; returns how they agree, or raises `DifferenceError`.
        power: How its time grows with the edge of the cube; 4 where its kernel grows too.
        note: Where its work differs from ours.
        targets: By edge of a single cube, the ratio peer / ours that is aimed at.
        yardstick: Not a rival, only something to measure by.

    """

    name: str
    setting: str
    prepare: Callable[[], Call]
    check: Callable[[Any, Any], str]
    power: float = 3.0
    note: str = ""
    targets: Mapping[int, float] = field(default_factory=dict)
    yardstick: bool = False


@dataclass(frozen=True)
class Case:
    """One op on one input."""

    op: str
    setting: str
    ours: Call
    peers: tuple[Peer, ...]
    work: Work


def organ(size: Size) -> Tensor:
    """Return a smooth bent body, uint8, a tenth of each cube; all cubes of a batch are alike."""
    axis = (torch.arange(size.edge, dtype=torch.float32) + 0.5) / size.edge - 0.5
    z, y, x = axis[:, None, None], axis[:, None], axis
    across = (x - 0.05 + 0.9 * z**2) / 0.25
    body = (z / 0.34) ** 2 + (y / 0.28) ** 2 + across**2 < 1.0
    return body.to(torch.uint8).expand(size.shape).contiguous()


def box_extents(label: Tensor) -> tuple[int, int, int]:
    """Return the edges of the bounding box of the label's last three axes."""
    body = label.reshape(-1, *label.shape[-3:]).any(dim=0)
    edges = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        inside = torch.nonzero(body.any(dim=others[1]).any(dim=others[0]))
        edges.append(int(inside[-1]) - int(inside[0]) + 1)
    return edges[0], edges[1], edges[2]


def separable_multiply_adds(extents: tuple[int, int, int], radius: int, edge: int) -> float:
    """Return the multiply-adds of three passes over a box that each pass widens by the radius.

    Of the orders of the axes, the cheapest counts.
    """
    taps = 2 * radius + 1
    best = float("inf")
    for order in permutations(range(3)):
        grown = list(extents)
        total = 0
        for axis in order:
            grown[axis] = min(edge, grown[axis] + 2 * radius)
            total += taps * grown[0] * grown[1] * grown[2]
        best = min(best, float(total))
    return best


def as_array(result: Any) -> np.ndarray[Any, Any]:
    """Return a tensor or an array, on whatever device, as float64."""
    if isinstance(result, Tensor):
        result = result.detach().double().cpu()
    elif hasattr(result, "__cuda_array_interface__"):
        result = result.get()  # CuPy's copies to the host are never implicit
    return np.asarray(result, dtype=np.float64)


def largest_difference(limit: float, margin: int = 0) -> Callable[[Any, Any], str]:
    """Return a check that two volumes differ nowhere by more than ``limit``.

    ``margin`` leaves out so many voxels at the borders, where peers extend the volume otherwise.
    """
    inner = slice(margin, -margin if margin else None)

    def check(ours: Any, peer: Any) -> str:
        difference = np.abs(as_array(ours) - as_array(peer).reshape(np.shape(ours)))
        worst = float(difference[..., inner, inner, inner].max())
        if not worst <= limit:
            raise DifferenceError(f"differs by up to {worst:.2g}, more than {limit:g}")
        return f"max |difference| {worst:.1e}"

    return check
