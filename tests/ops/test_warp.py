from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from marginseg import warp

SCIPY_MODES = {
    "constant": "grid-constant",
    "nearest": "nearest",
    "reflect": "reflect",
    "mirror": "mirror",
    "wrap": "grid-wrap",
}
ORDERS = {"linear": 1, "nearest": 0}


def _by_scipy(image, displacement, *, order, mode, cval):
    grid = np.stack(np.meshgrid(*[np.arange(s) for s in image.shape], indexing="ij"))
    return scipy.ndimage.map_coordinates(
        image, grid + displacement, order=order, mode=SCIPY_MODES[mode], cval=cval
    )


def _away_from_ties(displacement):
    """Half-way points have no nearest voxel: keep a hundredth of a voxel away from them."""
    remainder = displacement % 1.0
    return np.where(np.abs(remainder - 0.5) < 0.01, displacement + 0.05, displacement)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    interpolation=st.sampled_from(["linear", "nearest"]),
    mode=st.sampled_from(list(SCIPY_MODES)),
    reach=st.floats(0.1, 40.0),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_scipy(device, shape, interpolation, mode, reach, dtype, seed):
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, shape).astype(dtype)
    displacement = _away_from_ties(rng.uniform(-reach, reach, (len(shape), *shape))).astype(dtype)
    result, expected = _ours_and_scipys(image, displacement, interpolation, mode, device)
    assert result.dtype is torch.from_numpy(image).dtype
    # A position of some 50 voxels in float32 is known to 4e-6; values differ by up to 2 a voxel.
    tolerance = 1e-12 if dtype is np.float64 else 3e-5
    np.testing.assert_allclose(result.cpu().numpy(), expected, rtol=0, atol=tolerance)


def _ours_and_scipys(image, displacement, interpolation, mode, device):
    result = warp(
        torch.from_numpy(image).to(device),
        torch.from_numpy(displacement).to(device),
        interpolation=interpolation,
        mode=mode,
        cval=0.7,
        spatial_dims=image.ndim,
    )
    exact = image.astype(np.float64)
    order = ORDERS[interpolation]
    return result, _by_scipy(exact, displacement, order=order, mode=mode, cval=0.7)


