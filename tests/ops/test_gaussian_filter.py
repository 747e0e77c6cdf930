from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from marginseg import _cpu, gaussian_filter
from marginseg.ops import boundary

MODES = ("constant", "nearest", "reflect", "mirror", "wrap")
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-12}


@given(
    shape=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    data=st.data(),
    mode=st.sampled_from(MODES),
    truncate=st.floats(0.3, 6.0),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sampled_kernel_equals_scipy(device, shape, data, mode, truncate, dtype, seed):
    sigma = data.draw(
        st.lists(
            st.one_of(st.just(0.0), st.floats(0.05, 8.0)),
            min_size=len(shape),
            max_size=len(shape),
        )
    )
    values = np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)
    expected = scipy.ndimage.gaussian_filter(values, sigma, mode=mode, cval=0.3, truncate=truncate)
    result = gaussian_filter(
        torch.from_numpy(values).to(device), sigma, mode=mode, cval=0.3, truncate=truncate
    )
    np.testing.assert_allclose(result.cpu().numpy(), expected, rtol=0, atol=TOLERANCE[dtype])


def test_fewer_sigmas_filter_the_last_axes(device):
    values = np.random.default_rng(0).normal(size=(2, 3, 9, 11))
    expected = scipy.ndimage.gaussian_filter(values, (0, 0, 1.5, 0.7), mode="reflect")
    result = gaussian_filter(torch.from_numpy(values).to(device), (1.5, 0.7), mode="reflect")
    np.testing.assert_allclose(result.cpu().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.2, 0.64, 3.0])
def test_integrated_kernel_is_the_probability_of_each_voxel(device, sigma):
    impulse = torch.zeros(41, dtype=torch.float64, device=device)
    impulse[20] = 1.0
    result = gaussian_filter(impulse, sigma, kernel="integrated", truncate=6.0)
    k = np.arange(41) - 20
    expected = norm.cdf(k + 0.5, scale=sigma) - norm.cdf(k - 0.5, scale=sigma)
    # 2e-9 lies beyond 6 sigma.
    np.testing.assert_allclose(result.cpu().numpy(), expected, atol=4e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel", ["sampled", "integrated"])
def test_derivatives(device, mode, kernel):
    def run(values):
        return gaussian_filter(values, (1.1, 0.0, 2.5), mode=mode, cval=0.5, kernel=kernel)

    values = torch.randn(2, 3, 2, 4, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(run, values)
    # Along a direction drawn at random, in which every entry takes part.
    assert torch.autograd.gradgradcheck(run, values, fast_mode=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 2, 3), (5, 7, 31)])
def test_the_adjoint_is_the_transposed_map(device, mode, shape, monkeypatch):
    """<filter(a), b> = <a, adjoint(b)>, by sums whose order no thread decides."""
    for name in ("index_add_", "scatter_add_", "index_put_"):
        monkeypatch.setattr(torch.Tensor, name, None)
    a, b = torch.randn(2, *shape, dtype=torch.float64, device=device)
    sigma = (0.4, 1.5, 2.0)
    there = torch.dot(gaussian_filter(a, sigma, mode=mode).flatten(), b.flatten())
    adjoint = torch.ops.marginseg.gaussian_filter_adjoint(b, sigma, mode, 4.0, "sampled")
    torch.testing.assert_close(torch.dot(a.flatten(), adjoint.flatten()), there)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(device, dtype, requires_grad):
    values = torch.randn(2, 5, 4).to(device, dtype).requires_grad_(requires_grad)
    arguments = (values, [1.0, 0.5], "reflect", 0.0, 4.0, "sampled")
    torch.library.opcheck(torch.ops.marginseg.gaussian_filter, arguments)
    arguments = (values, [1.0, 0.5], "reflect", 4.0, "sampled")
    torch.library.opcheck(torch.ops.marginseg.gaussian_filter_adjoint, arguments)


def test_compiles_without_graph_break(device):
    values = torch.randn(6, 7, device=device)
    compiled = torch.compile(
        lambda x: 2 * gaussian_filter(x, 1.2, mode="wrap"), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(values), 2 * gaussian_filter(values, 1.2, mode="wrap"))


