from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marginseg import GaussianFieldNoise, folded_share
from marginseg.ops.folded_share import folded_share_from_coefficients
from marginseg.ops.gaussian_field import draw_coefficients


def _determinants(coefficients, factors):
    """det(I + ∇X) at each voxel in float64, by NumPy, from the whole displacement.

    np.gradient refuses an axis of one voxel, along which nothing changes.
    """
    n = len(factors)
    field = coefficients.cpu().double().numpy()
    for axis, factor in enumerate(factors):
        matrix = factor.cpu().double().numpy()
        field = np.moveaxis(np.moveaxis(field, axis - n, -1) @ matrix.T, -1, axis - n)
    jacobian = np.zeros((*field.shape[: -n - 1], *field.shape[-n:], n, n))
    for i, j in itertools.product(range(n), range(n)):
        component = field[(..., i, *[slice(None)] * n)]
        if field.shape[j - n] > 1:
            jacobian[..., i, j] = np.gradient(component, axis=j - n)
        jacobian[..., i, j] += i == j
    return np.linalg.det(jacobian), np.abs(jacobian).sum(axis=-1).max(axis=-1)


def _assert_right(share, coefficients, factors, most_unclear=0.02):
    """The share lies between what folds clearly and what folds, or nearly does."""
    n = len(factors)
    determinant, size = _determinants(coefficients, factors)
    rounding = (5e-6 if coefficients.dtype is torch.float32 else 1e-13) * np.maximum(size, 1) ** n
    spatial = tuple(range(-n, 0))
    clear = (determinant <= -rounding).mean(axis=spatial)
    near = (determinant <= rounding).mean(axis=spatial)
    assert (near - clear).mean() <= most_unclear
    assert share.dtype is torch.float64
    assert tuple(share.shape) == determinant.shape[:-n]
    found = share.cpu().numpy()
    assert (clear <= found).all()
    assert (found <= near).all()


