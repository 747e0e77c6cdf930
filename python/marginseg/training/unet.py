"""The paper's U-Net (section 5.2), in two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from marginseg.training.convolution import Convolution3d, TransposedConvolution3d

#: Is added to variances before their root is taken, as in torch's norms.
EPSILON = 1e-5


class InstanceNorm(nn.Module):
    """Instance norm with a scale and a shift for each channel.

    For a batch of one, its statistics are those of a batch norm, whose kernel takes channels-last
    tensors as they are; torch's instance norm copies them there and back.

    Args:
        channels: Of the input.

    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, value: Tensor) -> Tensor:
        """Return it with mean 0 and variance 1 in each channel of each case, scaled and shifted."""
        if value.shape[0] == 1:
            return functional.batch_norm(
                value, None, None, self.weight, self.bias, training=True, eps=EPSILON
            )
        return functional.instance_norm(value, weight=self.weight, bias=self.bias, eps=EPSILON)


class UNet(nn.Module):
    """U-Net: two 3ⁿ convolutions with instance norm and ReLU on every level.

    A 2ⁿ convolution of stride 2 leads down, a 2ⁿ transposed convolution up; the levels are joined
    by concatenation, and a 1ⁿ convolution ends in logits.

    Args:
        spatial_dims: n, 2 or 3.
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        features: Channels of every level, from the finest; at least two.

    Raises:
        ValueError: An argument is out of its range; the message names it.

    Example:
        >>> import torch
        >>> net = UNet(spatial_dims=2, features=(4, 8))
        >>> net(torch.zeros(1, 1, 16, 16)).shape
        torch.Size([1, 1, 16, 16])

    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        features: Sequence[int] = (16, 32, 64, 128, 256),
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims: expected 2 or 3, got {spatial_dims}")
        if min(in_channels, out_channels) < 1:
            raise ValueError(
                f"in_channels, out_channels: expected at least 1, got {in_channels}, {out_channels}"
            )
        if len(features) < 2 or min(features) < 1:
            raise ValueError(f"features: expected two or more numbers >= 1, got {tuple(features)}")
        self.spatial_dims = spatial_dims
        self.features = tuple(features)
        self.encoder = nn.ModuleList()
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level, width in enumerate(features):
            first = in_channels if level == 0 else width
            self.encoder.append(_two_convolutions(spatial_dims, first, width))
        for fine, coarse in pairwise(features):
            self.down.append(_convolution(spatial_dims, fine, coarse, 2))
            self.up.append(_transposed(spatial_dims, coarse, fine))
            self.decoder.append(_two_convolutions(spatial_dims, 2 * fine, fine))
        self.output = _convolution(spatial_dims, features[0], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits.

        Args:
            image: Shape (batch, in_channels, *spatial). Every spatial size is a multiple of
                2^(levels - 1), and not all of them are equal to it: instance norm needs two voxels
                at the coarsest level.

        Returns:
            Tensor of shape (batch, out_channels, *spatial).

        Raises:
            ValueError: The shape is not as described.

        """
        self._check(image)
        skipped: list[Tensor] = []
        value = image
        for level, encode in enumerate(self.encoder):
            if level > 0:
                skipped.append(value)
                value = self.down[level - 1](value)
            value = encode(value)
        for level in reversed(range(len(self.decoder))):
            joined = torch.cat([skipped[level], self.up[level](value)], dim=1)
            value = self.decoder[level](joined)
        return self.output(value)

    def _check(self, image: Tensor) -> None:
        spatial = tuple(image.shape[2:])
        factor = 2 ** (len(self.features) - 1)
        if len(spatial) != self.spatial_dims or any(s < 1 or s % factor for s in spatial):
            raise ValueError(
                f"image: expected {self.spatial_dims} spatial sizes that are multiples of "
                f"{factor}, got shape {tuple(image.shape)}"
            )
        if all(size == factor for size in spatial):
            raise ValueError(
                f"image: expected a spatial size above {factor}, got shape {tuple(image.shape)}"
            )


def _convolution(
    spatial_dims: int, inputs: int, outputs: int, kernel: int
) -> nn.Conv2d | nn.Conv3d:
    if spatial_dims == 3:
        return Convolution3d(inputs, outputs, kernel)
    stride, padding = (2, 0) if kernel == 2 else (1, kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding)


def _transposed(spatial_dims: int, inputs: int, outputs: int) -> nn.Module:
    if spatial_dims == 3:
        return TransposedConvolution3d(inputs, outputs)
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)


def _two_convolutions(spatial_dims: int, inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [
            _convolution(spatial_dims, width, outputs, 3),
            InstanceNorm(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
