"""First and second derivatives of warp."""

from __future__ import annotations

import math

import pytest
import torch

from marginseg import warp

MODES = ("constant", "nearest", "reflect", "mirror", "wrap")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(6,), (3, 4, 2), pytest.param((4, 5), marks=pytest.mark.slow)])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_derivatives(device, mode, shape, interpolation):
    generator = torch.Generator(device).manual_seed(0)
    n = len(shape)
    image = torch.randn((2, 2, *shape), dtype=torch.float64, generator=generator)
    field = 1.7 * torch.randn((2, n, *shape), dtype=torch.float64, generator=generator)
    # Finite differences must not step over a kink.
    field = torch.where((field % 0.5) < 0.05, field + 0.1, field)

    def run(image, field):
        return warp(image, field, mode=mode, cval=0.3, interpolation=interpolation, spatial_dims=n)

    arguments = (image.requires_grad_(), field.requires_grad_())
    assert torch.autograd.gradcheck(run, arguments)
    # Along a direction drawn at random, in which every entry takes part. On a GPU the order decides
    # the last bits of sums.
    assert torch.autograd.gradgradcheck(run, arguments, atol=1e-4, fast_mode=True, nondet_tol=1e-12)


def _second_derivatives(image, field, weight, cval):
    image, field = image.detach().requires_grad_(), field.detach().requires_grad_()
    warped = warp(image, field, cval=cval, spatial_dims=2)
    dot = (warped.double() * weight).sum()
    first = torch.autograd.grad(dot, (image, field), create_graph=True)
    return torch.autograd.grad((first[1].double() * weight[:, :1]).sum(), (image, field))


@pytest.mark.parametrize(
    ("dtype", "field_dtype"),
    [
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
    ],
)
def test_second_derivatives_are_computed_in_the_precision_of_the_first(device, dtype, field_dtype):
    generator = torch.Generator(device).manual_seed(5)
    size = 300  # bfloat16 cannot even count the voxels of such an axis
    # Eighths and small integers are exact in every dtype, and sums of their products in float32.
    image = torch.randint(-8, 9, (1, 2, size, 3), generator=generator).to(dtype)
    field = (torch.randint(-8, 9, (1, 2, size, 3), generator=generator) / 8 + 1 / 16).to(
        field_dtype
    )
    weight = torch.randint(1, 3, (1, 2, size, 3), generator=generator).double()
    results = _second_derivatives(image, field, weight, cval=2.0)
    expected = _second_derivatives(image.double(), field.double(), weight, cval=2.0)
    for result, exact, of in zip(results, expected, (image, field), strict=True):
        assert result.dtype is of.dtype
        assert exact.abs().max() > 1
        torch.testing.assert_close(result.double(), exact.to(of.dtype).double(), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5)])
def test_second_derivatives_of_nothing(device, shape):
    image = torch.zeros(shape, requires_grad=True)
    field = torch.zeros((shape[0], 2, *shape[1:]), requires_grad=True)
    warped = warp(image, field)
    first = torch.autograd.grad(warped.square().sum(), (image, field), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (image, field))
    assert [tuple(g.shape) for g in second] == [tuple(image.shape), tuple(field.shape)]


def test_nothing_flows_through_a_voxel_that_is_not_a_number(device):
    image = torch.randn(5, dtype=torch.float64, requires_grad=True)
    field = torch.tensor([[0.3, math.nan, 0.2, -0.4, 0.1]], dtype=torch.float64, requires_grad=True)
    for interpolation in ("linear", "nearest"):
        warped = warp(image, field, interpolation=interpolation)
        first = torch.autograd.grad(warped.sum(), (image, field), create_graph=True)
        dot = first[0].square().sum() + first[1].square().sum()
        second = torch.autograd.grad(dot, (image, field), allow_unused=True)
        assert all(torch.isfinite(g).all() for g in (*first, *second) if g is not None)
        assert first[1][0, 1] == 0


def test_a_third_derivative_is_refused(device):
    image = torch.randn(4, 4, requires_grad=True)
    field = torch.randn(2, 4, 4, requires_grad=True)
    derivative = warp(image, field).square().sum()
    for _ in range(2):
        derivative = sum(
            g.square().sum()
            for g in torch.autograd.grad(derivative, (image, field), create_graph=True)
        )
    with pytest.raises(NotImplementedError, match="^warp"):
        torch.autograd.grad(derivative, (image, field))


def test_gradient_of_an_expanded_input_is_summed(device):
    image = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    field = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: warp(x.expand(3, 5, 5), field), image)


def test_gradients_do_not_depend_on_the_number_of_threads():
    image = torch.randn(2, 2, 20, 21, 22, requires_grad=True)
    field = (3 * torch.randn(2, 3, 20, 21, 22)).requires_grad_()
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out = warp(image, field)
            first = torch.autograd.grad(out.square().sum(), (image, field), create_graph=True)
            second = torch.autograd.grad(sum(g.square().sum() for g in first), (image, field))
            results.append((out, *first, *second))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def _derivatives(image, field, weight):
    image, field = image.detach().requires_grad_(), field.detach().requires_grad_()
    warped = warp(image, field, mode="reflect", spatial_dims=3)
    first = torch.autograd.grad((warped * weight).sum(), (image, field), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (image, field))
    return (*first, *second)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e20])
def test_sums_of_many_threads(device, deterministic, dtype, size):
    """On a GPU they come in any order; where torch is to be deterministic, in the same bits."""
    if dtype is torch.float32 and size != 1.0:
        pytest.skip("its square is no number of that dtype")
    generator = torch.Generator(device).manual_seed(7)
    image = torch.randn((2, 3, 9, 10, 11), dtype=dtype, generator=generator)
    # Strong enough that many voxels are read from one place.
    field = 6 * torch.randn((2, 3, 9, 10, 11), dtype=dtype, generator=generator)
    weight = size * torch.randn((2, 3, 9, 10, 11), dtype=dtype, generator=generator)
    expected = _derivatives(image.double(), field.double(), weight.double())
    torch.use_deterministic_algorithms(deterministic)
    try:
        runs = [_derivatives(image, field, weight) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for run in runs:
        for result, exact in zip(run, expected, strict=True):
            scale = float(exact.detach().abs().max())
            tolerance = scale * (1e-4 if dtype is torch.float32 else 1e-11)
            torch.testing.assert_close(result.double(), exact, rtol=0, atol=tolerance)
        if deterministic:
            assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_an_infinite_gradient_is_no_number_where_sums_are_integers(device):
    torch.use_deterministic_algorithms(True)
    try:
        image = torch.randn(2, 5, 6, requires_grad=True)
        weight = torch.ones(2, 5, 6)
        weight[0, 2, 2] = math.inf
        (warp(image, torch.rand(2, 2, 5, 6)) * weight).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert not image.grad[0].isfinite().all()
    assert image.grad[1].isfinite().all()