def _factors(shape, ranks, dtype, seed, smooth=4):
    """Factors of any ranks, with rows of norm 1, each the mean of a few neighbours."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for size, rank in zip(shape, ranks, strict=True):
        drawn = torch.randn(size + smooth, rank, generator=generator, device="cpu", dtype=dtype)
        factor = drawn.unfold(0, smooth + 1, 1).mean(dim=-1)
        result.append(factor / factor.norm(dim=1, keepdim=True))
    return result


SHAPES = [
    # Ranks at both ends of each class, and beyond the last; rows shorter than a warp, of a few
    # warps, with some voxels beyond; more rows and columns than a block takes.
    ((1,), (1,)),
    ((2,), (2,)),
    ((300,), (12,)),
    ((131,), (33,)),
    ((70, 129), (13, 2)),
    ((1, 33), (2, 20)),
    ((66, 1), (3, 4)),
    ((2, 67), (40, 3)),
    ((9, 66, 96), (3, 12, 11)),
    ((10, 7, 140), (21, 4, 3)),
    ((3, 70, 40), (2, 32, 5)),
    ((8, 3, 17), (1, 1, 31)),
    ((4, 5, 6), (2, 3, 50)),
    ((1, 5, 6), (2, 3, 4)),
    ((6, 1, 7), (2, 3, 4)),
    ((6, 5, 1), (2, 3, 4)),
    ((1, 1, 1), (1, 2, 1)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "ranks"), SHAPES)
def test_against_numpy(device, shape, ranks, dtype):
    n = len(shape)
    factors = _factors(shape, ranks, dtype, 0)
    generator = torch.Generator().manual_seed(1)
    coefficients = torch.randn((3, 2, n, *ranks), generator=generator, device="cpu", dtype=dtype)
    coefficients *= torch.tensor([0.3, 1.0, 30.0], dtype=dtype).reshape(3, *(1,) * (n + 2)).cpu()
    share = folded_share_from_coefficients(
        coefficients.to(device), [factor.to(device) for factor in factors]
    )
    assert share.device.type == device.type
    _assert_right(share, coefficients, factors, most_unclear=0.5 / math.prod(shape) + 0.002)
    if math.prod(shape) > 1000:
        assert 0.05 < share[2].mean() < 0.95


@given(data=st.data())
def test_fields_of_the_noise(device, data):
    spatial = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3), label="spatial")
    n = len(spatial)
    leading = data.draw(st.lists(st.integers(1, 3), max_size=2), label="leading")
    scale = tuple(data.draw(st.floats(0.5, 20.0)) for _ in range(n))
    ratio = data.draw(st.sampled_from([0.1, 0.5, 2.0]), label="std / length scale")
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    seed = data.draw(st.integers(0, 2**31), label="seed")
    coefficients, factors = draw_coefficients(
        spatial,
        tuple(ratio * b for b in scale),
        scale,
        generator=torch.Generator(device).manual_seed(seed),
        batch_shape=leading,
        dtype=dtype,
        device=device,
    )
    share = folded_share_from_coefficients(coefficients, factors)
    _assert_right(share, coefficients, factors, most_unclear=1.0)


def test_equals_that_of_the_displacement(device):
    shape = (24, 30, 52)
    for std, scale in ((0.06, 0.15 * math.sqrt(2)), (0.06, 0.15 / math.sqrt(2)), (0.06, 0.02)):
        coefficients, factors = draw_coefficients(
            shape,
            tuple(std * size for size in shape),
            tuple(scale * size for size in shape),
            generator=torch.Generator(device).manual_seed(4),
            batch_shape=(2,),
            dtype=torch.float32,
            device=device,
        )
        share = folded_share_from_coefficients(coefficients, factors)
        expected = folded_share(torch.ops.marginseg.gaussian_field(coefficients, factors))
        assert expected.max() > 0
        assert ((share - expected).abs() * math.prod(shape)).max() <= 2


def _plane_map(matrix, shape, device, dtype=torch.float32):
    """The coefficients and factors of X(ω) = (A - I) ω: the deformation is ω ↦ A ω."""
    n = len(shape)
    factors = [
        torch.stack([torch.ones(size), torch.arange(float(size))], dim=1).to(device, dtype)
        for size in shape
    ]
    coefficients = torch.zeros(n, *(2,) * n, dtype=dtype, device=device)
    for i, j in itertools.product(range(n), range(n)):
        place = [int(axis == j) for axis in range(n)]
        coefficients[(i, *place)] = matrix[i][j] - (i == j)
    return coefficients, factors


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[-1]], 1.0),
        ([[0.5]], 0.0),
        ([[0]], 1.0),  # a determinant of 0 folds
        ([[-1, 0], [0, 1]], 1.0),
        ([[-1, 0], [0, -1]], 0.0),  # a half turn keeps the orientation
        ([[0, 1], [1, 0]], 1.0),
        ([[0, -1], [1, 0]], 0.0),
        ([[1, 2], [2, 4]], 1.0),
        ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], 0.0),  # an even permutation
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], 1.0),
        ([[1, 2, 3], [4, 5, 6], [7, 8, 10]], 1.0),  # -3
        ([[1, 2, 3], [4, 5, 6], [7, 8, 8]], 0.0),  # 3
        ([[-1, 0, 0], [0, -1, 0], [0, 0, -1]], 1.0),
    ],
)
def test_linear_maps(device, matrix, expected):
    shape = (4, 5, 18)[-len(matrix) :]
    for dtype in (torch.float32, torch.float64):
        coefficients, factors = _plane_map(matrix, shape, device, dtype)
        assert folded_share_from_coefficients(coefficients, factors) == expected
        field = torch.ops.marginseg.gaussian_field(coefficients, factors)
        if matrix != [[1, 2], [2, 4]]:  # 0 to rounding for the factorisation there
            assert folded_share(field) == expected


def test_each_field_of_a_batch_is_counted_alone(device):
    shape, ranks = (6, 34, 70), (3, 5, 4)
    factors = [factor.to(device) for factor in _factors(shape, ranks, torch.float32, 2)]
    coefficients = torch.randn(2, 3, 3, *ranks, device=device)
    together = folded_share_from_coefficients(coefficients, factors)
    assert together.shape == (2, 3)
    for number, entry in itertools.product(range(2), range(3)):
        alone = folded_share_from_coefficients(coefficients[number, entry], factors)
        assert alone.shape == ()
        assert torch.equal(together[number, entry], alone)
    assert folded_share_from_coefficients(coefficients[:0], factors).shape == (0, 3)


@pytest.mark.parametrize("ranks", [(3, 4, 5), (3, 4, 40)])
def test_views_anywhere_in_memory(device, ranks):
    shape = (5, 9, 67)
    factors = [factor.to(device) for factor in _factors(shape, ranks, torch.float32, 4)]
    coefficients = torch.randn(2, 3, *ranks, device=device)
    expected = folded_share_from_coefficients(coefficients, factors)

    def displaced(values):
        buffer = torch.empty(values.numel() + 1, dtype=values.dtype, device=device)
        buffer[1:] = values.flatten()
        return buffer[1:].view(values.shape)

    moved = [displaced(factor) for factor in factors]
    assert torch.equal(folded_share_from_coefficients(displaced(coefficients), moved), expected)
    transposed = [factor.t().contiguous().t() for factor in factors]
    strided = coefficients.movedim(0, -1).contiguous().movedim(-1, 0)
    assert not strided.is_contiguous()
    assert torch.equal(folded_share_from_coefficients(strided, transposed), expected)


@pytest.mark.parametrize("ranks", [(2, 3, 4), (2, 3, 40)])
def test_what_is_no_number_does_not_fold_and_spoils_no_other_field(device, ranks):
    shape = (4, 40, 70)
    factors = [factor.to(device) for factor in _factors(shape, ranks, torch.float32, 6)]
    generator = torch.Generator().manual_seed(7)
    coefficients = torch.randn(3, 3, *ranks, generator=generator, device="cpu").to(device)
    expected = folded_share_from_coefficients(coefficients, factors)
    assert expected[1] > 0
    for value, axis in itertools.product((math.nan, math.inf), range(3)):
        spoilt = coefficients.clone()
        spoilt[1, axis] = value
        result = folded_share_from_coefficients(spoilt, factors)
        # Where infinities have one sign the determinant can be -infinity, which folds.
        assert result[1] == 0 if math.isnan(value) else 0 <= result[1] <= 1
        assert torch.equal(result[[0, 2]], expected[[0, 2]])


def test_same_count_for_any_number_of_threads():
    factors = _factors((40, 40, 40), (5, 6, 7), torch.float32, 8)
    coefficients = torch.randn(3, 3, 5, 6, 7)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(folded_share_from_coefficients(coefficients, factors))
    finally:
        torch.set_num_threads(threads)
    assert results[0].min() > 0
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_opcheck(device):
    ranks = (2, 3, 4)
    for dtype, n in itertools.product((torch.float32, torch.float64), (1, 2, 3)):
        factors = [
            torch.randn(size, rank, dtype=dtype, device=device)
            for size, rank in zip((6, 7, 8)[:n], ranks[:n], strict=True)
        ]
        for leading in ((), (2, 3)) if n == 2 else ((2,),):
            coefficients = torch.randn(*leading, n, *ranks[:n], dtype=dtype, device=device)
            torch.library.opcheck(torch.ops.marginseg.folded_share.default, (coefficients, factors))


def test_compiles_into_a_graph():
    factors = _factors((6, 7), (2, 3), torch.float32, 9)
    coefficients = torch.randn(4, 2, 2, 3)
    compiled = torch.compile(
        lambda drawn: folded_share_from_coefficients(drawn, factors) * 2,
        backend="eager",
        fullgraph=True,
    )
    expected = folded_share_from_coefficients(coefficients, factors) * 2
    assert torch.equal(compiled(coefficients), expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"coefficients": torch.zeros(2, 3, 5)}, ValueError, "^coefficients: expected shape"),
        ({"coefficients": torch.zeros(3, 3, 4)}, ValueError, "^coefficients: expected shape"),
        ({"coefficients": torch.zeros(3, 4)}, ValueError, "^coefficients: expected shape"),
        ({"coefficients": torch.zeros(2, 3, 4).double()}, TypeError, "one dtype"),
        ({"coefficients": torch.zeros(2, 3, 4).half()}, TypeError, "one dtype"),
        ({"factors": []}, ValueError, "^factors: expected 1 to 3"),
        ({"factors": [torch.zeros(1, 1)] * 4}, ValueError, "^factors: expected 1 to 3"),
        ({"factors": [torch.zeros(6, 3), torch.zeros(4)]}, ValueError, "^factors: expected mat"),
        ({"factors": [torch.zeros(6, 3), torch.zeros(0, 4)]}, ValueError, "^factors: expected mat"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    arguments = {
        "coefficients": torch.zeros(2, 3, 4),
        "factors": [torch.zeros(6, 3), torch.zeros(7, 4)],
    }
    assert folded_share_from_coefficients(**arguments) == 0
    with pytest.raises(error, match=message):
        folded_share_from_coefficients(**(arguments | change))


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_samples_of_the_noise_come_with_the_share_of_their_own_field(device, batch_dims):
    noise = GaussianFieldNoise(std=0.06, length_scale=0.1, spatial_dims=3)
    label = torch.zeros(2, 20, 24, 28, dtype=torch.uint8, device=device)
    label[:, 5:15, 5:20, 5:20] = 1

    def drawn():
        return torch.Generator(device).manual_seed(3)

    samples, share = noise.sample_folded(label, 4, generator=drawn(), batch_dims=batch_dims)
    assert torch.equal(samples, noise.sample(label, 4, generator=drawn(), batch_dims=batch_dims))
    field = noise.displacement((20, 24, 28), 4 * 2**batch_dims, generator=drawn())
    expected = folded_share(field).reshape(share.shape)
    assert share.shape == (4, 2)[: batch_dims + 1]
    assert expected.max() > 0.01
    assert ((share - expected).abs() * 20 * 24 * 28).max() <= 2


@pytest.mark.parametrize(
    ("length_scale", "expected"), [(0.15 * math.sqrt(2), 0.003), (0.15 / math.sqrt(2), 0.186)]
)
def test_short_length_scales_fold(length_scale, expected):
    """As many voxels as the paper says, within five standard errors and a tenth."""
    noise = GaussianFieldNoise(0.06, length_scale)
    label = torch.zeros(48, 48, 48, dtype=torch.bool)
    _, share = noise.sample_folded(label, 24, generator=torch.Generator().manual_seed(0))
    assert share.shape == (24,)
    bound = 5 * float(share.std()) / math.sqrt(24) + 0.1 * expected
    assert abs(float(share.mean()) - expected) < bound


def test_folded_share_of_known_displacements():
    grid = torch.arange(6.0)
    reflected = torch.zeros(2, 6, 6)
    reflected[0] = -2 * grid[:, None]
    assert folded_share(reflected) == 1
    both = reflected.clone()
    both[1] = -2 * grid  # a half turn keeps the orientation
    assert folded_share(both) == 0
    assert folded_share(torch.zeros(4, 3, 1, 5, 5)).tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="^displacement"):
        folded_share(torch.zeros(5, 4, 4))


def test_which_axes_are_spatial_may_be_said():
    """Two displacements of one component look like one of two."""
    mirrored = -2.0 * torch.arange(8.0).expand(2, 1, 8)
    assert folded_share(mirrored, spatial_dims=1).tolist() == [1.0, 1.0]
    assert folded_share(mirrored).shape == ()
    with pytest.raises(ValueError, match="displacement: expected shape"):
        folded_share(mirrored, spatial_dims=3)


@pytest.mark.parametrize("shape", [(30,), (7, 20), (9, 8, 7), (1, 5, 6), (6, 1, 1)])
def test_a_few_planes_at_a_time_give_what_all_do(shape, monkeypatch):
    """Against NumPy's gradients and determinants of the whole."""
    n = len(shape)
    field = 2.0 * torch.randn(2, n, *shape, dtype=torch.float64)
    expected = []
    for displacement in field.numpy():
        jacobian = np.zeros((*shape, n, n))
        for i, j in itertools.product(range(n), repeat=2):
            if shape[j] > 1:
                jacobian[..., i, j] = np.gradient(displacement[i], axis=j)
        expected.append((np.linalg.det(jacobian + np.eye(n)) <= 0).mean())
    for at_once in (1, 100, 1 << 21):
        monkeypatch.setattr("marginseg.ops.folded_share.VOXELS_AT_ONCE", at_once)
        assert folded_share(field, spatial_dims=n).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    field = torch.randn(2, 3, 6, 7, 8).to(dtype)
    assert torch.equal(folded_share(field), folded_share(field.float()))


def test_a_displacement_of_integers_is_refused():
    with pytest.raises(TypeError, match="^displacement: expected a floating dtype"):
        folded_share(torch.zeros(1, 4, dtype=torch.uint8))
