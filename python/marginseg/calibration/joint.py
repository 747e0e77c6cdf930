"""Methods that take all channels of a voxel together, fitted by fiducio: softmax(W log p + b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.calibration.sample import VoxelSample

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
        p = torch.stack([channel.reshape(-1) for channel in given]).double().clamp_(0.0, 1.0)
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


def fit_jointly(sample: VoxelSample, method: str) -> LogAffine:
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
    if not sample.seen.all():
        missing = ", ".join(str(channel) for channel in np.flatnonzero(sample.seen == 0))
        raise ValueError(
            "cases: expected voxels of every channel's class with more than one channel above 0, "
            f"got none of {missing}"
        )
    # A fit needs gradients, also for who is not training.
    with torch.inference_mode(False), torch.enable_grad():
        return _fitted(sample, method, fiducio)


def _fitted(sample: VoxelSample, method: str, fiducio: Any) -> LogAffine:
    rows = torch.from_numpy(np.concatenate(sample.drawn)).float()
    sums = rows.sum(1, keepdim=True)
    if not bool(((sums - 1).abs() < SUM_TOLERANCE).all()):
        raise ValueError(f"probabilities: expected a softmax, whose channels sum to 1: {method}")
    # Those of half types do so but for their rounding, which fiducio would refuse.
    rows /= sums
    sizes = np.array([len(one) for one in sample.drawn])
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
    bias = found["bias"].double().numpy() - np.log(sizes / sample.seen)
    return LogAffine(tuple(map(tuple, weight.tolist())), tuple((bias - bias.mean()).tolist()))


def _row(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    ):
        raise TypeError("no numbers")
    try:
        return tuple(float(value) for value in values)
    except OverflowError:
        raise TypeError("no numbers that float64 holds") from None