@given(
    shape=st.builds(
        lambda first, last: (*first, last),
        st.lists(st.integers(1, 5), max_size=2),
        st.integers(16, 70),
    ),
    interpolation=st.sampled_from(["linear", "nearest"]),
    mode=st.sampled_from(list(SCIPY_MODES)),
    reach=st.sampled_from([0.3, 1.0, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_longer_than_a_vector_equal_scipy(device, shape, interpolation, mode, reach, seed):
    """Moved by so little that all voxels of a vector often stay inside, up to the last ones."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, shape).astype(np.float32)
    displacement = _away_from_ties(rng.uniform(-0.1, 1, (len(shape), *shape)) * reach)
    displacement = displacement.astype(np.float32)
    result, expected = _ours_and_scipys(image, displacement, interpolation, mode, device)
    np.testing.assert_allclose(result.cpu().numpy(), expected, rtol=0, atol=3e-5)


@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    mode=st.sampled_from(list(SCIPY_MODES)),
    dtype=st.sampled_from([torch.uint8, torch.bool, torch.int16, torch.int32, torch.int64]),
    field_dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_nearest_label_equals_scipy(device, shape, mode, dtype, field_dtype, seed):
    rng = np.random.default_rng(seed)
    label = torch.from_numpy(rng.integers(0, 100, shape)).to(device, dtype)
    displacement = _away_from_ties(rng.uniform(-9, 9, (len(shape), *shape))).astype(field_dtype)
    expected = _by_scipy(
        label.cpu().numpy().astype(float), displacement, order=0, mode=mode, cval=1
    )
    result = warp(
        label,
        torch.from_numpy(displacement).to(device),
        interpolation="nearest",
        mode=mode,
        cval=1,
        spatial_dims=len(shape),
    )
    assert result.dtype is dtype
    assert np.array_equal(result.cpu().numpy().astype(float), expected)


@pytest.mark.parametrize("mode", ["constant", "nearest", "wrap"])
def test_half_way_goes_to_the_upper_voxel_as_in_scipy(device, mode):
    image = np.arange(1.0, 7.0)
    displacement = np.array([[-0.5, 0.5, 1.5, -2.5, 0.5, 0.5]])
    expected = _by_scipy(image, displacement, order=0, mode=mode, cval=-1.0)
    result = warp(
        torch.from_numpy(image).to(device),
        torch.from_numpy(displacement).to(device),
        interpolation="nearest",
        mode=mode,
        cval=-1.0,
    )
    assert result.tolist() == expected.tolist()


# Where an axis is mirrored SciPy rounds after that, and so half-way the other way.
@pytest.mark.parametrize("mode", ["constant", "nearest", "wrap"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int32])
def test_half_way_along_every_axis_in_rows_longer_than_a_vector(device, mode, dtype):
    rng = np.random.default_rng(2)
    shape = (4, 5, 37)
    image = rng.integers(1, 100, shape)
    displacement = rng.integers(-4, 5, (3, *shape)) / 2
    expected = _by_scipy(image.astype(np.float64), displacement, order=0, mode=mode, cval=0)
    result = warp(
        torch.from_numpy(image).to(device, dtype),
        torch.from_numpy(displacement.astype(np.float32)).to(device),
        interpolation="nearest",
        mode=mode,
    )
    np.testing.assert_array_equal(result.cpu().numpy(), expected)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int16, torch.int32, torch.int64])
def test_binary_labels_are_cut_at_a_half(device, dtype, interpolation):
    rng = np.random.default_rng(3)
    label = rng.uniform(size=(7, 8, 9)) > 0.5
    displacement = _away_from_ties(rng.normal(0, 2, (3, 7, 8, 9)))
    expected = _by_scipy(
        label.astype(np.float64), displacement, order=ORDERS[interpolation], mode="reflect", cval=0
    )
    result = warp(
        torch.from_numpy(label).to(device, dtype),
        torch.from_numpy(displacement).to(device),
        interpolation=interpolation,
        mode="reflect",
    )
    assert result.dtype is dtype
    certain = np.abs(expected - 0.5) > 1e-9
    assert certain.mean() > 0.99
    assert np.array_equal(result.cpu().numpy()[certain] != 0, expected[certain] > 0.5)


def test_binary_label_at_exactly_a_half_is_foreground(device):
    label = torch.tensor([0, 1, 1, 0], dtype=torch.uint8)
    assert warp(label, torch.full((1, 4), 0.5)).tolist() == [1, 1, 1, 0]


def test_multi_label_takes_the_largest_summed_weight(device):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, (12, 13)).astype(np.uint8)
    displacement = rng.normal(0, 1.5, (2, 12, 13))
    votes = np.stack(
        [
            _by_scipy((labels == k).astype(float), displacement, order=1, mode="mirror", cval=0)
            for k in range(4)
        ]
    )
    result = warp(
        torch.from_numpy(labels).to(device),
        torch.from_numpy(displacement).to(device),
        mode="mirror",
    )
    ordered = np.sort(votes, axis=0)
    certain = ordered[-1] - ordered[-2] > 1e-9
    assert np.array_equal(result.cpu().numpy()[certain], votes.argmax(axis=0)[certain])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_opcheck(device, dtype, interpolation):
    image = (torch.rand(2, 3, 5, 6) * 3).to(dtype)
    field = torch.randn(2, 2, 5, 6)
    if dtype.is_floating_point:
        image.requires_grad_()
        field.requires_grad_()
    arguments = (image, field, 2, interpolation, "reflect", 0.0)
    torch.library.opcheck(torch.ops.marginseg.warp, arguments)
    if dtype.is_floating_point:
        gradient = torch.randn(2, 3, 5, 6).to(dtype).requires_grad_()
        torch.library.opcheck(torch.ops.marginseg.warp_backward, (gradient, *arguments))
        weights = torch.randn(2, 3, 5, 6).to(dtype), torch.randn(2, 2, 5, 6)
        leaves = [t.detach() for t in (*weights, gradient, image, field)]
        torch.library.opcheck(torch.ops.marginseg.warp_double_backward, (*leaves, *arguments[2:]))


def test_compiles_without_graph_break(device):
    image, field = torch.randn(2, 6, 7), torch.randn(2, 6, 7)
    compiled = torch.compile(
        lambda x, u, cval: 2 * warp(x, u, cval=cval, spatial_dims=2),
        fullgraph=True,
        backend="aot_eager",
    )
    for cval in (0.0, 0.5, 1.5):
        torch.testing.assert_close(
            compiled(image, field, cval), 2 * warp(image, field, cval=cval, spatial_dims=2)
        )


def test_exports(device):
    class Warp(torch.nn.Module):
        def forward(self, image, field):
            return warp(image, field, mode="mirror", spatial_dims=2)

    arguments = torch.randn(2, 6, 7), torch.randn(2, 2, 6, 7)
    exported = torch.export.export(Warp(), arguments).module()
    torch.testing.assert_close(exported(*arguments), Warp()(*arguments))


def test_channels_share_the_field_and_batches_do_not(device):
    image = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    field = 2 * torch.randn(2, 2, 8, 9, dtype=torch.float64)
    result = warp(image, field)
    for entry in range(2):
        for channel in range(3):
            torch.testing.assert_close(
                result[entry, channel], warp(image[entry, channel], field[entry])
            )


def test_expanded_and_strided_inputs_are_read_right(device):
    field = torch.randn(4, 2, 8, 9)
    image = torch.randn(8, 9)
    expanded = image.expand(4, 8, 9)
    torch.testing.assert_close(warp(expanded, field), warp(expanded.contiguous(), field))
    half = image.bfloat16().expand(4, 8, 9)
    torch.testing.assert_close(warp(half, field), warp(half.contiguous(), field))
    inside = torch.randn(4, 3, 8, 9)[:, 1]
    torch.testing.assert_close(warp(inside, field), warp(inside.contiguous(), field))
    two_axes = image.expand(2, 2, 8, 9)
    fields = field.reshape(2, 2, 2, 8, 9)
    torch.testing.assert_close(warp(two_axes, fields), warp(two_axes.contiguous(), fields))
    transposed = torch.randn(4, 9, 8).transpose(1, 2)
    torch.testing.assert_close(warp(transposed, field), warp(transposed.contiguous(), field))


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("shape", [(300,), (17, 16), (5, 1, 67), (4, 8, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_batches_of_several_blocks(device, mode, shape, dtype):
    """A GPU's block has 256 voxels of one entry; rows are shorter, longer, even and odd."""
    rng = np.random.default_rng(6)
    n = len(shape)
    image = rng.integers(0, 200, (3, 2, *shape))
    field = _away_from_ties(rng.normal(0, 3, (3, n, *shape))).astype(np.float32)
    for interpolation in ORDERS if dtype.is_floating_point else ("nearest",):
        # The input of a batch may be one and the same for all entries.
        for images in (image, image[:1]):
            result = warp(
                torch.from_numpy(images).to(device, dtype).expand(image.shape),
                torch.from_numpy(field).to(device),
                interpolation=interpolation,
                mode=mode,
                cval=7,
                spatial_dims=n,
            )
            for entry, channel in itertools.product(range(3), range(2)):
                expected = _by_scipy(
                    images[entry % len(images), channel].astype(float),
                    field[entry].astype(float),
                    order=ORDERS[interpolation],
                    mode=mode,
                    cval=7,
                )
                np.testing.assert_allclose(
                    result[entry, channel].cpu().numpy(), expected, rtol=0, atol=0.02
                )


def _period(mode, size):
    """Return the indices of one period of an extended axis, from 0 on."""
    inside = list(range(size))
    return {
        "reflect": inside + inside[::-1],
        "mirror": inside + inside[-2:0:-1],
        "wrap": inside,
    }[mode]


@pytest.mark.parametrize("mode", ["reflect", "mirror", "wrap"])
@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_axis_repeats_itself_however_far(device, mode, size, dtype):
    fraction = 0.25
    whole = [s * (2**e + k) for e in (3, 29, 30, 31, 33, 40, 49) for s in (-1, 1) for k in range(9)]
    image = torch.arange(1.0, size + 1, dtype=dtype) ** 2
    # Along the second axis, so that the positions are what the field says but for the row's number.
    field = torch.zeros(2, len(whole), size, dtype=dtype)
    field[1] = torch.tensor(whole, dtype=dtype)[:, None] + fraction
    images = image.expand(len(whole), size)
    linear = warp(images, field, mode=mode, spatial_dims=2)
    nearest = warp(images, field, mode=mode, interpolation="nearest", spatial_dims=2)
    period = _period(mode, size)
    values = image.tolist()
    for row, column in itertools.product(range(len(whole)), range(size)):
        position = column + Fraction(field[1, row, column].item())
        below = math.floor(position)
        before, after = (values[period[(below + side) % len(period)]] for side in (0, 1))
        weight = float(position - below)
        expected = (1 - weight) * before + weight * after
        assert linear[row, column].item() == pytest.approx(expected, rel=1e-5)
        half = math.floor(position + Fraction(1, 2))
        assert nearest[row, column] == values[period[half % len(period)]]


def test_an_axis_too_long_for_32_bits(device):
    """Longer axes than 2^20 are indexed in 64 bits on a GPU."""
    rng = np.random.default_rng(8)
    shape = (1, 2**20 + 3, 1)
    image = rng.uniform(-1, 1, shape)
    field = rng.uniform(-9, 9, (3, *shape))
    expected = _by_scipy(image, field, order=1, mode="reflect", cval=0)
    source = torch.from_numpy(image).to(device).requires_grad_()
    result = warp(source, torch.from_numpy(field).to(device), mode="reflect")
    np.testing.assert_allclose(result.detach().cpu().numpy(), expected, rtol=0, atol=1e-9)
    # What is linear in the image is its gradient times the image.
    gradient = torch.from_numpy(rng.uniform(0, 1, shape)).to(device)
    (adjoint,) = torch.autograd.grad(result, source, gradient)
    dot = (result * gradient).sum().item()
    assert dot == pytest.approx((adjoint * source).sum().item(), rel=1e-9)


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4)])
def test_empty(device, shape):
    assert warp(torch.zeros(shape), torch.zeros(shape[0], 2, *shape[1:])).shape == shape