def test_non_contiguous_half_empty_and_label_inputs(device):
    values = torch.randn(9, 8, 7, dtype=torch.float64, device=device)
    strided = values.permute(2, 0, 1)[::2]
    torch.testing.assert_close(
        gaussian_filter(strided, 1.0), gaussian_filter(strided.contiguous(), 1.0)
    )
    assert gaussian_filter(torch.zeros(0, 4, 5, device=device), 1.0).shape == (0, 4, 5)
    assert gaussian_filter(torch.zeros(3, 0, device=device), (1.0,)).shape == (3, 0)
    for dtype in (torch.float16, torch.bfloat16):
        for shape in ((8, 8), (3, 5, 7), (4, 8, 16)):
            half = torch.rand(shape, device=device).to(dtype)
            for sigma in ((1.0, 1.0), (1.0,) * 3, (0.0, 5.0), (1.0, 6.0), (7.0, 0.0)):
                if len(sigma) > len(shape):
                    continue
                # Computed in float32 and rounded once.
                result = gaussian_filter(half, sigma)
                assert result.dtype is dtype
                torch.testing.assert_close(result, gaussian_filter(half.float(), sigma).to(dtype))
    label = torch.rand(8, 8, device=device) > 0.5
    torch.testing.assert_close(gaussian_filter(label, 1.0), gaussian_filter(label.float(), 1.0))


def test_sigma_zero_copies(device):
    values = torch.randn(4, 4, device=device)
    result = gaussian_filter(values, 0.0)
    assert torch.equal(result, values)
    assert result.data_ptr() != values.data_ptr()


def test_result_does_not_depend_on_the_number_of_threads():
    values = torch.randn(40, 50, 60)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(gaussian_filter(values, 2.0))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], result) for result in results[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": -1.0}, "sigma"),
        ({"sigma": math.nan}, "sigma"),
        ({"sigma": (1.0,) * 4}, "sigma"),
        ({"sigma": (1.0,) * 3}, "sigma"),
        ({"sigma": 1.0, "mode": "mirrored"}, "mode"),
        ({"sigma": 1.0, "truncate": 0.0}, "truncate"),
        ({"sigma": 1.0, "kernel": "box"}, "kernel"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        gaussian_filter(torch.zeros(4, 4), **arguments)


def test_no_tensor_and_complex_are_refused():
    with pytest.raises(TypeError, match="^input"):
        gaussian_filter(np.zeros(3), 1.0)
    with pytest.raises(TypeError, match="^input"):
        gaussian_filter(torch.zeros(3, dtype=torch.complex64), 1.0)


@given(data=st.data())
def test_sparse_inputs_of_any_shape_against_scipy(device, data):
    # Mostly 0, as labels are: what is far from the rest is not computed, and labels go by runs.
    shape = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3), label="shape")
    sigma = data.draw(
        st.lists(st.sampled_from([0.0, 0.4, 1.0, 2.7, 9.0]), min_size=1, max_size=len(shape)),
        label="sigma",
    )
    mode = data.draw(st.sampled_from(["constant", "nearest", "reflect", "mirror", "wrap"]))
    cval = data.draw(st.sampled_from([0.0, 1.0, -0.3])) if mode == "constant" else 0.0
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.uint8, np.bool_]))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    values = np.zeros(shape)
    for _ in range(data.draw(st.integers(0, 3), label="boxes")):
        corners = [np.sort(generator.integers(0, size + 1, size=2)) for size in shape]
        box = tuple(slice(low, high) for low, high in corners)
        values[box] = generator.integers(0, 4) if dtype == np.uint8 else generator.random()
    values = (values > 0.5 if dtype == np.bool_ else values).astype(dtype)
    result = gaussian_filter(torch.from_numpy(values).to(device), sigma, mode=mode, cval=cval)
    axes = tuple(range(len(shape) - len(sigma), len(shape)))
    expected = scipy.ndimage.gaussian_filter(
        values.astype(np.float64), sigma, mode=mode, cval=cval, axes=axes
    )
    assert result.dtype is (torch.float64 if dtype == np.float64 else torch.float32)
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    np.testing.assert_allclose(result.cpu().numpy(), expected, rtol=0, atol=tolerance)


