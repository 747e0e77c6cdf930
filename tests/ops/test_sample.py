from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marginseg import GaussianFieldNoise, gaussian_field, warp
from marginseg.ops import boundary
from marginseg.ops.gaussian_field import draw_coefficients, gaussian_field_ranks
from marginseg.ops.sample import sample

LABEL_DTYPES = (torch.uint8, torch.bool, torch.int16, torch.int32, torch.int64)


def _boxes(shape, dtype, seed):
    """Mostly 0, with some boxes of other labels, anywhere."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.zeros(shape, dtype=torch.int64, device="cpu")
    for value in range(1, 4):
        box = []
        for size in shape:
            first, second = sorted(
                torch.randint(0, size + 1, (2,), generator=generator, device="cpu").tolist()
            )
            box.append(slice(first, second))
        label[tuple(box)] = value
    return label.clamp(max=1).to(dtype) if dtype is torch.bool else label.to(dtype)


@given(data=st.data())
def test_equals_the_warp_by_the_whole_field(device, data):
    spatial = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3), label="spatial")
    n = len(spatial)
    batch = data.draw(st.lists(st.integers(1, 2), max_size=1), label="batch")
    channels = data.draw(st.lists(st.integers(1, 2), max_size=1), label="channels")
    samples = data.draw(st.integers(1, 3), label="samples")
    std = tuple(data.draw(st.sampled_from([0.0, 0.3, 2.0, 15.0])) for _ in range(n))
    scale = tuple(data.draw(st.floats(0.5, 40.0)) for _ in range(n))
    interpolation = data.draw(st.sampled_from(["nearest", "linear"]))
    dtype = data.draw(st.sampled_from(LABEL_DTYPES))
    seed = data.draw(st.integers(0, 2**31), label="seed")
    label = _boxes((*batch, *channels, *spatial), dtype, seed).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    coefficients, factors = draw_coefficients(
        spatial,
        std,
        scale,
        generator=generator,
        batch_shape=(samples, *batch),
        dtype=torch.float32,
        device=device,
    )
    result = sample(label, coefficients, factors, interpolation=interpolation)
    field = torch.ops.marginseg.gaussian_field(coefficients, factors)
    expected = warp(
        label.expand(samples, *label.shape), field, interpolation=interpolation, spatial_dims=n
    )
    assert result.dtype is dtype
    assert torch.equal(result, expected)


def _distinct(shape, dtype):
    """A label of which hardly two neighbours are alike, none of them 0."""
    values = torch.arange(math.prod(shape), device="cpu").mul(7919).remainder(251).add(1)
    return values.reshape(shape).to(dtype)


def _moved(label, field):
    """The nearest voxel's label, looked up by NumPy in float64; spatial axes come last."""
    label, field = label.cpu().numpy(), field.cpu().double().numpy()
    shape = field.shape[2:]
    result = np.zeros((field.shape[0], *label.shape), dtype=label.dtype)
    grids = np.meshgrid(*[np.arange(size, dtype=np.float64) for size in shape], indexing="ij")
    for moved_label, displacement in zip(result, field, strict=True):
        inside = np.ones(shape, dtype=bool)
        index = []
        for grid, moved, size in zip(grids, displacement, shape, strict=True):
            nearest = np.floor(grid + moved + 0.5)
            valid = (nearest >= 0) & (nearest < size)
            index.append(np.where(valid, nearest, 0).astype(np.int64))
            inside &= valid
        moved_label[...] = np.where(inside, label[(..., *index)], 0)
    return torch.from_numpy(result)


