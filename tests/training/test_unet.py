from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from marginseg import UNet
from marginseg.training.convolution import Convolution3d
from marginseg.training.unet import InstanceNorm


def _parameters(n, inputs, outputs, features):
    """Counted by hand from section 5.2."""

    def convolution(a, b, kernel):
        return a * b * kernel**n + b

    total = 0
    for level, width in enumerate(features):
        first = inputs if level == 0 else width
        total += convolution(first, width, 3) + convolution(width, width, 3)
        total += 2 * 2 * width  # two instance norms: scale and shift
    for fine, coarse in pairwise(features):
        total += convolution(fine, coarse, 2)  # down
        total += convolution(coarse, fine, 2)  # up
        total += convolution(2 * fine, fine, 3) + convolution(fine, fine, 3) + 2 * 2 * fine
    return total + convolution(features[0], outputs, 1)


@pytest.mark.parametrize(
    ("n", "inputs", "outputs", "features"),
    [(3, 1, 1, (16, 32, 64, 128, 256)), (2, 1, 1, (16, 32, 64, 128, 256)), (3, 2, 4, (4, 6))],
)
def test_parameter_count(n, inputs, outputs, features):
    network = UNet(n, inputs, outputs, features)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == _parameters(n, inputs, outputs, features)


def test_layers_are_the_papers():
    network = UNet(3)
    kinds = [type(layer) for layer in network.encoder[0]]
    assert kinds == [Convolution3d, InstanceNorm, nn.ReLU] * 2
    assert all(layer.kernel_size == (2, 2, 2) == layer.stride for layer in network.down)
    assert all(isinstance(layer, nn.ConvTranspose3d) for layer in network.up)


@pytest.mark.parametrize("shape", [(1, 3, 5, 6), (2, 3, 5, 6), (1, 3, 4, 5, 6), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_instance_norm_by_its_formula(shape, channels_last):
    value = 5.0 + 2.0 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    norm = InstanceNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.0, 3.0, -1.0]))
    axes = list(range(2, len(shape)))
    wide = value.double()
    variance = wide.var(dim=axes, correction=0, keepdim=True)
    expected = (wide - wide.mean(dim=axes, keepdim=True)) / (variance + 1e-5).sqrt()
    view = (1, 3, *(1,) * len(axes))
    expected = expected * norm.weight.double().reshape(view) + norm.bias.double().reshape(view)
    if channels_last:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        value = value.contiguous(memory_format=formats[len(shape)])
    torch.testing.assert_close(norm(value).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 1, 16, 32), (1, 1, 16, 16, 48)])
def test_output_has_the_images_size(shape):
    network = UNet(len(shape) - 2, features=(2, 3, 4, 5), out_channels=3)
    assert network(torch.randn(shape)).shape == (shape[0], 3, *shape[2:])


@pytest.mark.usefixtures("one_thread")
def test_learns_one_case():
    torch.manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij"))
    label = (((grid - 7.5) ** 2).sum(0) < 20).float()[None, None]
    image = label + 0.3 * torch.randn_like(label)
    network = UNet(3, features=(4, 8))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(network(image), label)
        loss.backward()
        optimizer.step()
    assert (((network(image) > 0) == label.bool()).float().mean()) > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims"),
        ({"features": (8,)}, "features"),
        ({"features": (8, 0)}, "features"),
        ({"in_channels": 0}, "in_channels"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        UNet(**arguments)


@pytest.mark.parametrize("shape", [(1, 1, 6, 8), (1, 1, 4, 4), (1, 1, 8, 8, 8), (1, 1, 0, 8)])
def test_sizes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="^image"):
        UNet(2, features=(2, 3, 4))(torch.zeros(shape))
