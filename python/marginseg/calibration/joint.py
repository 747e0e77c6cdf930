"""Methods that take all channels of a voxel together, fitted by fiducio: softmax(W log p + b)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.calibration.maps import mask_of, probabilities_of, tensor_of

#: Each method's calibrator in fiducio, and what it is made with. Dirichlet calibration is matrix
#: scaling of log p with a penalty on what is off the diagonal (Kull et al. 2019); one on the
#: intercepts, which they have too, would pull them towards those of the sample.
JOINT_METHODS: dict[str, tuple[str, dict[str, float]]] = {
    "vector": ("VectorScaling", {}),
    "matrix": ("MatrixScaling", {}),
    "dirichlet": ("DirichletCalibration", {"lambda_reg": 1e-2}),
}

#: fiducio takes what is less for this.
LEAST = 1e-12

#: How far from 1 the channels of a softmax may sum, after rounding to half types.
SUM_TOLERANCE = 0.02

#: Larger weights or biases are nobody's fit, and sums of several might overflow.
LARGEST = 1e9


@dataclass(frozen=True)
class LogAffine:
    """All channels p of a voxel go to softmax(weight · log p + bias).

    A channel of exactly 0 stays 0, and where the background is 1 and all others are 0, as outside a
    network's crop, all stay as they are.

    Attributes:
        weight: C rows of C numbers.
        bias: C numbers.

    """

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.bias)
        if count < 2 or [len(row) for row in self.weight] != [count] * count:
            raise ValueError("calibration: expected a weight (C, C) and a bias (C,), C >= 2")
        numbers = np.array([*self.weight, self.bias])
        if not (np.abs(numbers) < LARGEST).all():  # NaN fails too
            raise ValueError(f"calibration: expected weights and biases below {LARGEST:g}")

    @property
    def channels(self) -> int:
        """C."""
        return len(self.bias)

    def write(self, *channels: Tensor) -> None:
        """Write what the first C of a piece go to into the other C, or into themselves."""
        given, targets = channels[: self.channels], channels[self.channels :]
        p = torch.stack([channel.reshape(-1) for channel in given]).double()
        if p.device.type == "cpu":
            found = torch.from_numpy(self.of_array(p.numpy()))
        else:
            found = self.of_tensor(p)
        for target, values in zip(targets, found, strict=True):
            target.copy_(values.view(target.shape))

    def of_array(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what voxels (C, N) go to."""
        logits = np.array(self.weight) @ np.log(np.maximum(p, LEAST))
        logits += np.array(self.bias)[:, None]
        logits[p == 0] = -np.inf
        most = logits.max(0)
        logits -= np.where(np.isfinite(most), most, 0.0)
        found = np.exp(logits, out=logits)
        found /= np.maximum(found.sum(0), np.finfo(np.float64).tiny)
        # What there is in one channel alone, wholly or not, stays.
        return np.where((p > 0).sum(0) > 1, found, p)

    def of_tensor(self, p: Tensor) -> Tensor:
        """Return the same of a float64 tensor, on any device."""
        weight = torch.tensor(self.weight, dtype=torch.float64, device=p.device)
        bias = torch.tensor(self.bias, dtype=torch.float64, device=p.device)
        logits = weight @ p.clamp_min(LEAST).log_() + bias[:, None]
        logits.masked_fill_(p == 0, -torch.inf)
        return torch.where((p > 0).sum(0) > 1, torch.softmax(logits, 0), p)

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"weight": [list(row) for row in self.weight], "bias": list(self.bias)}

    @classmethod
    def from_state(cls, state: Any) -> LogAffine:
        """Return what :meth:`state` described.

        Raises:
            ValueError: It is not what :meth:`state` returns.

        """
        try:
            return cls(tuple(_row(row) for row in state["weight"]), _row(state["bias"]))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"calibration: expected a weight and a bias, got {state!r:.80}"
            ) from error


