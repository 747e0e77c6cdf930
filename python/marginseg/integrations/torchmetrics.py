"""torchmetrics: whether another threshold than ½ would help, told in every epoch.

Needs torchmetrics: ``pip install 'marginseg[torchmetrics]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from marginseg.metrics import dice
from marginseg.numbers import integer, number
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.threshold import cut

#: The thresholds among which the best single one is sought, unless others are named.
HUNDREDTHS = tuple(hundredth / 100 for hundredth in range(1, 100))


class DiceAtOptimum(Metric):
    r"""Mean Dice of a validation set: at ½, at each t\*, and at the best single threshold.

    Every class is cut for itself. A case is one entry of a batch: whole cases go in, for a patch
    has another t\* than the volume from which it was cut. All that is kept are sums over cases, so
    any number of them takes the same memory, and processes add theirs up.

    :meth:`compute` returns a dictionary of scalars, the means over cases:

    - ``dice_at_half``: Dice of {p >= ½}.
    - ``dice_at_optimum``: Dice of {p >= t\*}, t\* found from each case's map alone.
    - ``dice_promised``: sup D, what the map says that the cut at t\* will reach. Far above
      ``dice_at_optimum``, the map's values are no probabilities: it is not calibrated.
    - ``threshold_at_optimum``: t\*.
    - ``dice_at_single``, ``threshold_at_single``: the threshold that would have been the best one
      for all cases, and its Dice. It was chosen with the labels that it is scored on, so on other
      cases it reaches less.
    - ``worse``: the share of cases in which Dice at t\* is below Dice at ½.
    - ``worst_change``: the smallest of all differences of a case, Dice at t\* minus Dice at ½.

    Each stands there for each class, as ``dice_at_half/liver``, and without a class as the mean
    over the classes; ``worst_change`` is the smallest of them. A class of no counted case is NaN,
    and no part of the means.

    Args:
        classes: The names of the channels, or how many there are: then they are named 0, 1, ....
        empty: What Dice is where label and segmentation are both empty, within [0, 1]. None: cases
            whose label is empty are not counted for the class, as MONAI and nnU-Net do.
        thresholds: Among which the best single one is sought, increasing, within (0, 1]; the
            default is 0.01, 0.02, ... 0.99. Of several with the same Dice, the nearest to ½ counts.
        **kwargs: Those of ``torchmetrics.Metric``.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: An argument is out of its range.

    Example:
        >>> import torch
        >>> metric = DiceAtOptimum(classes=["tube"])
        >>> probabilities = torch.tensor([0.9, 0.4, 0.4, 0.1]).reshape(1, 1, 4)
        >>> metric.update(probabilities, torch.tensor([1, 1, 0, 0]).reshape(1, 1, 4))
        >>> found = metric.compute()
        >>> [round(float(found[f"dice_at_{cut}"]), 3) for cut in ("half", "optimum", "single")]
        [0.667, 0.8, 0.8]
        >>> round(float(found["dice_promised/tube"]), 3)
        0.708

    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    cases: Tensor
    at_half: Tensor
    at_optimum: Tensor
    promised: Tensor
    threshold: Tensor
    worse: Tensor
    worst_change: Tensor
    curve: Tensor

    def __init__(
        self,
        classes: int | Sequence[str],
        *,
        empty: float | None = 1.0,
        thresholds: Sequence[float] = HUNDREDTHS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes = _names(classes)
        self.empty = None if empty is None else number("empty", empty)
        if self.empty is not None and not 0 <= self.empty <= 1:
            raise ValueError(f"empty: expected None or a number within [0, 1], got {empty}")
        grid = [number("thresholds", threshold) for threshold in thresholds]
        if not grid or grid != sorted(set(grid)) or not (grid[0] > 0 and grid[-1] <= 1):
            raise ValueError("thresholds: expected increasing numbers within (0, 1]")
        self.thresholds = tuple(grid)
        count = len(self.classes)
        for name in ("cases", "at_half", "at_optimum", "promised", "threshold", "worse"):
            self.add_state(name, _float64([0.0] * count), dist_reduce_fx="sum")
        self.add_state("curve", _float64([[0.0] * len(grid)] * count), dist_reduce_fx="sum")
        self.add_state("worst_change", _float64([torch.inf] * count), dist_reduce_fx="min")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        """Count the cases of a batch.

        Args:
            probabilities: (batch, classes, *spatial), floating, within [0, 1].
            target: The labels, of the same shape: bool or 0 and 1; or soft, such as marginals or
                the mean of several raters.

        Raises:
            TypeError: An argument is no tensor, or ``probabilities`` not floating.
            ValueError: The shapes do not fit, or a value is outside [0, 1].

        """
        self._check(probabilities, target)
        n = probabilities.ndim - 2
        best = dice_threshold(probabilities, spatial_dims=n, check=True)
        size = target.flatten(2).sum(2, dtype=torch.float64)
        counted = size > 0 if self.empty is None else torch.ones_like(size, dtype=torch.bool)
        at_half = self._dice(cut(probabilities, 0.5), target)
        at_optimum = self._dice(cut(probabilities, best.threshold), target)
        # A map without mass promises what both empty is worth.
        promised = best.dice
        if self.empty is not None:
            promised = promised.where(best.volume > 0, self.empty)
        change = at_optimum - at_half

        def total(values: Tensor) -> Tensor:
            return values.where(counted, 0.0).sum(0, dtype=torch.float64)

        self.cases += total(torch.ones_like(size))
        self.at_half += total(at_half)
        self.at_optimum += total(at_optimum)
        self.promised += total(promised)
        self.threshold += total(best.threshold)
        self.worse += total((change < 0).double())
        least = change.where(counted, torch.inf).amin(0)
        self.worst_change = torch.minimum(self.worst_change, least)
        for case, label, of_case in zip(probabilities, target, counted, strict=True):
            for channel in of_case.nonzero().flatten().tolist():
                self.curve[channel] += self._curve(case[channel], label[channel])

    def compute(self) -> dict[str, Tensor]:
        """Return the means over all cases; the class says which."""
        curve = self.curve / self.cases[:, None]
        best = curve == curve.amax(1, keepdim=True)
        grid = self._grid()
        distance = (grid - 0.5).abs().where(best, torch.inf)
        single = distance.argmin(1)
        of_classes = {
            "dice_at_half": self.at_half / self.cases,
            "dice_at_optimum": self.at_optimum / self.cases,
            "dice_promised": self.promised / self.cases,
            "threshold_at_optimum": self.threshold / self.cases,
            "dice_at_single": curve.gather(1, single[:, None])[:, 0],
            "threshold_at_single": grid[single].where(self.cases > 0, torch.nan),
            "worse": self.worse / self.cases,
        }
        result = {name: values.nanmean() for name, values in of_classes.items()}
        worst = self.worst_change.where(self.cases > 0, torch.nan)
        some = worst[self.cases > 0]
        result["worst_change"] = some.min() if len(some) else worst.sum()
        of_classes["worst_change"] = worst
        for name, values in of_classes.items():
            for class_name, value in zip(self.classes, values, strict=True):
                result[f"{name}/{class_name}"] = value
        return result

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Any:
        """Move the sums where the module goes; they stay doubles, whatever its precision."""
        super()._apply(fn, exclude_state)
        for name, default in self._defaults.items():
            self._defaults[name] = default.double()
            setattr(self, name, getattr(self, name).double())
        return self

    def _grid(self) -> Tensor:
        return torch.tensor(self.thresholds, dtype=torch.float64, device=self.cases.device)

    def _check(self, probabilities: Tensor, target: Tensor) -> None:
        if not isinstance(target, Tensor) or not isinstance(probabilities, Tensor):
            kinds = f"{type(probabilities).__name__} and {type(target).__name__}"
            raise TypeError(f"probabilities, target: expected tensors, got {kinds}")
        shape, count = tuple(probabilities.shape), len(self.classes)
        if probabilities.ndim < 3 or shape[1] != count:
            raise ValueError(
                f"probabilities: expected shape (batch, {count}, *spatial), got {shape}"
            )
        if tuple(target.shape) != shape:
            raise ValueError(f"target: expected shape {shape}, got {tuple(target.shape)}")
        if target.dtype is not torch.bool and target.numel():
            low, high = torch.stack(torch.aminmax(target)).tolist()
            if not (low >= 0 and high <= 1):  # NaN fails too
                raise ValueError(
                    f"target: expected values within [0, 1], got {low:g} to {high:g}; a label map "
                    "of many classes needs a channel for each"
                )

    def _dice(self, segmentation: Tensor, target: Tensor) -> Tensor:
        """Return Dice of each case and class."""
        found = dice(segmentation, target, spatial_dims=target.ndim - 2)
        if self.empty is None or self.empty == 1.0:
            return found
        both_empty = ~(segmentation.flatten(2).any(2) | (target.flatten(2) > 0).any(2))
        return found.masked_fill(both_empty, self.empty)

    def _curve(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Return Dice of {p >= t} for every t of the grid, from a histogram between them."""
        p, m = probabilities.flatten(), target.flatten()
        # Most of a volume lies below all thresholds. The comparisons are exact: doubles hold p.
        near = cut(p, self.thresholds[0])
        grid = self._grid()
        place = torch.bucketize(p[near].double(), grid, right=True) - 1
        overlap = torch.zeros_like(grid).index_add_(0, place, m[near].double())
        volume = torch.bincount(place, minlength=len(grid)).double()
        above = torch.stack([overlap, volume]).flip(1).cumsum(1).flip(1)
        total = above[1] + m.sum(dtype=torch.float64)
        fallback = 1.0 if self.empty is None else self.empty
        return torch.where(total > 0, 2.0 * above[0] / total, fallback)


def _float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _names(classes: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str):
        raise TypeError(f"classes: expected a number or a sequence of names, got {classes!r}")
    if isinstance(classes, Sequence):
        names = tuple(str(name) for name in classes)
    else:
        names = tuple(str(channel) for channel in range(integer("classes", classes)))
    if not names or len(set(names)) != len(names):
        raise ValueError(f"classes: expected at least one, and names that differ, got {classes!r}")
    return names