def test_not_a_number_and_very_far(device):
    image = torch.arange(1.0, 5.0)
    field = torch.tensor([[math.nan, math.inf, -math.inf, 1e30]])
    constant = warp(image, field, cval=9.0)
    assert math.isnan(constant[0])
    assert constant[1:].tolist() == [9.0] * 3
    assert warp(image, field, mode="nearest")[1:].tolist() == [4.0, 1.0, 4.0]
    for mode in SCIPY_MODES:
        label = warp(image.byte(), field, mode=mode, cval=9, interpolation="nearest")
        assert label[0] == 9


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("interpolation", ORDERS)
def test_not_a_number_along_any_axis(device, mode, interpolation):
    image = torch.rand(3, 4, 5)
    field = torch.zeros(3, 3, 4, 5)
    field[0, 0, 0, 1] = field[1, 2, 3, 4] = field[2, 1, 0, 2] = math.nan
    lost = field.isnan().any(0)
    options = {"interpolation": interpolation, "mode": mode, "cval": 9}
    for dtype in (torch.float32, torch.float64):
        result = warp(image.to(dtype), field.to(dtype), **options)
        assert torch.equal(result.isnan(), lost)
        assert torch.equal(result[~lost], image.to(dtype)[~lost])
    label = warp((10 * image).byte(), field, **options)
    assert torch.equal(label, (10 * image).byte().masked_fill(lost, 9))


