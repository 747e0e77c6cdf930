from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from marginseg import _cpu, gaussian_field, gaussian_field_ranks
from marginseg.ops.axis_factor import axis_factor
from marginseg.ops.boundary import DTYPE_CODES


@pytest.mark.parametrize("method", ["exact", "convolution"])
@pytest.mark.parametrize(
    ("shape", "std", "length_scale"),
    [((24,), 1.5, 4.0), ((10, 14), (1.0, 3.0), (3.0, 6.0)), ((6, 7, 8), 0.5, (2.0, 3.0, 4.0))],
)
def test_variance_and_covariance_at_every_voxel(method, shape, std, length_scale):
    """Variances within the chi-square bound of the sample size, borders and corners included."""
    samples = 20_000 if method == "exact" else 1_200  # of which each takes a hundred times as long
    n = len(shape)
    generator = torch.Generator().manual_seed(1)
    # In parts: the convolution's noise reaches far beyond the border.
    field = torch.cat(
        [
            gaussian_field(
                shape,
                std,
                length_scale,
                method=method,
                batch_shape=(samples // 40,),
                generator=generator,
                dtype=torch.float64,
            )
            for _ in range(40)
        ]
    )
    stds = torch.tensor(std if isinstance(std, tuple) else (std,) * n, dtype=torch.float64)
    scaled = field / stds.reshape(n, *(1,) * n)
    voxels = n * math.prod(shape)
    # Two-sided, one false alarm in 10^6 over all voxels together.
    level = 1e-6 / voxels
    low, high = chi2.ppf([level / 2, 1 - level / 2], samples) / samples
    variance = scaled.square().mean(dim=0)
    assert low < variance.min()
    assert variance.max() < high

    scales = length_scale if isinstance(length_scale, tuple) else (length_scale,) * n
    grids = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    flat = scaled.reshape(samples, n, -1)
    corner = flat[:, :, :1]
    covariance = (corner * flat).mean(dim=0).numpy()
    expected = np.exp(
        -sum(grid.ravel() ** 2 / (2 * scale**2) for grid, scale in zip(grids, scales, strict=True))
    )
    # Var(xy) = 1 + rho² <= 2; 6 standard errors. The sampled kernel's own error is below 1e-3.
    bound = 6 * math.sqrt(2 / samples) + (1e-3 if method == "convolution" else 0)
    assert np.abs(covariance - expected).max() < bound
    if n > 1:  # the components are independent
        cross = (flat[:, 0] * flat[:, 1]).mean(dim=0)
        assert cross.abs().max() < 6 / math.sqrt(samples)


@pytest.mark.parametrize("method", ["exact", "convolution"])
def test_generator_reproduces(device, method):
    def draw(seed):
        generator = torch.Generator(device).manual_seed(seed)
        return gaussian_field((8, 9), 1.0, 3.0, generator=generator, method=method)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


@pytest.mark.parametrize("shape", [(9,), (5, 6), (4, 5, 6)])
def test_coefficients_rebuild_the_field(device, shape):
    """Against a contraction by NumPy in float64."""
    ranks = gaussian_field_ranks(shape, 2.5, dtype=torch.float64)
    n = len(shape)
    coefficients = torch.randn((3, n, *ranks), dtype=torch.float64, device="cpu")
    field = gaussian_field(
        shape,
        2.0,
        2.5,
        batch_shape=(3,),
        coefficients=coefficients.to(device),
        dtype=torch.float64,
    )
    expected = 2.0 * coefficients.numpy()
    for axis, size in enumerate(shape):
        factor = axis_factor(size, 2.5, 1e-12)
        expected = np.moveaxis(np.tensordot(expected, factor, (axis + 2, 1)), -1, axis + 2)
    np.testing.assert_allclose(field.cpu().numpy(), expected, atol=1e-12)


def test_derivatives_with_respect_to_coefficients(device):
    options = {"dtype": torch.float64, "device": device}
    factors = [torch.randn(5, 2, **options), torch.randn(4, 3, **options)]
    coefficients = torch.randn(2, 2, 3, **options, requires_grad=True)

    def run(values):
        return torch.ops.marginseg.gaussian_field(values, factors)

    assert torch.autograd.gradcheck(run, coefficients)
    assert torch.autograd.gradgradcheck(run, coefficients)


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 4, 3)])
def test_opcheck(device, shape):
    factors = [torch.randn(size, 2, device=device) for size in shape]
    coefficients = torch.randn(3, *(2,) * len(shape), device=device, requires_grad=True)
    torch.library.opcheck(torch.ops.marginseg.gaussian_field, (coefficients, factors))


