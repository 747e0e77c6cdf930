"""One pass over maps of classes that exclude each other: each voxel joins where it gains most."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from marginseg.numbers import integer, number
from marginseg.ops.boundary import (
    DTYPE_CODES,
    FLOATING_DTYPES,
    check_devices,
    computing_dtype,
    core_of,
)
from marginseg.ops.library import implement, library, undispatched
from marginseg.ops.transforms import Arguments, batched, not_differentiable, one_by_one

#: Values that are copied at a time for a core that reads no half types.
VALUES_AT_ONCE = 1 << 23

#: Labels are int16 at most.
MOST_CHANNELS = 2**15 - 1


class AssignedLabels(NamedTuple):
    """What :func:`assign_labels` returns.

    Attributes:
        labels: (*batch, voxels), uint8; int16 where there are more than 256 of them.
        volume: Voxels of each channel, (*batch, K), int64.
        mass: The sum of m over the voxels that joined each channel by a gain, (*batch, K), float64;
            those that fall back add nothing.

    """

    labels: Tensor
    volume: Tensor
    mass: Tensor


def assign_labels(
    values: Tensor,
    scale: Tensor,
    offset: Tensor,
    *,
    fallback: int = 0,
    floor: float = 0.0,
    part_of: int = 0,
) -> AssignedLabels:
    r"""Let every voxel join the channel c of its largest gain :math:`a_c m_c - b_c`.

    Of equal gains the first counts. All results are the same bits on every device and number of
    threads: masses are sums of integers, units of :math:`2^{-u}` with :math:`u \ge 62 - \log_2 N`
    for N voxels, to which each m is cut down.

    Args:
        values: m, (*batch, K, voxels), floating, within [0, 1].
        scale: a, (*batch, K), of the dtype that the values are computed in: float64 for float64,
            else float32.
        offset: b, as ``scale``; infinity keeps all voxels out of a channel.
        fallback: The channel of voxels without a gain above ``floor``; -1: they have none, their
            label is 0, and that of channel c is c + 1.
        floor: What a gain has to be above.
        part_of: N, where the voxels are some of those of a larger map; no less than they are. 0
            stands for their own number.

    Returns:
        :class:`AssignedLabels`.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape or device does not fit, or a number is out of its range.

    Example:
        >>> import torch
        >>> m = torch.tensor([[0.9, 0.5, 0.2], [0.1, 0.5, 0.7]])
        >>> found = assign_labels(m, torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.5]))
        >>> found.labels, found.volume
        (tensor([0, 0, 1], dtype=torch.uint8), tensor([2, 1]))

    """
    fallback, floor = integer("fallback", fallback), number("floor", floor)
    part_of = integer("part_of", part_of)
    if undispatched(values, scale, offset):
        return AssignedLabels(*_forward(values, scale, offset, fallback, floor, part_of))
    found = torch.ops.marginseg.assign_labels(values, scale, offset, fallback, floor, part_of)
    return AssignedLabels(*found)


def _check(values: Tensor, scale: Tensor, offset: Tensor, fallback: int, part_of: int) -> None:
    if values.dtype not in FLOATING_DTYPES:
        raise TypeError(f"values: expected a floating dtype, got {values.dtype}")
    if values.ndim < 2:
        raise ValueError(f"values: expected (*batch, K, voxels), got shape {tuple(values.shape)}")
    channels = values.shape[-2]
    if not 1 <= channels <= MOST_CHANNELS:
        raise ValueError(f"values: expected 1 to {MOST_CHANNELS} channels, got {channels}")
    for name, tensor in (("scale", scale), ("offset", offset)):
        if tensor.dtype is not computing_dtype(values.dtype):
            expected = computing_dtype(values.dtype)
            raise TypeError(f"{name}: expected {expected} for {values.dtype}, got {tensor.dtype}")
        if tensor.shape != values.shape[:-1]:
            raise ValueError(
                f"{name}: expected shape {tuple(values.shape[:-1])}, got {tuple(tensor.shape)}"
            )
        check_devices(values, **{name: tensor})
    if not -1 <= fallback < channels:
        raise ValueError(f"fallback: expected -1 to {channels - 1}, got {fallback}")
    if part_of and not values.shape[-1] <= part_of < 2**62:
        raise ValueError(f"part_of: expected 0, or at least {values.shape[-1]}, got {part_of}")


library.define(
    "assign_labels(Tensor values, Tensor scale, Tensor offset, int fallback, float floor,"
    " int part_of=0)"
    " -> (Tensor labels, Tensor volume, Tensor mass)"
)


def _forward(
    values: Tensor, scale: Tensor, offset: Tensor, fallback: int, floor: float, part_of: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    _check(values, scale, offset, fallback, part_of)
    *batch, channels, voxels = values.shape
    core = core_of(values, scale=scale, offset=offset)
    labels, volume, _ = _results(values, fallback)
    volume.zero_()
    units = torch.zeros_like(volume)
    bits = 62 - (part_of or voxels).bit_length()

    def run(part: Tensor, a: Tensor, b: Tensor, of: Tensor, sums: tuple[Tensor, Tensor]) -> None:
        core.run(
            core.kernels.assign_labels,
            part.device,
            part.data_ptr(),
            DTYPE_CODES[part.dtype],
            (a.numel() // channels, channels, part.shape[-1]),
            a.data_ptr(),
            b.data_ptr(),
            fallback,
            floor,
            bits,
            of.data_ptr(),
            DTYPE_CODES[of.dtype],
            *(each.data_ptr() for each in sums),
        )

    if volume.numel() and voxels:
        scale, offset = scale.contiguous(), offset.contiguous()
        if core.stored(values.dtype) is values.dtype:
            run(values.contiguous(), scale, offset, labels, (volume, units))
        else:
            # Never all of them: a map of many classes in half a float fills the memory as it is.
            step = max(1, VALUES_AT_ONCE // channels)
            cases = zip(
                *(each.reshape(-1, *each.shape[len(batch) :]) for each in (values, scale, offset)),
                labels.view(-1, voxels),
                volume.view(-1, channels),
                units.view(-1, channels),
                strict=True,
            )
            for case, a, b, of, *sums in cases:
                for start in range(0, voxels, step):
                    part = case[:, start : start + step].to(a.dtype).contiguous()
                    run(part, a, b, of[start : start + step], (sums[0], sums[1]))
    return labels, volume, units.double() * 2.0**-bits


def _results(values: Tensor, fallback: int) -> tuple[Tensor, Tensor, Tensor]:
    *batch, channels, voxels = values.shape
    dtype = torch.uint8 if channels + (fallback < 0) <= 256 else torch.int16
    return (
        values.new_empty((*batch, voxels), dtype=dtype),
        values.new_empty((*batch, channels), dtype=torch.int64),
        values.new_empty((*batch, channels), dtype=torch.float64),
    )


def _fake(
    values: Tensor, scale: Tensor, offset: Tensor, fallback: int, floor: float, part_of: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    _check(values, scale, offset, fallback, part_of)
    return _results(values, fallback)


def _batch(info: Any, in_dims: Arguments, *arguments: Any) -> tuple[Any, Any]:
    return one_by_one("assign_labels", info, in_dims, arguments)


implement("assign_labels", _forward)
torch.library.register_fake("marginseg::assign_labels", _fake, lib=library)
not_differentiable("assign_labels")
batched("assign_labels", _batch)