def test_nan_spreads_as_far_as_the_kernel(device):
    values = torch.zeros(4, 30, 40, device=device)
    values[1, 10, 20] = math.nan
    result = gaussian_filter(values, (0.0, 1.0, 0.5))  # radii 0, 4, 2
    expected = torch.zeros(4, 30, 40, dtype=torch.bool, device=device)
    expected[1, 6:15, 18:23] = True
    assert torch.equal(result.isnan(), expected)
    assert not result.nan_to_num().any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", ["sampled", "integrated"])
def test_what_is_one_stays_one(device, dtype, kernel):
    """Exactly: in the middle of a label, and everywhere where it goes on beyond the ends."""
    for sigma in (*np.linspace(0.3, 4.0, 12), 21.7):
        ones = torch.ones(9, 20, 37, dtype=dtype, device=device)
        same = gaussian_filter(ones, sigma, mode="nearest", kernel=kernel)
        assert torch.equal(same, torch.ones_like(same))
    label = torch.zeros(40, 40, 50, dtype=dtype, device=device)
    label[3:-3, 3:-3, 3:-3] = 1
    filtered = gaussian_filter(label, 2.0, kernel=kernel)  # of radius 8
    assert torch.equal(filtered[11:-11, 11:-11, 11:-11], torch.ones_like(filtered)[:18, :18, :28])


@given(data=st.data())
def test_a_mean_of_probabilities_is_a_probability(device, data):
    """No rounding lifts it above 1: the filter is monotone, and 1 stays 1."""
    shape = data.draw(st.tuples(*[st.integers(1, 24)] * 3))
    sigma = data.draw(st.floats(0.1, 30.0))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    values = torch.from_numpy(np.random.default_rng(1).uniform(size=shape)).to(dtype)
    values[values > 0.2] = 1.0
    mode = data.draw(st.sampled_from(MODES))
    filtered = gaussian_filter(values.to(device), sigma, mode=mode, cval=1.0)
    assert filtered.min() >= 0.0
    assert filtered.max() <= 1.0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sigma", [(17.0, 0.0, 0.0), (1.0, 18.0, 0.0), (0.0, 5.0, 21.0)])
def test_kernels_longer_than_the_axes(device, mode, sigma):
    values = np.random.default_rng(3).uniform(-1, 1, (6, 20, 36))
    expected = scipy.ndimage.gaussian_filter(values, sigma, mode=mode, cval=0.4)
    result = gaussian_filter(torch.from_numpy(values).to(device), sigma, mode=mode, cval=0.4)
    np.testing.assert_allclose(result.cpu().numpy(), expected, rtol=0, atol=1e-12)


def random_values(shape, dtype, seed=0):
    values = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))
    return (values > 0).to(dtype) if dtype is torch.uint8 else values.to(dtype)


def by_scipy(values, radii, mode, cval=0.0):
    """Filter in float64, with kernels of these radii: they end at three standard deviations."""
    return scipy.ndimage.gaussian_filter(
        values.cpu().double().numpy(), [r / 3 for r in radii], mode=mode, cval=cval, truncate=3.0
    )


def filtered(values, radii, **arguments):
    return gaussian_filter(values, [r / 3 for r in radii], truncate=3.0, **arguments)


