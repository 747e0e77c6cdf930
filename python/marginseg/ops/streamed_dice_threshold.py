"""The threshold at which Dice is largest, of a map that does not fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marginseg import _cpu
from marginseg.numbers import integer
from marginseg.ops.boundary import DTYPE_CODES, FLOATING_DTYPES
from marginseg.ops.dice_threshold import DiceThreshold
from marginseg.ops.overlap import Metric, beta_of
from marginseg.values import extent

#: The torch dtype of each floating dtype that NumPy has too, by its name.
_TORCH_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATING_DTYPES}


def streamed_dice_threshold(
    chunks: Iterable[Any],
    *,
    leading_dims: int = 0,
    metric: Metric = "dice",
    beta: float | None = None,
) -> DiceThreshold:
    r"""Find t* as :func:`dice_threshold` does, of maps that come in chunks, to the same bits.

    The chunks are gone through once for half types, up to twice for float32 and up to four times
    for float64. One of them at a time is in memory, and besides it at most 2 MB for each map and
    as much again for each thread (half of that but for float64).

    Args:
        chunks: What can be iterated over again and again (a list, a memory-mapped, Zarr or HDF5
            array, which is taken apart along its first axis, or an object with ``__iter__`` that
            reads a file anew). Its items are tensors on the CPU, or what ``numpy.asarray`` takes,
            of one floating dtype, within [0, 1], and of shape (*leading, *any), in any order. An
            item is not touched once the next one has been asked for: all may share one buffer.
        leading_dims: How many leading axes of the chunks are cases or classes, >= 0, each of which
            has a map of its own. They are the same in all chunks.
        metric: ``"dice"``, or ``"iou"``, for which the same cut is best; ``"fbeta"`` for the F of
            ``beta``; ``"accuracy"`` for the cut at ½, which takes one pass.
        beta: That of ``"fbeta"``, as for :func:`dice_threshold`; None for any other metric.

    Returns:
        :class:`DiceThreshold` of CPU tensors of the leading shape. With ``"accuracy"`` the
        threshold is ½, and Dice and volume are those of {m >= ½}. A map without mass (or voxels)
        has Dice 1, is cut at ½, or :math:`1 / (1 + \beta^2)`, and has volume 0.

    Raises:
        TypeError: ``chunks`` can be gone through once only, a chunk is not of a floating dtype,
            ``leading_dims`` is no integer, or ``beta`` no number.
        ValueError: Values are NaN, or outside [0, 1] by more than rounding (those that are not
            count as 0 and 1, as with ``check`` of :func:`dice_threshold`); chunks differ in dtype
            or leading shape, or from one pass to the next; there is no chunk to tell the leading
            shape; ``leading_dims``, ``metric`` or ``beta`` is out of its range; ``"fbeta"`` has no
            beta, or another metric has one.

    Example:
        >>> import numpy as np
        >>> slabs = [np.array([[0.9, 0.4], [0.2, 0.2]]), np.array([[0.4, 0.1], [0.0, 0.0]])]
        >>> best = streamed_dice_threshold(slabs, leading_dims=1)
        >>> [round(t, 4) for t in best.threshold.tolist()], best.volume.tolist()
        ([0.3542, 0.1667], [3, 2])

    """
    if not isinstance(chunks, Iterable) and not hasattr(chunks, "__getitem__"):
        raise TypeError(f"chunks: expected an iterable, got {type(chunks).__name__}")
    if isinstance(chunks, Iterator):
        raise TypeError(
            "chunks: expected what can be iterated over again, such as a list or an object with "
            f"__iter__, got the iterator {type(chunks).__name__}"
        )
    leading_dims = integer("leading_dims", leading_dims)
    if leading_dims < 0:
        raise ValueError(f"leading_dims: expected at least 0, got {leading_dims}")
    maps = _Maps(leading_dims, beta_of(metric, beta), at_half=metric == "accuracy")
    while True:
        for chunk in chunks:
            maps.add(chunk)
            del chunk  # the next one may take its memory
        if not maps.finish_pass():
            return maps.results()


class _Maps:
    """The maps that chunks belong to, and what the passes have found out about them."""

    def __init__(self, leading_dims: int, beta: float, *, at_half: bool) -> None:
        self.leading_dims = leading_dims
        self.weight = beta * beta
        self.at_half = at_half
        self.leading: tuple[int, ...] | None = None if leading_dims else ()
        self.dtype: torch.dtype | None = None
        self.tally: _cpu.Tally | None = None
        self.size: int | None = None  # of each map, known after the first pass
        self.passed = 0  # so many values of each map have come in this pass

    def add(self, chunk: Any) -> None:
        values, address, dtype = _contiguous(chunk)
        shape = tuple(values.shape)
        if len(shape) < self.leading_dims:
            raise ValueError(
                f"chunks: expected at least {self.leading_dims} leading axes, got shape {shape}"
            )
        leading, size = shape[: self.leading_dims], math.prod(shape[self.leading_dims :])
        if self.leading is None:
            self.leading = leading
        if self.dtype is None:
            self.dtype = dtype
        if leading != self.leading:
            raise ValueError(f"chunks: expected the leading shape {self.leading}, got {leading}")
        if dtype is not self.dtype:
            raise ValueError(f"chunks: expected {self.dtype} as before, got {dtype}")
        if self.tally is None:
            self.tally = _cpu.Tally(
                DTYPE_CODES[dtype], math.prod(leading), self.weight, self.at_half
            )
        self.passed += size
        self.tally.add(address, size)

    def finish_pass(self) -> bool:
        """Check what came in the pass, and return whether there has to be another one."""
        if self.size is None:
            self.size = self.passed
        if self.passed != self.size:
            raise ValueError(
                f"chunks: expected the {self.size} values of each map again, got {self.passed}"
            )
        self.passed = 0
        if self.tally is None:
            return False
        more = self.tally.finish_pass()
        if self.tally.changed():
            raise ValueError("chunks: expected the same values again, got others")
        wrong, any_nan, least, greatest = self.tally.misfits()
        if wrong:
            extremes = [extent(least, greatest)] if least <= greatest else []
            found = " and ".join(extremes + ["NaN"] * any_nan)
            raise ValueError(
                f"chunks: expected values within [0, 1], got {wrong} outside ({found})"
            )
        return more

    def results(self) -> DiceThreshold:
        if self.leading is None:
            raise ValueError("chunks: expected at least one, to tell the leading shape, got none")
        at = 1.0 / (1.0 + self.weight)
        threshold = torch.full(self.leading, at, dtype=torch.float64, device="cpu")
        dice = torch.ones_like(threshold)
        volume = torch.zeros_like(threshold, dtype=torch.int64)
        if self.tally is not None:
            self.tally.results(threshold.data_ptr(), dice.data_ptr(), volume.data_ptr())
        return DiceThreshold(threshold, dice, volume)


def _contiguous(chunk: Any) -> tuple[Tensor | np.ndarray[Any, Any], int, torch.dtype]:
    """Return the values in contiguous memory, in the machine's order of bytes, and their address.

    A tensor stays a tensor, because NumPy has no bfloat16; an array stays an array, because torch
    warns of read-only ones.
    """
    if isinstance(chunk, Tensor):
        if not chunk.is_cpu:
            raise ValueError(f"chunks: expected tensors on the CPU, got one on {chunk.device}")
        if chunk.dtype not in FLOATING_DTYPES:
            raise TypeError(f"chunks: expected a floating dtype, got {chunk.dtype}")
        tensor = chunk.detach().contiguous()
        return tensor, tensor.data_ptr(), chunk.dtype
    array = np.asarray(chunk)
    dtype = _TORCH_DTYPES.get(array.dtype.name)
    if dtype is None:
        raise TypeError(f"chunks: expected a floating dtype, got {array.dtype}")
    shape = array.shape  # which ascontiguousarray makes (1,) of ()
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(shape)
    return array, array.__array_interface__["data"][0], dtype
