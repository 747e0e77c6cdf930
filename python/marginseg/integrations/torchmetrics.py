"""torchmetrics: whether another threshold than ½ would help, told in every epoch.

Needs torchmetrics: ``pip install 'marginseg[torchmetrics]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from marginseg.metrics import dice
from marginseg.numbers import integer, number
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.threshold import cut
from marginseg.values import WIDER, extent

#: The thresholds among which the best single one is sought, unless others are named.
HUNDREDTHS = tuple(hundredth / 100 for hundredth in range(1, 100))

#: What the Dice of a class may be that a case's label lacks.
EMPTY = ("one", "nan", "skip")

#: What is summed up over cases.
MEANS = ("dice_at_half", "dice_at_optimum", "dice_promised", "threshold_at_optimum", "worse")


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
    - ``worst_change``: the smallest of all differences of a case, Dice at t\* minus Dice at ½. With
      ``empty="nan"``, rightly empty beside what is painted counts as 1 in these two.

    Each stands there for each class, as ``dice_at_half/liver``, and without a class as the mean
    over the classes; ``worst_change`` is the smallest of them. A class of no counted case is NaN,
    and no part of the means.

    Args:
        classes: The names of the channels, or how many there are: then they are named 0, 1, ....
        empty: What the Dice of a class is that a case's label lacks. ``"one"``: 1 if nothing is
            segmented either, else 0. ``"nan"``: left out if nothing is segmented either, else 0, as
            nnU-Net does. ``"skip"``: left out whatever is segmented, as MONAI does.
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

    sums: Tensor
    counts: Tensor
    curve: Tensor
    curve_counts: Tensor
    worst_change: Tensor
    settings: Tensor

    def __init__(
        self,
        classes: int | Sequence[str],
        *,
        empty: Literal["one", "nan", "skip"] = "one",
        thresholds: Sequence[float] = HUNDREDTHS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes = _names(classes)
        if empty not in EMPTY:
            raise ValueError(f"empty: expected one of {', '.join(EMPTY)}, got {empty!r}")
        self.empty = empty
        grid = [number("thresholds", threshold) for threshold in thresholds]
        if not grid or grid != sorted(set(grid)) or not (grid[0] > 0 and grid[-1] <= 1):
            raise ValueError("thresholds: expected increasing numbers within (0, 1]")
        self.thresholds = tuple(grid)
        count = len(self.classes)
        for name, columns in (("sums", len(MEANS)), ("curve", len(grid))):
            self.add_state(name, _float64([[0.0] * columns] * count), dist_reduce_fx="sum")
        for name, columns in (("counts", len(MEANS)), ("curve_counts", len(grid))):
            self.add_state(name, _float64([[0.0] * columns] * count), dist_reduce_fx="sum")
        self.add_state("worst_change", _float64([torch.inf] * count), dist_reduce_fx="min")
        # A MetricCollection has metrics whose states are equal after the first batch updated as
        # one. Those of other settings may be equal by chance, and are told apart by this one.
        settings = _float64([EMPTY.index(empty), *grid])
        self.add_state("settings", settings, dist_reduce_fx="max")

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
        probabilities, target = self._checked(probabilities, target)
        n = probabilities.ndim - 2
        best = dice_threshold(probabilities, spatial_dims=n, check=True)
        at_half = self._dice(cut(probabilities, 0.5), target)
        at_optimum = self._dice(cut(probabilities, best.threshold), target)
        left_out = at_optimum.isnan()
        # What only one of the two has segmented where the label has nothing is a loss, or a gain.
        neither = left_out & at_half.isnan()
        change = (at_optimum.nan_to_num(1.0) - at_half.nan_to_num(1.0)).masked_fill(
            neither, torch.nan
        )
        worse = (change < 0).double().masked_fill(change.isnan(), torch.nan)
        promised = best.dice.masked_fill(left_out, torch.nan)
        threshold = best.threshold.masked_fill(left_out, torch.nan)
        columns = torch.stack([at_half, at_optimum, promised, threshold, worse], 2)
        self.sums += columns.nansum(0)
        self.counts += (~columns.isnan()).sum(0)
        least = change.nan_to_num(torch.inf).amin(0) if len(change) else self.worst_change
        self.worst_change = torch.minimum(self.worst_change, least)
        for case, label in zip(probabilities, target, strict=True):
            for channel in range(len(self.classes)):
                curve = self._curve(case[channel], label[channel])
                self.curve[channel] += curve.nan_to_num(0.0)
                self.curve_counts[channel] += ~curve.isnan()

    def compute(self) -> dict[str, Tensor]:
        """Return the means over all cases; the class says which."""
        curve = self.curve / self.curve_counts
        known = curve.nan_to_num(-1.0)
        grid = self._grid()
        best = known == known.amax(1, keepdim=True)
        single = (grid - 0.5).abs().where(best, torch.inf).argmin(1)
        at_single = curve.gather(1, single[:, None])[:, 0]
        of_classes = dict(zip(MEANS, (self.sums / self.counts).unbind(1), strict=True))
        of_classes["dice_at_single"] = at_single
        of_classes["threshold_at_single"] = grid[single].masked_fill(at_single.isnan(), torch.nan)
        result = {name: values.nanmean() for name, values in of_classes.items()}
        worst = self.worst_change.masked_fill(self.worst_change.isinf(), torch.nan)
        least = self.worst_change.amin()
        result["worst_change"] = least.masked_fill(least.isinf(), torch.nan)
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
        return torch.tensor(self.thresholds, dtype=torch.float64, device=self.sums.device)

    def _checked(self, probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return both as plain tensors, of dtypes that can be computed with.

        What is computed from a subclass, such as MONAI's ``MetaTensor``, is of that subclass: the
        states would be, then the results, and then the checkpoints that they are saved in.
        """
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
        probabilities, target = (given.as_subclass(Tensor) for given in (probabilities, target))
        target = target.to(WIDER.get(target.dtype, target.dtype))
        if target.dtype is not torch.bool and target.numel():
            low, high = torch.stack(torch.aminmax(target)).tolist()
            if not (low >= 0 and high <= 1):  # NaN fails too
                raise ValueError(
                    f"target: expected values within [0, 1], got {extent(low, high)}; a label map "
                    "of many classes needs a channel for each"
                )
        return probabilities, target

    def _dice(self, segmentation: Tensor, target: Tensor) -> Tensor:
        """Return Dice of each case and class, NaN where it is left out."""
        found = dice(segmentation, target, spatial_dims=target.ndim - 2)
        if self.empty == "one":
            return found
        out = ~(target.flatten(2) > 0).any(2)
        if self.empty == "nan":
            out &= ~segmentation.flatten(2).any(2)
        return found.masked_fill(out, torch.nan)

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
        size = m.sum(dtype=torch.float64)
        total = above[1] + size
        if self.empty == "skip":
            total = total.where(size > 0, 0.0)
        neither = 1.0 if self.empty == "one" else torch.nan
        return torch.where(total > 0, 2.0 * above[0] / total, neither)


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