def _wild_factors(shape, ranks, seed):
    """Factors of any ranks, with rows of norm 1: their fields jump from voxel to voxel."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        torch.randn(size, rank, generator=generator, device="cpu")
        for size, rank in zip(shape, ranks, strict=True)
    ]
    return [factor / factor.norm(dim=1, keepdim=True) for factor in drawn]


@pytest.mark.parametrize("dtype", LABEL_DTYPES)
@pytest.mark.parametrize(
    ("shape", "ranks"),
    [
        # Ranks at both ends of each class, and beyond the last; rows shorter than a warp, of a few
        # warps, with some voxels beyond; more rows and columns than a block takes.
        ((5,), (1,)),
        ((300,), (12,)),
        ((131,), (33,)),
        ((70, 129), (13, 2)),
        ((3, 33), (2, 20)),
        ((2, 67), (40, 3)),
        ((9, 66, 96), (3, 12, 11)),
        ((10, 7, 260), (21, 4, 3)),
        ((17, 65, 40), (2, 32, 5)),
        ((8, 3, 17), (1, 1, 31)),
        ((4, 5, 6), (2, 3, 50)),
    ],
)
def test_nearest_labels_against_numpy(device, shape, ranks, dtype):
    n = len(shape)
    label = _distinct((2, *shape), dtype).to(device)  # two channels
    factors = [factor.to(device) for factor in _wild_factors(shape, ranks, 0)]
    generator = torch.Generator().manual_seed(1)
    coefficients = torch.randn((3, n, *ranks), generator=generator, device="cpu").to(device)
    coefficients *= torch.tensor([0.2, 2.0, 40.0], device=device).reshape(3, *(1,) * (n + 1))
    result = sample(label, coefficients, factors, interpolation="nearest")
    field = torch.ops.marginseg.gaussian_field(coefficients, factors)
    assert torch.equal(result.cpu(), _moved(label, field))
    assert 0.02 < result.ne(0).float().mean() < 1.0


def _around(value):
    value = np.float32(value)
    return [
        np.nextafter(value, np.float32(-np.inf)),
        value,
        np.nextafter(value, np.float32(np.inf)),
    ]


#: Where a position is half-way between two voxels, at the border, or not a voxel at all.
SHIFTS = sorted(
    {
        float(sign * value)
        for sign in (-1, 1)
        for base in (0.0, 0.5, 1.0, 1.5, 4.5, 5.5, 2.0**22, 2.0**23, 2.0**24, 2.0**31, 2.0**32)
        for value in _around(base)
    }
    | {3e38, -3e38, math.inf, -math.inf}
)


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 5, 7)])
def test_positions_between_voxels_and_far_away(device, shape):
    n = len(shape)
    label = _distinct(shape, torch.int32).to(device)
    factors = [torch.ones(size, 1, device=device) for size in shape]
    for axis in range(n):
        shifts = torch.zeros(len(SHIFTS) + 1, n, device=device)
        shifts[:-1, axis] = torch.tensor(SHIFTS, device=device)
        shifts[-1, axis] = math.nan
        coefficients = shifts.reshape(*shifts.shape, *(1,) * n)
        result = sample(label, coefficients, factors, interpolation="nearest")
        assert torch.equal(result.cpu(), _moved(label, coefficients.expand(-1, -1, *shape)))
        assert not result[-1].any()
        assert result.flatten(1).any(dim=1).sum() >= 10


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_each_entry_of_a_batch_has_its_label_and_its_field(device, interpolation):
    shape, ranks = (6, 34, 70), (3, 5, 4)
    labels = torch.stack(
        [
            torch.zeros(2, *shape, dtype=torch.uint8, device="cpu"),
            _distinct((2, *shape), torch.uint8),
            _boxes((2, *shape), torch.uint8, 3),
        ]
    ).to(device)
    factors = [factor.to(device) for factor in _wild_factors(shape, ranks, 2)]
    coefficients = torch.randn(2, 3, 3, *ranks, device=device)
    together = sample(labels, coefficients, factors, interpolation=interpolation)
    assert not together[:, 0].any()
    for number, entry in itertools.product(range(2), range(3)):
        alone = sample(
            labels[entry],
            coefficients[number, entry][None],
            factors,
            interpolation=interpolation,
        )
        assert torch.equal(together[number, entry], alone[0])


@pytest.mark.parametrize("ranks", [(3, 4, 5), (3, 4, 40)])
def test_views_that_begin_anywhere_in_memory(device, ranks):
    shape = (5, 9, 67)

    def displaced(values):
        buffer = torch.empty(values.numel() + 1, dtype=values.dtype, device=device)
        buffer[1:] = values.flatten()
        view = buffer[1:].view(values.shape)
        assert view.is_contiguous()
        return view

    label = _distinct(shape, torch.uint8).to(device)
    factors = [factor.to(device) for factor in _wild_factors(shape, ranks, 4)]
    coefficients = torch.randn(2, 3, *ranks, device=device)
    expected = sample(label, coefficients, factors, interpolation="nearest")
    assert expected.any()
    result = sample(
        displaced(label),
        displaced(coefficients),
        [displaced(factor) for factor in factors],
        interpolation="nearest",
    )
    assert torch.equal(result, expected)


def test_coefficients_that_are_nan_spoil_no_other_field(device):
    shape, ranks = (4, 40, 70), (2, 3, 4)
    label = _distinct(shape, torch.uint8).to(device)
    factors = [factor.to(device) for factor in _wild_factors(shape, ranks, 6)]
    coefficients = torch.randn(3, 3, *ranks, device=device)
    expected = sample(label, coefficients, factors, interpolation="nearest")
    for value, axis in itertools.product((math.nan, math.inf), range(3)):
        spoilt = coefficients.clone()
        spoilt[1, axis, 0, 0, 0] = value
        result = sample(label, spoilt, factors, interpolation="nearest")
        assert not result[1].any()
        assert torch.equal(result[0], expected[0])
        assert torch.equal(result[2], expected[2])


def test_axes_too_long_for_floats(device, in_emulation):
    """Of 2^23 voxels and more, where a sum in float32 no longer gives their index."""
    if in_emulation:
        pytest.skip("takes minutes where one thread runs at a time")
    size = 2**23 + 100
    label = torch.zeros(size, dtype=torch.uint8, device=device)
    label[0] = label[-1] = 1
    label[-40:-20] = 2
    factor = torch.ones(size, 1, device=device)
    for shift in (0.0, 3.0, -7.0, 0.5, -0.25):
        coefficients = torch.tensor([[[shift]]], device=device)
        result = sample(label, coefficients, [factor], interpolation="nearest")
        assert torch.equal(result.cpu(), _moved(label, coefficients.expand(1, 1, size)))


def test_memory_of_high_ranks_does_not_grow_with_the_samples(device, monkeypatch):
    sizes = []
    allocate = boundary.Workspace.__call__

    def counted(workspace, size):
        sizes.append(size)
        return allocate(workspace, size)

    monkeypatch.setattr(boundary.Workspace, "__call__", counted)
    shape, ranks = (5, 6, 50), (3, 4, 40)
    label = _distinct(shape, torch.uint8).to(device)
    factors = [factor.to(device) for factor in _wild_factors(shape, ranks, 7)]
    taken = []
    for samples in (1, 5):
        sizes.clear()
        coefficients = torch.randn(samples, 3, *ranks, device=device)
        sample(label, coefficients, factors, interpolation="nearest")
        taken.append(sum(sizes))
    assert taken[0] == taken[1]
    on_cpu_kernels = boundary.core_of(label).kernels.__name__ == "marginseg._cpu"
    assert (taken[0] == 0) == on_cpu_kernels


def test_noise_samples_follow_its_displacement(device):
    noise = GaussianFieldNoise(std=0.05, spatial_dims=3)
    label = _boxes((20, 24, 28), torch.uint8, 0).to(device)
    samples = noise.sample(label, 4, generator=torch.Generator(device).manual_seed(3))
    field = noise.displacement(label.shape, 4, generator=torch.Generator(device).manual_seed(3))
    expected = warp(label.expand(4, *label.shape), field, interpolation="nearest", spatial_dims=3)
    assert torch.equal(samples, expected)


def test_huge_and_undefined_fields_read_nothing_outside(device):
    label = torch.ones(9, 10, dtype=torch.uint8, device=device)
    ranks = gaussian_field_ranks((9, 10), (3.0, 3.0))
    for value in (1e12, 1e38, float("inf"), float("nan")):
        coefficients = torch.full((1, 2, *ranks), value, device=device)
        factors = [torch.ones(9, ranks[0], device=device), torch.ones(10, ranks[1], device=device)]
        result = sample(label, coefficients, factors, interpolation="nearest")
        assert not result.any()


def test_same_bits_for_any_number_of_threads():
    noise = GaussianFieldNoise(std=0.04, spatial_dims=3)
    label = _boxes((3, 40, 40, 40), torch.int16, 5)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            generator = torch.Generator().manual_seed(1)
            results.append(noise.sample(label, 2, generator=generator, batch_dims=1))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_opcheck(device):
    label = _boxes((2, 6, 7, 8), torch.uint8, 1).to(device)
    ranks = gaussian_field_ranks((6, 7, 8), 3.0)
    factors = [
        torch.randn(size, rank, device=device) for size, rank in zip((6, 7, 8), ranks, strict=True)
    ]
    for interpolation in ("nearest", "linear"):
        for arguments in (
            (label, torch.randn(3, 3, *ranks, device=device), factors, interpolation),
            (label, torch.randn(3, 2, 3, *ranks, device=device), factors, interpolation),
        ):
            torch.library.opcheck(torch.ops.marginseg.sample.default, arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"label": torch.zeros(6, 7)}, TypeError, "label"),
        ({"label": torch.zeros(6, 8, dtype=torch.uint8)}, ValueError, "coefficients"),
        ({"coefficients": torch.zeros(1, 2, 3, 5)}, ValueError, "coefficients"),
        ({"coefficients": torch.zeros(2, 3, 4)}, ValueError, "coefficients"),
        ({"coefficients": torch.zeros(1, 2, 3, 4).double()}, TypeError, "float32"),
        ({"factors": []}, ValueError, "factors"),
        ({"factors": [torch.zeros(6, 3), torch.zeros(7)]}, ValueError, "coefficients"),
        ({"interpolation": "cubic"}, ValueError, "interpolation"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    arguments = {
        "label": torch.zeros(6, 7, dtype=torch.uint8),
        "coefficients": torch.zeros(1, 2, 3, 4),
        "factors": [torch.zeros(6, 3), torch.zeros(7, 4)],
        "interpolation": "nearest",
    }
    assert sample(**arguments).shape == (1, 6, 7)
    with pytest.raises(error, match=message):
        sample(**(arguments | change))


def test_field_of_the_coefficients_is_the_public_one():
    shape, ranks = (12, 15), gaussian_field_ranks((12, 15), 4.0)
    normals = torch.randn(3, 2, *ranks)
    scaled, factors = draw_coefficients(
        shape,
        (1.5, 0.5),
        (4.0, 4.0),
        generator=None,
        batch_shape=(3,),
        dtype=torch.float32,
        device="cpu",
        coefficients=normals,
    )
    public = gaussian_field(shape, (1.5, 0.5), 4.0, batch_shape=(3,), coefficients=normals)
    assert torch.equal(torch.ops.marginseg.gaussian_field(scaled, factors), public)
