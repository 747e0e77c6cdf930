"""Classes that exclude each other: the label map whose mean Dice, or F_beta, is to be largest."""

from __future__ import annotations

import math
from typing import Any, Generic, Literal, NamedTuple

import torch
from torch import Tensor

from marginseg.arrays import Array, as_tensor, like
from marginseg.axes import spatial_axes
from marginseg.numbers import integer
from marginseg.ops.assign_labels import MOST_CHANNELS, assign_labels
from marginseg.ops.boundary import FLOATING_DTYPES, computing_dtype
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.ops.overlap import beta_of
from marginseg.values import transformed, within_unit

#: Of IoU the mean over classes is another one than that of Dice, and accuracy has no classes.
METRICS = ("dice", "fbeta")

#: A climb ends when so many passes have not made the mean larger by as much, or after most. A class
#: that can't be worth as much is given nothing: its gains would drown in the rounding of float32.
PATIENCE, LEAST_GAIN, MOST_PASSES = 2, 1e-6, 20

#: A first climb that ends so near the bound is not followed by a second one.
SMALL_GAP = 1e-4

#: Voxels matter that a class may gain by while its overlap is this share of what it can be at most.
SHARE = 0.25

#: Where more of the map matters, all of it is gone through: it is not worth the copy.
MANY = 0.25

#: Gains of maps in float32 are computed in it.
ROUNDING = 1e-5


class OptimalLabels(NamedTuple, Generic[Array]):
    """What :func:`optimal_labels` returns: tensors, or NumPy arrays of a NumPy array.

    Attributes:
        labels: The class of every voxel, (*batch, *spatial), uint8; int16 for more than 255.
        value: The mean over the foreground classes of the Dice, or F_beta, that they expect,
            (*batch,), float64.
        bound: What no assignment can exceed: the mean of the classes' own suprema, (*batch,),
            float64.

    """

    labels: Array
    value: Array
    bound: Array


def optimal_labels(
    probabilities: Array,
    *,
    metric: Literal["dice", "fbeta"] = "dice",
    beta: float | None = None,
    background: int | None = 0,
    spatial_dims: int | None = None,
) -> OptimalLabels[Array]:
    r"""Give every voxel one class, so that the mean Dice of the classes is expected to be large.

    Of one class, the best segmentation is a cut at its t*. Of classes that exclude each other it
    is not, for cuts overlap. The mean of :math:`D_c = 2\sum_{v \in s_c} m_c\,/\,(|s_c| + \|m_c\|)`
    changes, where a voxel joins class c, by the gain

    .. math:: g_c = (2 m_c - D_c)\,/\,(|s_c| + \|m_c\|)

    to first order. Begun with each class's own best cut, every voxel goes to the class of the
    largest gain, or to the background where no gain is positive; with the new :math:`D_c` and
    :math:`|s_c|` again, as long as the mean grows. A second climb begins with the map's argmax,
    unless the first one has ended within 1e-4 of the bound, and the best of all is returned.
    Without a background there are two argmaxes: of all voxels, and of those with a class above ½.
    So the value is never below the argmax's, save by less than 1e-4 where it is as near to the
    bound. There is no proof that no better assignment exists; the bound says how much more there
    can be at most.

    For F_beta the gain is :math:`((1 + \beta^2) m_c - F_c)\,/\,(|s_c| + \beta^2 \|m_c\|)`.

    Args:
        probabilities: m, shape (*batch, K, *spatial), floating, within [0, 1]: a softmax, say. The
            values of a voxel need not sum to 1. Many cases are a batch: ``torch.vmap`` does not
            make one.
        metric: ``"dice"`` or ``"fbeta"``.
        beta: How much recall counts beside precision, within [1e-9, 1e9], where the metric is
            ``"fbeta"``; None for Dice.
        background: Its channel; voxels of no class get its number, and each other its channel's.
            None: no channel is the background's; channel i is class i + 1, and voxels of no class
            get 0.
        spatial_dims: How many trailing axes are spatial; the default is all but the first one. Of
            four axes or more it has to be given: 3 for one case (K, Z, Y, X), 2 for a batch
            (N, K, Y, X).

    Returns:
        :class:`OptimalLabels`. A class without mass has Dice 1 where no voxel has it, as none will.
        One whose Dice can't be expected to reach 1e-6 is left out, and has Dice 0.
        One that is absent, but has an even probability that is not as small, may be given voxels of
        the background, for they cost nothing there: ``min_probability`` of a
        :class:`marginseg.rule.Rule` takes them out.

    Raises:
        TypeError: ``probabilities`` is no floating tensor or array, or ``beta`` no number.
        ValueError: It holds NaN or values outside [0, 1] by more than rounding, as for
            :func:`optimal_threshold`; it has no foreground channel; an argument is needed or out of
            its range; ``"fbeta"`` has no beta, or Dice has one.
        NotImplementedError: It is called under ``torch.vmap``, or asked for a derivative.

    Example:
        >>> import torch
        >>> background, organ, tumour = [0.5, 0.5, 0.9], [0.1, 0.4, 0.1], [0.4, 0.1, 0.0]
        >>> best = optimal_labels(torch.tensor([background, organ, tumour]))
        >>> best.labels  # argmax would leave it empty
        tensor([2, 1, 0], dtype=torch.uint8)
        >>> round(float(best.value), 3), round(float(best.bound), 3)
        (0.517, 0.517)

    """
    weighed = beta_of(metric, beta, METRICS)
    values, n, background = _checked(probabilities, background, spatial_dims)
    split = values.ndim - n
    batch, spatial = values.shape[: split - 1], values.shape[split:]
    # The results have no derivative, in silence; but who asks torch.func for one would get zeros.
    values = values if transformed() else values.detach()
    channels = values.shape[split - 1]
    maps = values.reshape(math.prod(batch), channels, math.prod(spatial))
    # A GPU takes many cases at once; cores take one after the other, each with the voxels that
    # matter. To the same bits: what is found of a case does not depend on those beside it.
    parts = maps.split(1) if maps.is_cpu and len(maps) > 1 else (maps,)
    found = [_Climber(part, background, weighed).best() for part in parts]
    labels, value, bound = (torch.cat(results) for results in zip(*found, strict=True))
    return OptimalLabels(
        like(probabilities, labels.reshape(*batch, *spatial)),
        like(probabilities, value.reshape(batch)),
        like(probabilities, bound.reshape(batch)),
    )