# The kernels on a GPU: planes in tiles of 64 columns and 64 or 32 rows up to radius 16, runs of 4
# or 8 along an axis that is not the last, strips of 8 rows and 64 columns along the last. The
# shapes end within, at and beyond each of these, and rows are multiples of a vector or are not.
SHAPES_AND_RADII = [
    ((1, 1, 1), (1, 2, 3)),
    ((2, 31, 60), (0, 16, 16)),
    ((2, 33, 64), (0, 1, 15)),
    ((1, 65, 68), (0, 15, 4)),
    ((3, 40, 132), (0, 0, 5)),
    ((2, 7, 66), (0, 8, 0)),
    ((1, 34, 65), (3, 9, 13)),
    ((1, 5, 129), (0, 2, 16)),
    ((33, 3, 12), (17, 0, 0)),
    ((8, 5, 9), (5, 1, 0)),
    ((40, 2, 8), (63, 3, 0)),
    ((12, 3, 16), (64, 0, 0)),
    ((7, 3, 7), (20, 0, 2)),
    ((3, 41, 8), (0, 29, 0)),
    ((2, 9, 140), (0, 0, 17)),
    ((1, 33, 64), (0, 0, 63)),
    ((1, 3, 260), (0, 4, 42)),
    ((2, 5, 63), (1, 0, 33)),
    ((1, 2, 52), (0, 0, 64)),
    ((1, 2, 30), (0, 0, 200)),
    ((4, 6, 72), (21, 21, 21)),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-13),
        (torch.float32, 1e-6),
        (torch.uint8, 4e-6),
        (torch.float16, 1e-3),
        (torch.bfloat16, 8e-3),
    ],
)
def test_radii_and_shapes_about_the_sizes_of_tiles(device, mode, dtype, tolerance):
    for seed, (shape, radii) in enumerate(SHAPES_AND_RADII):
        values = random_values(shape, dtype, seed)
        cval = 2.0 if dtype is torch.uint8 else 0.3
        result = filtered(values.to(device), radii, mode=mode, cval=cval)
        expected = by_scipy(values, radii, mode, cval)
        np.testing.assert_allclose(
            result.double().cpu().numpy(), expected, rtol=0, atol=tolerance, err_msg=f"{shape}"
        )


@pytest.mark.parametrize("kernel", ["sampled", "integrated"])
@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("sigma", [0.3, 2.0, 40.0, 3e4, 1e9])
def test_of_kernels_longer_than_the_volume_only_the_middle_counts(device, kernel, size, sigma):
    values = torch.rand(size, dtype=torch.float64, device=device)
    result = gaussian_filter(values, sigma, kernel=kernel, truncate=5.5).cpu().numpy()
    lags = np.subtract.outer(np.arange(size), np.arange(size))
    if kernel == "integrated":
        weights = norm.cdf(lags + 0.5, scale=sigma) - norm.cdf(lags - 0.5, scale=sigma)
        total = 1.0 - 2.0 * norm.sf(int(5.5 * sigma + 0.5) + 0.5, scale=sigma)
    else:
        weights = np.exp(-0.5 * (lags / sigma) ** 2)
        radius = int(5.5 * sigma + 0.5)
        total = math.sqrt(2 * math.pi) * sigma * (1.0 - 2.0 * norm.sf(5.5))
        if radius < 10**6:
            total = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).sum()
    weights[np.abs(lags) > int(5.5 * sigma + 0.5)] = 0.0
    expected = weights @ values.cpu().numpy() / total
    np.testing.assert_allclose(result, expected, rtol=1e-7, atol=1e-15)
    with pytest.raises(ValueError, match="sigma: expected kernels of up to"):
        gaussian_filter(values, 1e9, mode="reflect")
    with pytest.raises(ValueError, match="sigma: expected kernels of up to"):
        gaussian_filter(values, 1e9, cval=1.0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["dense", "sparse", "label"])
