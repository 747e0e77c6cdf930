"""Maps of NumPy and torch alike, and their pieces, so that no copy of a whole map is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from marginseg.arrays import as_tensor
from marginseg.ops.boundary import FLOATING_DTYPES

#: Voxels of a piece. A core's own cache holds them in float64, and torch does not share out so few;
#: a GPU wants more at a time.
PIECE, PIECE_OF_A_GPU = 2**15, 2**22


def tensor_of(name: str, values: Any) -> Tensor:
    """Return an array or a tensor as a plain tensor, of the same memory where that is possible.

    Raises:
        TypeError: It is neither, or of a dtype that torch has not.

    """
    return as_tensor(name, values).detach().as_subclass(Tensor)


def probabilities_of(values: Any) -> Tensor:
    """Return a map (channels, *spatial) as a plain tensor.

    Raises:
        TypeError: It is no array or tensor, or not floating.
        ValueError: It has no axis of channels.

    """
    tensor = tensor_of("probabilities", values)
    if tensor.dtype not in FLOATING_DTYPES:
        raise TypeError(f"probabilities: expected a floating dtype, got {tensor.dtype}")
    if tensor.ndim == 0:
        raise ValueError("probabilities: expected an axis of channels, got a number")
    return tensor


def mask_of(mask: Any, maps: Tensor) -> Tensor:
    """Return which voxels of a map (channels, *spatial) count, on its device.

    Raises:
        TypeError: It is no array or tensor of bools.
        ValueError: It is not of shape (*spatial).

    """
    counted = tensor_of("mask", mask)
    if counted.dtype != torch.bool:
        raise TypeError(f"mask: expected bool, got {counted.dtype}")
    if counted.shape != maps.shape[1:]:
        raise ValueError(
            f"mask: expected shape {tuple(maps.shape[1:])}, got {tuple(counted.shape)}"
        )
    return counted.to(maps.device)


def pieces(tensors: Sequence[Tensor], size: int = PIECE) -> Iterator[tuple[Tensor, ...]]:
    """Give matching pieces of tensors of one shape, in the order in which the first is stored.

    Pieces are views of about ``size`` voxels, of more on a GPU. Voxels along the
    first axis are next to each other in files of NIfTI, those along the last one elsewhere.
    """
    first = tensors[0]
    strides = first.stride()
    order = sorted(range(first.ndim), key=lambda axis: -strides[axis])
    turned = [tensor.permute(order) for tensor in tensors]
    if first.ndim == 0 or all(tensor.is_contiguous() for tensor in turned):
        turned = [tensor.reshape(-1) for tensor in turned]
    planes = turned[0].shape[0]
    size = size if first.device.type == "cpu" else size * (PIECE_OF_A_GPU // PIECE)
    step = max(1, size * planes // max(1, turned[0].numel()))
    for start in range(0, planes, step):
        yield tuple(tensor[start : start + step] for tensor in turned)


def each_piece(work: Callable[..., None], tensors: Sequence[Tensor], size: int = PIECE) -> None:
    """Call ``work`` with all matching pieces, in as many threads as torch has.

    A thread takes a whole piece through all operations while it is in its cache. Torch would share
    each operation out, and its threads wait for each other after each.
    """
    threads = min(torch.get_num_threads(), math.ceil(tensors[0].numel() / size))
    if threads <= 1 or tensors[0].device.type != "cpu":
        for piece in pieces(tensors, size):
            work(*piece)
        return
    # Whether tensors are those of inference is said for each thread by itself.
    inference = torch.is_inference_mode_enabled()

    def work_in_a_thread(*piece: Tensor) -> None:
        with torch.inference_mode(inference):
            work(*piece)

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work_in_a_thread, *piece) for piece in pieces(tensors, size)]:
            done.result()
