from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marginseg import GaussianFieldNoise, gaussian_field, warp
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


@settings(max_examples=150, deadline=None)
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
