"""Convolutions of pieces of a volume, against torch's of the whole in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from marginseg.training.convolution import LARGE, Convolution3d, TransposedConvolution3d


def layers(inputs, outputs, kernel):
    """Return ours, and torch's with the same weights in float64. 0 is a transposed one."""
    if kernel == 0:
        ours = TransposedConvolution3d(inputs, outputs)
        plain = nn.ConvTranspose3d(inputs, outputs, 2, stride=2)
    else:
        ours = Convolution3d(inputs, outputs, kernel)
        stride, padding = {1: (1, 0), 2: (2, 0), 3: (1, 1)}[kernel]
        plain = nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding)
    plain.load_state_dict(ours.state_dict())
    return ours, plain.double()


def results(layer, image, weight):
    """Return what a layer makes of an image, and the derivatives of a weighted sum of that."""
    image = image.clone().requires_grad_()
    output = layer(image)
    (output * weight.to(output)).sum().backward()
    return output.detach(), image.grad, layer.weight.grad, layer.bias.grad


@given(
    kernel=st.sampled_from([0, 1, 2, 3]),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    half=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
    batch=st.integers(1, 2),
    last=st.booleans(),
    seed=st.integers(0, 999),
)
def test_equals_torchs(kernel, inputs, outputs, half, batch, last, seed):
    torch.manual_seed(seed)
    size = tuple(2 * n if kernel == 2 else n for n in half)
    image = torch.rand(batch, inputs, *size) - 0.5
    if last:
        image = image.contiguous(memory_format=torch.channels_last_3d)
    ours, plain = layers(inputs, outputs, kernel)
    weight = torch.rand(plain(image.double()).shape) - 0.5
    expected = results(plain, image.double(), weight)
    for value, exact in zip(results(ours, image, weight), expected, strict=True):
        # Sums of at most 27 * 5 products within 1, or of 10 * 8 * 8 * 2.
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [(3, 4, 4), (5, 3, 6), (7, 2, 5), (4, 5, 3)])
def test_a_plane_that_is_left_over_makes_no_output(size):
    torch.manual_seed(1)
    image = torch.rand(1, 2, *size) - 0.5
    ours, plain = layers(2, 3, 2)
    weight = torch.rand(plain(image.double()).shape) - 0.5
    expected = results(plain, image.double(), weight)
    for value, exact in zip(results(ours, image, weight), expected, strict=True):
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)
    with pytest.raises(RuntimeError, match="Kernel size"):
        ours(image[:, :, :1])


@pytest.mark.parametrize("channels", [1, 8])
@pytest.mark.parametrize("kernel", [0, 1, 2, 3])
def test_no_neighbours_are_copied_into_a_matrix(kernel, channels):
    image = torch.rand(1, channels, 16, 16, 16).contiguous(memory_format=torch.channels_last_3d)
    assert image.shape[1:4].numel() <= LARGE
    ours, plain = layers(channels, 8, kernel)

    def called(layer):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            results(layer, image, torch.ones(()))
        return {event.name for event in profile.events()}

    assert any("slow_conv" in name for name in called(plain.float()))
    assert not any("slow_conv" in name for name in called(ours))


def test_the_format_is_kept():
    """Else each layer would copy what the one before it returns."""
    for kernel in range(4):
        image = torch.rand(1, 8, 16, 16, 16).contiguous(memory_format=torch.channels_last_3d)
        output = layers(8, 4, kernel)[0](image)
        assert output.is_contiguous(memory_format=torch.channels_last_3d)


def test_bfloat16_is_torchs_own():
    image = torch.rand(1, 8, 4, 6, 6).contiguous(memory_format=torch.channels_last_3d)
    ours, plain = layers(8, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ours(image)
        assert value.dtype is torch.bfloat16
        assert torch.equal(value, plain.float()(image))
