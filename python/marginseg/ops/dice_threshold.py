"""The threshold at which Dice, or another F_beta, is largest, and its value at every threshold."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from marginseg.axes import spatial_axes
from marginseg.numbers import integer
from marginseg.ops.boundary import (
    DTYPE_CODES,
    FLOATING_DTYPES,
    check_devices,
    computing_dtype,
    core_of,
)
from marginseg.ops.library import implement, library, undispatched
from marginseg.ops.overlap import checked_beta
from marginseg.ops.transforms import (
    Arguments,
    batched,
    leading_batch,
    not_differentiable,
    one_by_one,
)
from marginseg.values import transformed, within_unit

Method = Literal["iterate", "sort"]
METHODS: tuple[Method, ...] = ("iterate", "sort")


class DiceThreshold(NamedTuple):
    r"""What :func:`dice_threshold` returns, one entry for each probability map.

    Attributes:
        threshold: t* = sup D / 2, float64. Segmentations are {m >= t*}. With a ``beta`` it is
            :math:`\sup F_\beta / (1 + \beta^2)`.
        dice: sup D, float64, the largest Dice that a segmentation can expect; with a ``beta``
            :math:`\sup F_\beta`.
        volume: Voxels of {m >= t*}, int64.

    """

    threshold: Tensor
    dice: Tensor
    volume: Tensor

    @property
    def iou(self) -> Tensor:
        r"""The largest soft IoU, :math:`D\,/\,(2 - D)`: the same segmentation has it.

        That is so of Dice. Of another F_beta it means nothing.
        """
        return self.dice / (2.0 - self.dice)


class DiceCurve(NamedTuple):
    """What :func:`dice_curve` returns: for each map, one entry a voxel, by descending threshold.

    Attributes:
        threshold: The map's values in descending order, of its dtype.
        dice: D of {m >= threshold}, float64; with a ``beta`` F_beta.
        volume: Voxels of {m >= threshold}, int64.

    """

    threshold: Tensor
    dice: Tensor
    volume: Tensor


def dice_threshold(
    probabilities: Tensor,
    *,
    spatial_dims: int,
    method: Method = "iterate",
    beta: float = 1.0,
    check: bool = False,
) -> DiceThreshold:
    r"""Find the threshold at which Dice is largest, for each case and channel.

    Under the marginals m, Dice :math:`D_m(s) = 2\int sm\,/\,(\|s\| + \|m\|)` is largest for
    :math:`s = \{m \ge t^*\}`, :math:`t^* = \sup D_m / 2 \le 1/2`. With a ``beta`` it is
    :math:`F_\beta = (1 + \beta^2)\int sm\,/\,(\|s\| + \beta^2\|m\|)`, which is largest at
    :math:`t^* = \sup F_\beta / (1 + \beta^2)`: above ½ it can be where ``beta`` is below 1.

    - ``"iterate"``: :math:`t \mapsto \sum_{m \ge t} m\,/\,(\beta^2 \sum m + \#\{m \ge t\})` climbs
      to t* and stops there (Dinkelbach's method). A sample of the map says where t* most likely
      lies; one pass sums what is above and keeps what is near, and the iteration goes on with that.
      Where the guess fails, it passes over the whole map instead.
    - ``"sort"``: the scan over all sorted values, the reference.

    Both give the same bits, on any number of threads and on any device: sums carry twice the bits
    of a double. For float16, and for float32 without values in (0, 2^-29) and up to 2^27 voxels,
    they are exact; else a last bit could differ where the exact Dice lies within about 2^-106 n to
    2^-106 n^2 of the middle between two doubles, n voxels. On a GPU nothing waits for the result.

    So it is for each ``beta``, where the float64 product ``beta * beta`` stands for
    :math:`\beta^2`. Where the sums are exact, t* and :math:`F_\beta` (above 1e-290) are each the
    exact one, rounded once, unless that lies within some 2^-103 of itself of such a middle: t* is
    the quotient above, and not ``dice`` divided by :math:`1 + \beta^2`.

    Args:
        probabilities: m, shape (*leading, *spatial), floating, within [0, 1].
        spatial_dims: How many trailing axes are one map, >= 1.
        method: ``"iterate"`` or ``"sort"``.
        beta: How much recall counts beside precision, within [1e-9, 1e9]: 2 and above for who had
            rather have too much than miss something, ½ and below for the contrary. 1 is Dice.
        check: Whether values outside [0, 1] and NaN are refused, and those that only rounding has
            put there (within four of the dtype's steps at 1, of float32's for float64) clamped.
            Without, nobody looks, and what is found of such values means nothing (a Dice above 1,
            say). On a GPU the host waits to look; in a compiled function, under vmap and in a CUDA
            graph it does not look.

    Returns:
        :class:`DiceThreshold` of tensors of the leading shape. A map without mass (or voxels) has
        Dice 1, is cut at ½, or :math:`1 / (1 + \beta^2)`, and has volume 0. A map with NaN has Dice
        and threshold NaN and volume 0; :func:`marginseg.optimal_segmentation` refuses it. Not
        differentiable.

    Raises:
        TypeError: ``probabilities`` is no floating tensor, or ``beta`` no number.
        ValueError: ``spatial_dims``, ``method`` or ``beta`` is out of its range, or a value is,
            with ``check``.

    Example:
        >>> import torch
        >>> m = torch.tensor([[0.9, 0.4, 0.4, 0.1], [0.2, 0.2, 0.0, 0.0]], dtype=torch.float64)
        >>> best = dice_threshold(m, spatial_dims=1)
        >>> [round(t, 4) for t in best.threshold.tolist()], best.volume.tolist()
        ([0.3542, 0.1667], [3, 2])
        >>> dice_threshold(m, spatial_dims=1, beta=3.0).volume.tolist()
        [4, 2]

    """
    _check("probabilities", probabilities, method)
    n = spatial_axes(probabilities.shape, integer("spatial_dims", spatial_dims))
    beta = checked_beta(beta)
    if check:
        probabilities = within_unit("probabilities", probabilities)
    values = _detached(probabilities)
    if undispatched(values):
        return DiceThreshold(*_regular(values, n, method, beta))
    return DiceThreshold(*torch.ops.marginseg.dice_threshold(values, n, method, beta))


def segment_dice_threshold(
    values: Tensor,
    offsets: Tensor,
    *,
    method: Method = "iterate",
    beta: float = 1.0,
    check: bool = False,
) -> DiceThreshold:
    """Do the same for maps of different sizes, laid end to end.

    Args:
        values: All probabilities, one axis, floating.
        offsets: int64, on the values' device, k + 1 entries, not decreasing, within
            [0, len(values)]: map i is ``values[offsets[i]:offsets[i + 1]]``. On a GPU nobody waits
            to check them: if they are not so, every map gets NaN, NaN and 0.
        method: As for :func:`dice_threshold`.
        beta: As for :func:`dice_threshold`.
        check: As for :func:`dice_threshold`.

    Returns:
        :class:`DiceThreshold` of k entries.

    Raises:
        TypeError: A dtype does not fit, or ``beta`` is no number.
        ValueError: ``offsets``, ``method`` or ``beta`` is not as described.

    Example:
        >>> import torch
        >>> values = torch.tensor([0.9, 0.4, 0.4, 0.1, 0.2, 0.2, 0.0])
        >>> segment_dice_threshold(values, torch.tensor([0, 4, 7])).volume.tolist()
        [3, 2]

    """
    _check_segments(values, offsets, method)
    beta = checked_beta(beta)
    if check:
        values = within_unit("values", values)
    return DiceThreshold(
        *torch.ops.marginseg.segment_dice_threshold(_detached(values), offsets, method, beta)
    )


def dice_curve(
    probabilities: Tensor,
    *,
    spatial_dims: int | None = None,
    beta: float = 1.0,
    check: bool = False,
) -> DiceCurve:
    """Return Dice and volume of {m >= t} for t = every value of the map.

    Args:
        probabilities: m, shape (*leading, *spatial), floating, within [0, 1].
        spatial_dims: How many trailing axes are one map; the default is all, up to three (see
            :func:`marginseg.axes.spatial_axes`).
        beta: As for :func:`dice_threshold`: of which F_beta, in the place of Dice.
        check: As for :func:`dice_threshold`.

    Returns:
        :class:`DiceCurve` of tensors of shape (*leading, voxels). Equal values hold the same Dice
        and volume, those of the cut that includes them all. Not differentiable.

    Raises:
        TypeError: ``probabilities`` is no floating tensor, or ``beta`` no number.
        ValueError: ``spatial_dims`` or ``beta`` is out of its range.

    Example:
        >>> import torch
        >>> curve = dice_curve(torch.tensor([0.5, 1.0, 0.5]))
        >>> curve.threshold.tolist(), curve.volume.tolist()
        ([1.0, 0.5, 0.5], [1, 3, 3])
        >>> [round(dice, 4) for dice in curve.dice.tolist()]
        [0.6667, 0.8, 0.8]

    """
    _check("probabilities", probabilities, "sort")
    probabilities = torch.atleast_1d(probabilities)
    n, beta = spatial_axes(probabilities.shape, spatial_dims), checked_beta(beta)
    if check:
        probabilities = within_unit("probabilities", probabilities)
    return DiceCurve(*torch.ops.marginseg.dice_curve(_detached(probabilities), n, beta))


def _check(name: str, values: Tensor, method: str) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(values).__name__}")
    if values.dtype not in FLOATING_DTYPES:
        raise TypeError(f"{name}: expected a floating dtype, got {values.dtype}")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")


def _check_map(probabilities: Tensor, spatial_dims: int, beta: float, method: str = "sort") -> None:
    _check("probabilities", probabilities, method)
    spatial_axes(probabilities.shape, spatial_dims)
    checked_beta(beta)


def _check_segments(values: Tensor, offsets: Tensor, method: str, beta: float = 1.0) -> None:
    _check("values", values, method)
    checked_beta(beta)
    if values.ndim != 1:
        raise ValueError(f"values: expected one axis, got shape {tuple(values.shape)}")
    if not isinstance(offsets, Tensor) or offsets.dtype is not torch.int64:
        kind = offsets.dtype if isinstance(offsets, Tensor) else type(offsets).__name__
        raise TypeError(f"offsets: expected an int64 tensor, got {kind}")
    if offsets.ndim != 1 or offsets.shape[0] < 1:
        raise ValueError(f"offsets: expected one axis of at least 1, got {tuple(offsets.shape)}")
    check_devices(values, offsets=offsets)


def _detached(values: Tensor) -> Tensor:
    """Return the values without their history, in silence: the results have no derivative.

    But who asks ``torch.func`` for one would get zeros without a word. The op refuses it.
    """
    return values.detach() if values.requires_grad and not transformed() else values


library.define(
    "dice_threshold(Tensor probabilities, int spatial_dims, str method, float beta=1.0)"
    " -> (Tensor threshold, Tensor dice, Tensor volume)"
)
library.define(
    "segment_dice_threshold(Tensor values, Tensor offsets, str method, float beta=1.0)"
    " -> (Tensor threshold, Tensor dice, Tensor volume)"
)
library.define(
    "dice_curve(Tensor probabilities, int spatial_dims, float beta=1.0)"
    " -> (Tensor threshold, Tensor dice, Tensor volume)"
)


def _solve(
    values: Tensor, offsets: int, leading: tuple[int, ...], size: int, method: str, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve maps of one size, or of the segments between the int64 offsets at that address."""
    core = core_of(values)
    source = values.to(core.stored(values.dtype)).contiguous()
    threshold = torch.empty(leading, dtype=torch.float64, device=values.device)
    dice = torch.empty_like(threshold)
    volume = torch.empty_like(threshold, dtype=torch.int64)
    core.run(
        core.kernels.dice_threshold,
        values.device,
        source.data_ptr(),
        DTYPE_CODES[source.dtype],
        offsets,
        threshold.numel(),
        size,
        method == "sort",
        beta * beta,
        threshold.data_ptr(),
        dice.data_ptr(),
        volume.data_ptr(),
    )
    return threshold, dice, volume


def _kernel(
    probabilities: Tensor, spatial_dims: int, method: str, beta: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    _check_map(probabilities, spatial_dims, beta, method)
    return _regular(probabilities, spatial_dims, method, beta)


def _regular(
    probabilities: Tensor, spatial_dims: int, method: str, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    shape = tuple(probabilities.shape)
    split = len(shape) - spatial_dims
    return _solve(probabilities, 0, shape[:split], math.prod(shape[split:]), method, beta)


def _segmented(
    values: Tensor, offsets: Tensor, method: str, beta: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    _check_segments(values, offsets, method, beta)
    if values.is_cpu:
        increasing = bool((offsets[1:] >= offsets[:-1]).all())
        if not increasing or int(offsets[0]) < 0 or int(offsets[-1]) > len(values):
            raise ValueError(
                f"offsets: expected not decreasing integers within [0, {len(values)}], "
                f"got {offsets.tolist() if len(offsets) <= 8 else 'others'}"
            )
    bounds = offsets.contiguous()
    return _solve(values, bounds.data_ptr(), (len(bounds) - 1,), len(values), method, beta)


def _curve(
    probabilities: Tensor, spatial_dims: int, beta: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    _check_map(probabilities, spatial_dims, beta)
    leading = probabilities.shape[: probabilities.ndim - spatial_dims]
    size = math.prod(probabilities.shape[probabilities.ndim - spatial_dims :])
    core = core_of(probabilities)
    source = probabilities.to(core.stored(probabilities.dtype)).contiguous()
    computing = computing_dtype(probabilities.dtype)
    threshold = torch.empty_like(source, dtype=computing).reshape(*leading, size)
    dice = torch.empty_like(threshold, dtype=torch.float64)
    volume = torch.empty_like(threshold, dtype=torch.int64)
    core.run(
        core.kernels.dice_curve,
        probabilities.device,
        source.data_ptr(),
        DTYPE_CODES[source.dtype],
        math.prod(leading),
        size,
        beta * beta,
        threshold.data_ptr(),
        dice.data_ptr(),
        volume.data_ptr(),
    )
    return threshold.to(probabilities.dtype), dice, volume


def _results(values: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        values.new_empty(shape, dtype=torch.float64),
        values.new_empty(shape, dtype=torch.float64),
        values.new_empty(shape, dtype=torch.int64),
    )


def _regular_fake(
    probabilities: Tensor, spatial_dims: int, method: str, beta: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    _check_map(probabilities, spatial_dims, beta, method)
    return _results(probabilities, probabilities.shape[: probabilities.ndim - spatial_dims])


def _segmented_fake(
    values: Tensor, offsets: Tensor, method: str, beta: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    _check_segments(values, offsets, method, beta)
    return _results(values, (offsets.shape[0] - 1,))


def _curve_fake(
    probabilities: Tensor, spatial_dims: int, beta: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    _check_map(probabilities, spatial_dims, beta)
    split = probabilities.ndim - spatial_dims
    shape = (*probabilities.shape[:split], math.prod(probabilities.shape[split:]))
    _, dice, volume = _results(probabilities, shape)
    return probabilities.new_empty(shape), dice, volume


def _segmented_batch(info: Any, in_dims: Arguments, *arguments: Any) -> tuple[Any, Any]:
    return one_by_one("segment_dice_threshold", info, in_dims, arguments)


for _name, _implementation, _fake, _batch in (
    ("dice_threshold", _kernel, _regular_fake, leading_batch("dice_threshold")),
    ("segment_dice_threshold", _segmented, _segmented_fake, _segmented_batch),
    ("dice_curve", _curve, _curve_fake, leading_batch("dice_curve")),
):
    implement(_name, _implementation)
    torch.library.register_fake(f"marginseg::{_name}", _fake, lib=library)
    not_differentiable(_name)
    batched(_name, _batch)