@pytest.mark.parametrize("shape", [(40,), (1, 40), (3, 40), (40, 1), (1, 1, 40), (2, 1, 40)])
@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("shift", [0.0, 0.25, -0.75])
def test_what_is_not_finite_weighs_as_in_scipy(device, shape, mode, shift):
    """A corner of weight 0 makes NaN of infinity; but along an axis that is not there is none."""
    n = len(shape)
    image = np.random.default_rng(0).uniform(size=shape)
    field = np.zeros((n, *shape))
    field[n - 1 if shape[-1] > 1 else 0] = shift
    for cval, voxel in itertools.product((0.5, math.inf, math.nan), (0.5, math.inf, math.nan)):
        image.flat[11] = voxel
        expected = _by_scipy(image, field, order=1, mode=mode, cval=cval)
        for dtype in (torch.float32, torch.float64):
            result = warp(
                torch.from_numpy(image).to(device, dtype),
                torch.from_numpy(field).to(device, dtype),
                mode=mode,
                cval=cval,
                spatial_dims=n,
            )
            np.testing.assert_allclose(result.cpu().numpy(), expected, rtol=0, atol=1e-6)


#: Movements at the ends of what integers and floats hold.
EXTREMES = sorted(
    {sign * 2.0**power for sign in (-1, 1) for power in (22, 23, 24, 29, 30, 31, 32, 62, 63, 64)}
    | {0.0, 0.5, -0.5, 3.4e38, -3.4e38, math.inf, -math.inf, math.nan}
    | {
        float(np.nextafter(np.float32(s * h), np.float32(0)))
        for s in (-1, 1)
        for h in (0.5, 2.0**31)
    }
)


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_movements_that_no_integer_holds(device, mode, dtype, axis):
    """Against exact arithmetic, with rows that vector instructions take."""
    shape = [2, 3, len(EXTREMES)]
    image = torch.arange(1.0, 1 + math.prod(shape), dtype=dtype).reshape(shape)
    field = torch.zeros(3, *shape, dtype=dtype)
    field[axis] = torch.tensor(EXTREMES, dtype=dtype)
    options = {"mode": mode, "cval": -1, "spatial_dims": 3}
    nearest = warp(image, field, interpolation="nearest", **options)
    linear = warp(image, field, **options)
    label = warp(image.byte(), field, interpolation="nearest", mode=mode, spatial_dims=3)
    assert torch.equal(label, nearest.nan_to_num(0.0).clamp(min=0.0).byte())
    size = shape[axis]
    for index in itertools.product(*map(range, shape)):
        moved = field[(axis, *index)].item()

        def value(at, index=index):
            where = list(index)
            if mode == "constant":
                inside = 0 <= at < size
            elif mode == "nearest":
                at, inside = min(max(at, 0), size - 1), True
            else:
                period = _period(mode, size)
                at, inside = period[at % len(period)], True
            where[axis] = at
            return image[tuple(where)].item() if inside else -1.0

        if math.isnan(moved):
            assert math.isnan(linear[index])
            assert math.isnan(nearest[index])
            continue
        if math.isinf(moved) and mode not in ("constant", "nearest"):
            continue  # of no place
        position = index[axis] + Fraction(
            moved if math.isfinite(moved) else math.copysign(2e9, moved)
        )
        if abs(position) > 10**15 and mode not in ("constant", "nearest"):
            continue
        below = math.floor(position)
        weight = float(position - below)
        assert nearest[index] == value(math.floor(position + Fraction(1, 2)))
        expected = (1 - weight) * value(below) + weight * value(below + 1)
        assert linear[index].item() == pytest.approx(expected, rel=1e-6)