class VoxelSample:
    """Voxels of many cases, drawn at random: of each class as many, or all that there are.

    Plain draws would have hardly a voxel of a small class. What is drawn from a class more seldom
    than from others only moves the intercepts, by the logarithm of how seldom (Prentice and Pyke
    1979), which is taken back after the fit.
    """

    def __init__(self, channels: int, voxels: int, seed: int) -> None:
        self.most = max(1, voxels // channels)
        self.random = np.random.default_rng(seed)
        self.drawn: list[NDArray[np.floating[Any]]] = [np.zeros((0, channels))] * channels
        self.seen = np.zeros(channels, np.int64)

    def add(self, probabilities: Tensor, labels: Tensor) -> None:
        """Draw from one case, (C, *spatial); labels are the channel of each voxel's class.

        What is in one channel alone, wholly, is left out, for it stays as it is.
        """
        several = torch.zeros(labels.shape, dtype=torch.int16, device=labels.device)
        for one in probabilities:
            several += one > 0
        labels = torch.where(several > 1, labels, -1).reshape(-1)
        for channel in range(len(probabilities)):
            (where,) = torch.nonzero(labels == channel, as_tuple=True)
            new, old = len(where), int(self.seen[channel])
            if new == 0:
                continue
            kept, size = self.drawn[channel], min(self.most, old + new)
            fresh = self._fresh(new, old, size)
            picked = torch.from_numpy(self.random.choice(new, fresh, replace=False))
            voxels: Any = torch.unravel_index(where[picked.to(where.device)], several.shape)
            values = probabilities[:, *voxels].T.double().cpu().numpy()
            stay = self.random.choice(len(kept), size - fresh, replace=False)
            self.drawn[channel] = np.concatenate([kept[stay], values])
            self.seen[channel] += new

    def _fresh(self, new: int, old: int, size: int) -> int:
        """Return how many of ``size`` are new, as a draw from all voxels at once would have it."""
        if new + old <= size:
            return new
        if new + old < 10**9:
            return int(self.random.hypergeometric(new, old, size))
        # NumPy draws from no more; of so many, it hardly matters that one is not drawn twice.
        return min(int(self.random.binomial(size, new / (new + old))), new)

    def fit(self, method: str) -> LogAffine:
        """Fit weights and intercepts.

        Raises:
            ModuleNotFoundError: fiducio is not installed.
            ValueError: A class has no voxel.

        """
        try:
            import fiducio
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"method: {method} needs fiducio; pip install 'marginseg[calibration]'"
            ) from error
        if not self.seen.all():
            missing = ", ".join(str(channel) for channel in np.flatnonzero(self.seen == 0))
            raise ValueError(f"cases: expected voxels of every channel's class, none has {missing}")
        rows = torch.from_numpy(np.concatenate(self.drawn)).float()
        sums = rows.sum(1, keepdim=True)
        if not bool(((sums - 1).abs() < SUM_TOLERANCE).all()):
            raise ValueError(
                f"probabilities: expected a softmax, whose channels sum to 1: {method}"
            )
        # Those of half types do so but for their rounding, which fiducio would refuse.
        rows /= sums
        sizes = np.array([len(one) for one in self.drawn])
        labels = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
        name, settings = JOINT_METHODS[method]
        calibrator = getattr(fiducio, name)(
            input_type="probs", optimizer="lbfgs", max_iter=500, device="cpu", **settings
        )
        calibrator.fit(rows, labels)
        found = calibrator._get_state()
        weight = found["weight"].double().numpy()
        if weight.ndim == 1:
            weight = np.diag(weight)
        bias = found["bias"].double().numpy() - np.log(sizes / self.seen)
        return LogAffine(tuple(map(tuple, weight.tolist())), tuple((bias - bias.mean()).tolist()))


def sampled(
    cases: Iterable[tuple[Any, Any, Any]],
    channels: tuple[int, ...],
    background: int,
    *,
    voxels: int,
    seed: int,
) -> VoxelSample:
    """Draw voxels of cases (probabilities, targets, mask), all channels of each.

    Raises:
        ValueError: Maps have other channels, targets are soft or overlap, or there is no case.

    """
    count = len(channels) + 1
    sample = VoxelSample(count, voxels, seed)
    for probabilities, targets, mask in cases:
        maps, held = probabilities_of(probabilities), tensor_of("targets", targets)
        if len(maps) != count:
            raise ValueError(f"probabilities: expected {count} channels, got {len(maps)}")
        if held.shape != (count - 1, *maps.shape[1:]):
            expected = (count - 1, *maps.shape[1:])
            raise ValueError(f"targets: expected shape {expected}, got {tuple(held.shape)}")
        labels = torch.full(maps.shape[1:], background, dtype=torch.int16, device=maps.device)
        taken = torch.zeros(maps.shape[1:], dtype=torch.bool, device=maps.device)
        for channel, one in zip(channels, held.to(maps.device), strict=True):
            there = one.bool()
            if not bool((one == there).all()):
                raise ValueError("targets: expected labels, got soft ones; see the other methods")
            if bool((taken & there).any()):
                raise ValueError("targets: expected classes that exclude each other, got overlaps")
            taken |= there
            labels[there] = channel
        if mask is not None:
            labels[~mask_of(mask, maps)] = -1
        sample.add(maps, labels)
    return sample


def _row(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    ):
        raise TypeError("no numbers")
    try:
        return tuple(float(value) for value in values)
    except OverflowError:
        raise TypeError("no numbers that float64 holds") from None