class _State(NamedTuple):
    """Dice, or F_beta, and volume of each channel, (cases, K), from which gains follow."""

    value: Tensor
    volume: Tensor


class _Climber:
    """Cases, (cases, K, voxels), whose voxels change their classes."""

    def __init__(self, maps: Tensor, background: int | None, beta: float) -> None:
        self.maps = maps
        self.weight = beta * beta
        self.dtype = computing_dtype(maps.dtype)
        self.fallback = -1 if background is None else background
        channels = maps.shape[1]
        self.foreground = [channel for channel in range(channels) if channel != background]
        # One channel at a time: a core that reads no half types would copy them all.
        found = [
            dice_threshold(maps[:, channel], spatial_dims=1, beta=beta)
            for channel in range(channels)
        ]
        self.own = _State(
            torch.stack([best.dice for best in found], 1),
            torch.stack([best.volume for best in found], 1).double(),
        )
        # With a single channel, which every voxel joins, the op's mass is that of the whole map.
        zero = self.own.value.new_zeros(len(maps), 1, dtype=self.dtype)
        mass = torch.cat(
            [
                assign_labels(maps[:, channel, None], zero, zero, floor=-1.0).mass
                for channel in range(channels)
            ],
            1,
        )
        self.weighted_mass = self.weight * mass
        # The op's masses are cut down to units, and so may be 0 where the solver sees some.
        self.empty = self.own.volume == 0
        self.left_out = self.empty | (self.own.value < LEAST_GAIN)
        self.least = torch.where(self.left_out, 0.0, SHARE * self.own.value)[:, self.foreground]
        self.near = self._near()

    def _near(self) -> tuple[Tensor, Tensor] | None:
        r"""Return the voxels that any class may gain by, and their maps; None if they are many.

        A voxel gains nothing where :math:`m_c \le F_c / (1 + \beta^2)` for all classes. So as
        long as each :math:`F_c` is at least a share of its supremum, most of the background can
        be left out. No voxel joins a class that is left out.
        """
        if len(self.maps) != 1 or self.maps.shape[2] == 0:
            return None
        maps = self.maps[0]
        near = torch.zeros_like(maps[0], dtype=torch.bool)
        bounds = self.least / (1.0 + self.weight)
        bounds.masked_fill_(self.left_out[:, self.foreground], torch.inf)
        bounds = _rounded_down(bounds[0], maps.dtype)
        for channel, bound in zip(self.foreground, bounds, strict=True):
            near |= maps[channel] > bound
        places = near.nonzero()[:, 0]
        if len(places) > MANY * len(near):
            return None
        return places, maps[:, places][None]

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best labels, (cases, voxels), their mean value, and its bound."""
        found = self._climb(self.own)
        far = self.mean(self.own.value) - found[1] > SMALL_GAP
        if bool(far.any()):
            # Without a background, an argmax may leave voxels to none where no class has half.
            for floor in (-1.0,) if self.fallback >= 0 else (0.5, -1.0):
                plain, state = self._argmax(floor)
                found = _better(found, (plain, self.mean(state.value)), far)
                found = _better(found, self._climb(state), far)
        return *found, self.mean(self.own.value)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the foreground's channels."""
        return values[:, self.foreground].mean(-1)

    def _climb(self, state: _State) -> tuple[Tensor, Tensor]:
        """Move voxels until the mean no longer grows; return the best labels, and theirs.

        Many voxels move at a time, each as if it were alone, and what all of them take goes too
        far: the next pass begins half-way between the last two. Full steps go round in circles.
        """
        labels, moved = self._moved(state)
        best = labels, self.mean(moved.value)
        idle = torch.zeros_like(best[1])
        for _ in range(MOST_PASSES):
            state = _State(*((old + new) / 2 for old, new in zip(state, moved, strict=True)))
            labels, moved = self._moved(state)
            reached = self.mean(moved.value)
            climbing = idle < PATIENCE
            idle = torch.where(reached > best[1] + LEAST_GAIN, 0.0, idle + 1).where(climbing, idle)
            best = _better(best, (labels, reached), climbing)
            if bool((idle >= PATIENCE).all()):
                break
        return best

    def _moved(self, state: _State) -> tuple[Tensor, _State]:
        """Let every voxel join the class of its largest gain."""
        total = state.volume + self.weighted_mass
        scale = torch.where(total > 0, (1.0 + self.weight) / total, 0.0)
        # Nothing joins a class without mass, whose value is 1 as it is; the background takes what
        # nobody else wants.
        joined = (total > 0) & ~self.left_out
        offset = torch.where(joined, state.value / total, torch.inf)
        if self.fallback >= 0:
            scale[:, self.fallback], offset[:, self.fallback] = 0.0, torch.inf
        return self._assigned(scale, offset, 0.0, near=self._suffices(state))

    def _suffices(self, state: _State) -> bool:
        """Whether no voxel gains but those that are near, rounding included."""
        values = state.value[:, self.foreground]
        return self.near is not None and bool((values >= (1.0 + ROUNDING) * self.least).all())

    def _argmax(self, floor: float) -> tuple[Tensor, _State]:
        """Let every voxel join its most probable class, as everyone labels a map."""
        ones = torch.ones_like(self.weighted_mass)
        return self._assigned(ones, torch.zeros_like(ones), floor, near=False)

    def _assigned(
        self, scale: Tensor, offset: Tensor, floor: float, *, near: bool
    ) -> tuple[Tensor, _State]:
        places, maps = self.near if near and self.near else (None, self.maps)
        voxels = self.maps.shape[2]
        labels, volume, mass = assign_labels(
            maps,
            scale.to(self.dtype),
            offset.to(self.dtype),
            fallback=self.fallback,
            floor=floor,
            part_of=voxels,
        )
        if places is not None:
            rest = labels.new_full((1, voxels), max(self.fallback, 0))
            labels = rest.index_copy_(1, places, labels)
        total = volume + self.weighted_mass
        value = torch.where(total > 0, (1.0 + self.weight) * mass / total, 0.0)
        value = torch.where(self.empty & (volume == 0), 1.0, value)
        # Where the total is cut down, their quotient could end above what any segmentation has.
        return labels, _State(torch.minimum(value, self.own.value), volume.double())