def test_a_long_axis_moves_no_voxel_by_itself(device, in_emulation):
    """Beyond 2^23, floats have no halves any more, and beyond 2^24 not every index."""
    if in_emulation:
        pytest.skip("takes minutes where one thread runs at a time")
    size = 2**24 + 64
    label = torch.zeros(size, dtype=torch.uint8, device=device)
    label[::2] = 1
    still = torch.zeros(1, size, device=device)
    for interpolation in ORDERS:
        assert torch.equal(warp(label, still, interpolation=interpolation), label)
    image = label.float()
    assert torch.equal(warp(image, still), image)
    halves = warp(image, still + 0.25)
    assert halves[:-1].unique().tolist() == [0.25, 0.75]


def test_infinity_outside(device):
    """No corner weighs 0 between two voxels, however far outside: there, cval is what there is."""
    field = torch.tensor([[-2.5, -7.25, 99.5, 1e6 + 0.25]])
    assert warp(torch.zeros(4), field, cval=math.inf).tolist() == [math.inf] * 4


@pytest.mark.parametrize(
    ("image", "field", "options", "message"),
    [
        ((4, 5), (3, 4, 5), {}, "displacement"),
        ((4, 5), (2, 5, 4), {}, "displacement"),
        ((3, 4, 5), (2, 2, 4, 5), {}, "displacement"),
        ((3, 2, 4, 5), (3, 2, 4, 5), {}, "spatial_dims"),
        ((4, 5), (2, 4, 5), {"mode": "mirrored"}, "mode"),
        ((4, 5), (2, 4, 5), {"interpolation": "cubic"}, "interpolation"),
        ((4, 5), (2, 4, 5), {"spatial_dims": 4}, "spatial_dims"),
        ((4, 5), (2, 4, 5), {"spatial_dims": 1}, "displacement"),
        ((5,), (2, 4, 5), {}, "displacement"),
    ],
)
def test_bad_arguments_are_named(image, field, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        warp(torch.zeros(image), torch.zeros(field), **options)


def test_bad_dtypes_are_named():
    with pytest.raises(TypeError, match="^input"):
        warp(torch.zeros(4, dtype=torch.complex64), torch.zeros(1, 4))
    with pytest.raises(TypeError, match="^displacement"):
        warp(torch.zeros(4), torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="^cval"):
        warp(torch.zeros(4, dtype=torch.uint8), torch.zeros(1, 4), cval=256)
    with pytest.raises(ValueError, match="^cval"):
        warp(torch.zeros(4, dtype=torch.bool), torch.zeros(1, 4), cval=0.5)
    with pytest.raises(ValueError, match="^cval"):
        warp(torch.zeros(4, dtype=torch.int64), torch.zeros(1, 4), cval=2**63)
    with pytest.raises(TypeError, match="^cval"):
        warp(torch.zeros(4), torch.zeros(1, 4), cval="0")


@pytest.mark.parametrize("cval", [2**63 - 1, -(2**63), 2**53 + 1])
def test_every_int64_can_stand_outside(device, cval):
    label = torch.zeros(3, dtype=torch.int64)
    assert warp(label, torch.full((1, 3), 9.0), cval=cval).tolist() == [cval] * 3


def test_the_registered_ops_guard_their_memory_too(device):
    image, field = torch.zeros(64, 64), torch.zeros(2, 8, 8)
    options = (2, "linear", "constant", 0.0)
    ops = torch.ops.marginseg
    with pytest.raises(ValueError, match="^displacement"):
        ops.warp(image, field, *options)
    with pytest.raises(ValueError, match="^displacement"):
        ops.warp_backward(image, image, field, *options)
    with pytest.raises(ValueError, match="^gradient"):
        ops.warp_backward(image[:8, :8], image, torch.zeros(2, 64, 64), *options)
    with pytest.raises(ValueError, match="^input_weight"):
        ops.warp_double_backward(
            image[0], torch.zeros(2, 64, 64), image, image, torch.zeros(2, 64, 64), *options
        )
    with pytest.raises(TypeError, match="^input"):
        ops.warp_backward(image, image.byte(), torch.zeros(2, 64, 64), *options)
