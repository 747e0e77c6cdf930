"""Convolutions of volumes that are as fast in float32 as the CPU allows.

torch hands a float32 convolution of a volume to oneDNN only where there are several volumes, or
where channels × depth × height exceed 20,480 (``use_mkldnn`` in its Convolution.cpp); else it
copies each voxel's neighbours into a matrix, which takes many times as long. One small volume,
which is what is trained on here, is therefore cut along its depth, and its pieces are given as
several.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Above it, torch takes oneDNN by itself.
LARGE = 20480


class Convolution3d(nn.Conv3d):
    """A convolution with a kernel of 1, of 2 and a stride of 2, or of 3 and a padding of 1.

    Equal to torch's, to rounding, of any size: with a stride of 2 the last plane, row or column of
    an odd number makes no output.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: 1, 2 or 3.

    Example:
        >>> import torch
        >>> Convolution3d(1, 4, 2)(torch.zeros(1, 1, 8, 8, 8)).shape
        torch.Size([1, 4, 4, 4, 4])

    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            inputs, outputs, kernel, stride=2 if kernel == 2 else 1, padding=int(kernel == 3)
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of (batch, inputs, depth, height, width)."""
        stride = int(self.stride[0])
        if not _is_slow(input) or input.shape[2] < stride:
            return super().forward(input)
        # A plane that is left over makes no output.
        input = input.narrow(2, 0, input.shape[2] // stride * stride)
        if self.kernel_size[0] == 1:
            voxels = input.permute(0, 2, 3, 4, 1)
            outputs = functional.linear(voxels, self.weight.flatten(1), self.bias)
            return outputs.permute(0, 4, 1, 2, 3)
        beyond = int(self.padding[0])
        # Of one channel, each plane with its neighbours is the faster piece.
        pieces = _cut(input, stride, beyond, into_planes=beyond > 0 and input.shape[1] == 1)
        padding = (0, *self.padding[1:])
        return _joined(functional.conv3d(pieces, self.weight, self.bias, self.stride, padding))


class TransposedConvolution3d(nn.ConvTranspose3d):
    """A transposed convolution with a kernel of 2 and a stride of 2: it doubles each axis.

    Equal to torch's, to rounding.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.

    Example:
        >>> import torch
        >>> TransposedConvolution3d(4, 1)(torch.zeros(1, 4, 4, 4, 4)).shape
        torch.Size([1, 1, 8, 8, 8])

    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return (batch, outputs, 2 depth, 2 height, 2 width)."""
        if output_size is not None or not _is_slow(input):
            return super().forward(input, output_size)
        return _joined(super().forward(_cut(input, 1, 0)))


def _is_slow(input: Tensor) -> bool:
    """Whether torch would not take oneDNN, which computes bfloat16 of any size."""
    return (
        input.is_cpu
        and input.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and input.shape[0] == 1
        and input.shape[1:4].numel() <= LARGE
    )


def _cut(input: Tensor, unit: int, beyond: int, *, into_planes: bool = False) -> Tensor:
    """Cut (1, channels, depth, height, width) along its depth; the pieces become the batch.

    Args:
        input: In channels-last format nothing is copied, but for what lies beyond the ends.
        unit: A piece's depth is a multiple of it.
        beyond: So many planes before and after a piece belong to it as well; zeros at the ends.
        into_planes: Pieces of one unit each, where two halves would do.

    """
    planes = input.permute(0, 2, 3, 4, 1)[0]
    depth = len(planes)
    count = 2 if depth % (2 * unit) == 0 and not into_planes else depth // unit
    size = depth // count
    if beyond > 0:
        zeros = planes.new_zeros(beyond, *planes.shape[1:])
        parts = [zeros]
        for first in range(0, depth, size):
            begin, end = max(0, first - beyond), min(depth, first + size + beyond)
            parts.append(planes[begin:end])
        planes = torch.cat([*parts, zeros])
    pieces = planes.reshape(count, size + 2 * beyond, *planes.shape[1:])
    return pieces.permute(0, 4, 1, 2, 3)


def _joined(pieces: Tensor) -> Tensor:
    """Put pieces (count, channels, depth, height, width) behind each other, as one volume."""
    planes = pieces.permute(0, 2, 3, 4, 1)
    return planes.reshape(1, -1, *planes.shape[2:]).permute(0, 4, 1, 2, 3)