def _better(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], among: Tensor
) -> tuple[Tensor, Tensor]:
    """Return of each case the labels of the larger value; the second's only of some cases.

    So what is found of a case does not depend on those beside it.
    """
    better = among & (second[1] > first[1])
    return (
        torch.where(better[:, None], second[0], first[0]),
        torch.where(better, second[1], first[1]),
    )


def _rounded_down(bounds: Tensor, dtype: torch.dtype) -> Tensor:
    """Return positive numbers in a map's dtype, in which they are compared with it."""
    rounded = bounds.to(dtype)
    below = torch.nextafter(rounded, torch.zeros_like(rounded))
    return torch.where(rounded.double() > bounds, below, rounded)


def _checked(
    probabilities: Any, background: int | None, spatial_dims: int | None
) -> tuple[Tensor, int, int | None]:
    """Return the values, how many axes are spatial, and the background's channel from the first."""
    values = as_tensor("probabilities", probabilities)
    if transformed() and torch._C._functorch.is_batchedtensor(values):
        raise NotImplementedError(
            "optimal_labels: expected a batch as leading axes, with spatial_dims, got one of vmap"
        )
    if values.dtype not in FLOATING_DTYPES:
        raise TypeError(f"probabilities: expected a floating dtype, got {values.dtype}")
    if values.ndim < 2:
        shape = tuple(values.shape)
        raise ValueError(f"probabilities: expected an axis of channels before others, got {shape}")
    if spatial_dims is None and values.ndim == 4:
        raise ValueError(
            f"spatial_dims: needed for shape {tuple(values.shape)}: "
            "3 for one case (K, Z, Y, X), 2 for a batch (N, K, Y, X)"
        )
    n = spatial_axes(values.shape[1:], spatial_dims)
    channels = values.shape[-n - 1]
    if background is not None:
        background = integer("background", background)
        if not 0 <= background < channels:
            raise ValueError(f"background: expected 0 to {channels - 1}, got {background}")
    least = 1 if background is None else 2
    if not least <= channels <= MOST_CHANNELS:
        raise ValueError(
            f"probabilities: expected {least} to {MOST_CHANNELS} channels, got {channels}"
        )
    return within_unit("probabilities", values), n, background