def test_compiles_without_graph_break(device):
    factors = [torch.randn(6, 2, device=device), torch.randn(7, 3, device=device)]
    coefficients = torch.randn(2, 2, 3, device=device)
    compiled = torch.compile(
        lambda c: torch.ops.marginseg.gaussian_field(c, factors),
        fullgraph=True,
        backend="aot_eager",
    )
    torch.testing.assert_close(
        compiled(coefficients), torch.einsum("bij,yi,xj->byx", coefficients, *factors)
    )


def test_empty_batch_and_one_voxel(device):
    empty = gaussian_field((4, 4), 1.0, 2.0, batch_shape=(0,), device=device)
    assert empty.shape == (0, 2, 4, 4)
    assert gaussian_field((1, 1, 1), 1.0, 2.0, device=device).shape == (3, 1, 1, 1)
    assert not gaussian_field((4, 4), 0.0, 2.0, device=device).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": ()}, "shape"),
        ({"shape": (0, 4)}, "shape"),
        ({"shape": (2, 2, 2, 2)}, "shape"),
        ({"std": -0.1}, "std"),
        ({"std": (1.0, 2.0, 3.0)}, "std"),
        ({"length_scale": 0.0}, "length_scale"),
        ({"length_scale": math.inf}, "length_scale"),
        ({"method": "fft"}, "method"),
        ({"coefficients": torch.zeros(2, 2)}, "coefficients"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        gaussian_field(**{"shape": (4, 5), "std": 1.0, "length_scale": 2.0, **arguments})


def test_integer_dtype_is_refused():
    with pytest.raises(TypeError, match="^dtype"):
        gaussian_field((4,), 1.0, 2.0, dtype=torch.int32)


def test_coefficients_of_any_strides(device):
    ranks = gaussian_field_ranks((9, 12), (3.0, 5.0))
    transposed = torch.randn(2, *reversed(ranks), device=device).transpose(1, 2)
    assert not transposed.is_contiguous()
    fields = [
        gaussian_field((9, 12), 1.0, (3.0, 5.0), coefficients=coefficients)
        for coefficients in (transposed, transposed.contiguous())
    ]
    assert torch.equal(*fields)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "scale"),
    [((70,), 2.0), ((67, 40), (0.4, 9.0)), ((5, 37, 66), (3.0, 4.5, 14.0)), ((40, 3, 9), 0.5)],
)
def test_every_rank_against_numpy(device, dtype, shape, scale):
    # Ranks of a few, and of a whole axis: short length scales.
    ranks = gaussian_field_ranks(shape, scale, dtype=dtype)
    coefficients = torch.randn((2, len(shape), *ranks), dtype=dtype, device="cpu")
    field = gaussian_field(
        shape, 1.0, scale, batch_shape=(2,), coefficients=coefficients.to(device), dtype=dtype
    )
    expected = coefficients.double().numpy()
    scales = scale if isinstance(scale, tuple) else (scale,) * len(shape)
    for axis, (size, length) in enumerate(zip(shape, scales, strict=True)):
        factor = axis_factor(size, length, 1e-6 if dtype is torch.float32 else 1e-12)
        expected = np.moveaxis(np.tensordot(expected, factor, (axis + 2, 1)), -1, axis + 2)
    tolerance = 2e-5 if dtype is torch.float32 else 1e-12
    np.testing.assert_allclose(field.cpu().numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "ranks"),
    [
        # Ranks at both ends of each class that kernels are made for, and beyond the last; rows of
        # fewer voxels than a warp has lanes, of some, and of more than a block takes.
        ((5,), (1,)),
        ((300,), (12,)),
        ((70, 129), (13, 2)),
        ((3, 33), (2, 20)),
        ((9, 66, 96), (3, 12, 11)),
        ((10, 7, 260), (21, 4, 3)),
        ((17, 65, 40), (2, 32, 5)),
        ((4, 5, 6), (2, 3, 50)),
    ],
)
def test_same_bits_as_on_the_cpu(device, shape, ranks, dtype):
    if _cpu.instruction_set() == "base":
        pytest.skip("without fused multiply-adds the CPU rounds otherwise")
    generator = torch.Generator().manual_seed(0)

    def drawn(*sizes):
        return torch.randn(sizes, generator=generator, dtype=dtype, device="cpu")

    coefficients = drawn(3, *ranks)
    factors = [drawn(size, rank) for size, rank in zip(shape, ranks, strict=True)]
    field = torch.ops.marginseg.gaussian_field(
        coefficients.to(device), [factor.to(device) for factor in factors]
    )
    expected = torch.empty_like(field, device="cpu")
    _cpu.gaussian_field(
        coefficients.data_ptr(),
        expected.data_ptr(),
        DTYPE_CODES[dtype],
        3,
        ranks,
        shape,
        [factor.data_ptr() for factor in factors],
    )
    assert torch.equal(field.cpu(), expected)