@pytest.mark.parametrize("sigma", [(3.0, 12.0, 2.0), (9.0, 12.0, 0.0)])
def test_margins_too_large_for_a_tile(mode, kind, sigma):
    """Then the first axis is filtered before the others, which follow in place."""
    values = np.random.default_rng(0).uniform(-1, 1, (1, 21, 40, 1100)).astype(np.float32)
    if kind != "dense":
        values[:, :4] = values[:, 15:] = values[:, :, 30:] = values[..., :90] = 0
    if kind == "label":
        values = (values > 0.2).astype(np.uint8)
    expected = scipy.ndimage.gaussian_filter(
        values.astype(np.float64), (0.0, *sigma), mode=mode, cval=0.5
    )
    result = gaussian_filter(torch.from_numpy(values), sigma, mode=mode, cval=0.5)
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("radius", range(17))
def test_every_radius_of_planes(device, radius):
    values = random_values((2, 20, 72), torch.float32)
    for radii in ((0, radius, 5), (0, 2, radius)):
        result = filtered(values.to(device), radii, mode="nearest").cpu().numpy()
        np.testing.assert_allclose(result, by_scipy(values, radii, "nearest"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("radii", [(0, 3, 5), (2, 16, 1), (9, 0, 0), (0, 18, 17), (0, 0, 66)])
def test_what_is_not_finite_reaches_the_radius_and_no_further(device, value, radii):
    shape = (24, 40, 68 if radii[2] < 60 else 180)
    for place in ((0, 0, 0), (12, 21, 33), (23, 39, shape[2] - 1)):
        values = torch.zeros(shape, device=device)
        values[place] = value
        expected = torch.zeros(shape, dtype=torch.bool, device=device)
        expected[
            tuple(slice(max(p - r, 0), p + r + 1) for p, r in zip(place, radii, strict=True))
        ] = True
        result = filtered(values, radii)
        assert torch.equal(~result.isfinite(), expected)
        assert not result[~expected].any()


@pytest.mark.parametrize("radii", [(3, 4, 5), (20, 21, 22)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.uint8])
def test_views_that_begin_between_vectors(device, radii, dtype):
    values = random_values((5, 6, 72), dtype).to(device)
    beside = torch.zeros(values.numel() + 1, dtype=dtype, device=device)
    view = beside[1:].view(values.shape)
    view.copy_(values)
    assert view.is_contiguous()
    assert torch.equal(filtered(view, radii), filtered(values, radii))


def test_many_planes_are_filtered_as_one_is(device):
    values = random_values((260, 66, 8), torch.float32).to(device)
    radii = (0, 16, 3)
    together = filtered(values, radii)
    for plane in (0, 131, 259):
        assert torch.equal(together[plane], filtered(values[plane : plane + 1], radii)[0])
    expected = by_scipy(values, radii, "constant")
    np.testing.assert_allclose(together.cpu().numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("radii", [(3999, 0, 0), (0, 0, 3999)])
def test_the_longest_kernels(device, radii):
    values = random_values((3, 4, 10), torch.float64)
    for mode in ("reflect", "constant"):
        result = filtered(values.to(device), radii, mode=mode, cval=0.7).cpu().numpy()
        np.testing.assert_allclose(result, by_scipy(values, radii, mode, 0.7), atol=1e-12)


def test_a_kernel_too_long_for_a_gpu_is_refused(device):
    values, sigma = torch.zeros(8, 8, 8, device=device), (1000.0, 0.0, 0.0)
    if boundary.cores["cpu"].kernels is _cpu and device.type == "cpu":
        assert gaussian_filter(values, sigma, mode="reflect").shape == (8, 8, 8)
        return
    # Where nothing lies outside, no kernel is longer than the axis.
    assert gaussian_filter(values, sigma).shape == (8, 8, 8)
    with pytest.raises(ValueError, match=r"^gaussian_filter: a kernel of radius 4000 .* 3999"):
        gaussian_filter(values, sigma, mode="reflect")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32])
@pytest.mark.parametrize("shape", [(9,), (5, 40), (3, 4, 70), (2, 3, 4, 5)])
def test_all_zeros_stay_zeros(device, dtype, shape):
    """There is nothing whose support the work could be cut to."""
    n = min(len(shape), 3)
    for sigma in (1.0, 30.0):
        result = gaussian_filter(torch.zeros(shape, dtype=dtype, device=device), (sigma,) * n)
        assert torch.equal(result, torch.zeros(shape, device=device))


@pytest.mark.parametrize("kernel", ["sampled", "integrated"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_exactly_added(device, dtype, kernel):
    """They sum to 1, and neither they nor their sums are far from what they are rounded from."""
    unit = 2.0**-24 if dtype is torch.float32 else 2.0**-53
    for sigma in np.linspace(0.2, 30.0, 45):
        impulse = torch.zeros(301, dtype=dtype, device=device)
        impulse[150] = 1.0
        weights = gaussian_filter(impulse, sigma, kernel=kernel).double().cpu().numpy()
        np.testing.assert_array_equal(weights, weights[::-1])
        radius = int(4 * sigma + 0.5)
        k = np.arange(-150, 151)
        if kernel == "sampled":
            exact = np.exp(-0.5 * (k / sigma) ** 2)
        else:
            exact = norm.cdf((k + 0.5) / sigma) - norm.cdf((k - 0.5) / sigma)
        exact *= np.abs(k) <= radius
        exact /= exact.sum()
        assert math.fsum(weights) == 1.0
        slack = 4 * np.finfo(float).eps
        assert np.abs(weights - exact).max() <= unit + slack
        assert np.abs(weights.cumsum() - exact.cumsum()).max() <= unit / 2 + slack
