"""t* of maps in chunks has the bits of the whole map's t*, and those of exact arithmetic."""

from __future__ import annotations

import itertools
import math
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from marginseg import dice_threshold, streamed_dice_threshold

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def _plain(best):
    return [result.tolist() for result in best]


def _assert_as_whole(chunks, *, leading_dims=0):
    """Check against the op on the whole map, by its iteration and by its sorted scan."""
    parts = [torch.as_tensor(chunk) for chunk in chunks]
    leading = parts[0].shape[:leading_dims]
    whole = torch.cat([part.reshape(*leading, -1) for part in parts], dim=-1)
    best = streamed_dice_threshold(chunks, leading_dims=leading_dims)
    for method in ("iterate", "sort"):
        expected = dice_threshold(whole, spatial_dims=1, method=method)
        assert _plain(best) == _plain(expected)
    assert [x.dtype for x in best] == [torch.float64, torch.float64, torch.int64]
    return best


class _Passes:
    """Chunks that can be gone through again, and how often they were."""

    def __init__(self, *chunks):
        self.chunks = chunks
        self.count = 0

    def __iter__(self):
        self.count += 1
        return iter(self.chunks)


@st.composite
def _maps(draw):
    """A map's values, of which many are equal, near each other or next to t*, and its dtype."""
    dtype = draw(st.sampled_from(DTYPES))
    width = {torch.float16: 16, torch.float64: 64}.get(dtype, 32)
    anchor = draw(st.floats(0.0, 1.0, width=width))
    value = st.one_of(
        st.floats(0.0, 1.0, width=width),
        st.sampled_from([0.0, -0.0, 1.0, 0.5, 0.25, anchor]),
        st.integers(0, 40).map(lambda step: min(1.0, anchor * (1 + step * 2.0**-24))),
        st.floats(0.0, 2.0**-20, width=width),
        st.integers(0, 5).map(lambda step: step * float(torch.finfo(dtype).smallest_normal) / 4),
    )
    return torch.tensor(draw(st.lists(value, max_size=40)), dtype=torch.float64).to(dtype)


@given(_maps(), st.lists(st.integers(0, 40), max_size=5))
@example(torch.tensor([1 - 2.0**-53] * 3, dtype=torch.float64), [])  # 2^-108 from a middle
def test_any_chunks_give_the_exact_maximum_to_the_last_bit(values, ends):
    bounds = [0, *sorted(min(end, len(values)) for end in ends), len(values)]
    best = _assert_as_whole([values[a:b] for a, b in itertools.pairwise(bounds)])
    masses = sorted((Fraction(float(v)) for v in values), reverse=True)
    whole = sum(masses)
    if whole == 0:
        assert _plain(best) == [0.5, 1.0, 0]
    else:
        inside = itertools.accumulate(masses)
        supremum = max(2 * mass / (whole + n) for n, mass in enumerate(inside, start=1))
        threshold, dice, volume = _plain(best)
        if dice != float(supremum):
            # Sums of two doubles tell no more than some 2^-106 from the middle of two doubles.
            middle = (Fraction(dice) + Fraction(float(supremum))) / 2
            assert abs(supremum - middle) < Fraction(1, 2**102)
        assert threshold == dice / 2
        assert volume == int((values.double() >= threshold).sum())


@given(_maps())
def test_accuracy_cuts_at_half(values):
    best = streamed_dice_threshold([values[:7], values[7:]], metric="accuracy")
    masses = [Fraction(float(v)) for v in values]
    inside = [mass for mass in masses if mass >= Fraction(1, 2)]
    dice = 2 * sum(inside) / (sum(masses) + len(inside)) if sum(masses) else 1
    assert _plain(best) == [0.5, float(dice), len(inside)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_next_to_the_threshold(dtype):
    # Values within some roundings of t*, on both sides of it: all passes are needed to tell them
    # apart, and those on the wrong side must not be in the volume.
    generator = np.random.default_rng(0)
    for _ in range(100):
        certain = generator.random(generator.integers(1, 6)) ** 0.3
        certain = torch.tensor(certain, dtype=dtype)
        threshold = dice_threshold(certain, spatial_dims=1).threshold.item()
        steps = torch.tensor(generator.integers(-4, 5, size=50))
        close = threshold * (1 + steps.double() * torch.finfo(dtype).eps)
        _assert_as_whole([close.to(dtype), certain])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at_edge", [0, 1, 40])
def test_threshold_at_the_edge_of_a_prefix(dtype, at_edge):
    # A = (S + n) / 4 for the cut at 1/4, and for the ones alone: t* is 1/4 exactly, where a prefix
    # of the bits begins.
    values = torch.cat([torch.ones(2 + at_edge), torch.full((at_edge,), 0.25)])
    below = torch.full((32 + 14 * at_edge,), 0.125)
    chunks = [values.to(dtype), below.to(dtype)]
    best = _assert_as_whole(chunks)
    assert _plain(best) == [0.25, 0.5, 2 + 2 * at_edge]
    # One rounding less, and the values are in the cut or not.
    smaller = torch.nextafter(chunks[0], torch.zeros((), dtype=dtype))
    _assert_as_whole([smaller, chunks[1]])
    _assert_as_whole([chunks[0], torch.nextafter(chunks[1], torch.ones((), dtype=dtype))])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("largest", [3, 100, 1 << 16, 1 << 20])
def test_maps_of_subnormal_values_and_zeros(dtype, largest):
    # Zeros have the leading bits of the smallest numbers, and are in no cut.
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    generator = torch.Generator().manual_seed(3)
    values = torch.randint(largest, (300,), generator=generator).double().mul(smallest).to(dtype)
    values[::3] = 0.0
    values[1::9] = -0.0
    _assert_as_whole(values.split(77))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dense", "sparse", "tied", "constant", "narrow", "tiny"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_large_chunks_on_any_number_of_threads(dtype, kind, threads):
    generator = torch.Generator().manual_seed(7)
    uniform = torch.rand(200_003, generator=generator, dtype=torch.float64)
    values = {
        "dense": uniform,
        "sparse": torch.where(torch.arange(len(uniform)) % 50_000 < 9, uniform, 0.0),
        "tied": torch.where(uniform < 0.5, 0.4142, uniform),
        "constant": torch.full_like(uniform, 0.3),
        "narrow": torch.where(
            uniform < 0.5, 0.35 + 1e-4 * uniform, torch.where(uniform < 0.7, 1, 0)
        ),
        "tiny": uniform**40,
    }[kind].to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _assert_as_whole(values.split([100_001, 0, 3, 99_999]))
    finally:
        torch.set_num_threads(before)


def test_many_classes_in_leading_axes():
    generator = torch.Generator().manual_seed(1)
    # More than enough to share the maps out among threads; some are empty, and some are found in
    # fewer passes than others.
    m = torch.rand(4, 5, 9, 30, 40, generator=generator) ** 3
    m[1, 2] = 0.0
    m[2, 2] = 0.25
    m[3] = m[3].round()
    best = _assert_as_whole(m.split([1, 5, 3], dim=2), leading_dims=2)
    assert best.dice.shape == (4, 5)
    few = m[0, :3].contiguous()
    _assert_as_whole([few[:, :2].flatten(1), few[:, 2:]], leading_dims=1)


def test_memory_that_is_not_contiguous():
    generator = torch.Generator().manual_seed(1)
    m = torch.rand(6, 8, 10, generator=generator)
    expected = _plain(dice_threshold(m.contiguous(), spatial_dims=3))
    for chunks in (
        [m.permute(2, 0, 1)[:4], m.permute(2, 0, 1)[4:]],
        [m.numpy()[:, ::2], m.numpy()[:, 1::2]],
        [m.numpy().astype(">f4")],
        [np.asfortranarray(m.numpy())],
        [m.requires_grad_()],
    ):
        assert _plain(streamed_dice_threshold(chunks)) == expected


def test_an_array_on_disk(tmp_path):
    generator = np.random.default_rng(0)
    m = generator.random((12, 20, 30), dtype=np.float32) ** 4
    m.tofile(tmp_path / "map")
    mapped = np.memmap(tmp_path / "map", dtype=np.float32, mode="r", shape=m.shape)
    expected = _plain(dice_threshold(torch.from_numpy(m), spatial_dims=3))
    assert _plain(streamed_dice_threshold(mapped)) == expected
    assert _plain(streamed_dice_threshold(torch.from_numpy(m))) == expected


def test_several_files(tmp_path):
    generator = np.random.default_rng(0)
    parts = [generator.random((9, 20 + i), dtype=np.float32) for i in range(3)]

    class Files:
        def __iter__(self):
            return (np.load(path) for path in sorted(tmp_path.glob("*.npy")))

    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", part)
    whole = torch.cat([torch.from_numpy(part).flatten() for part in parts])
    expected = dice_threshold(whole, spatial_dims=1)
    assert _plain(streamed_dice_threshold(Files())) == _plain(expected)


def test_chunks_may_share_a_buffer_and_are_let_go():
    generator = np.random.default_rng(0)
    m = generator.random(1000, dtype=np.float32)

    class Reader:
        def __iter__(self):
            buffer = np.empty(100, dtype=np.float32)
            for begin in range(0, len(m), 100):
                buffer[:] = m[begin : begin + 100]
                chunk = buffer[:]
                reference = weakref.ref(chunk)
                yield chunk
                del chunk
                assert reference() is None
                buffer[:] = np.nan

    best = streamed_dice_threshold(Reader())
    assert _plain(best) == _plain(dice_threshold(torch.from_numpy(m), spatial_dims=1))


UNIFORM = torch.linspace(0, 1, 99_999)
# A map with t* next to 1/4, where a hundred values differ by their last seven bits: with fifty ones
# and 75 of mass below, A = S + n at 1/4 no matter how many of these values are in the cut.
LAST_BITS = torch.cat(
    [
        torch.ones(50, dtype=torch.float64),
        torch.full((600,), 0.125, dtype=torch.float64),
        0.25 * (1 + torch.arange(100, dtype=torch.float64) * 2.0**-52),
    ]
)


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        (UNIFORM.half(), 1),
        (UNIFORM.bfloat16(), 1),
        (UNIFORM, 2),
        (UNIFORM.double(), 2),  # what begins with the same 32 bits is one value
        (LAST_BITS, 4),
        (torch.linspace(0.7, 0.701, 999), 1),  # all of the map lies above t*
        (torch.tensor([0.9, 0.41, 0.1]), 1),
        (torch.tensor([1.0, 0.5, 0.25]).repeat(9), 1),  # prefixes with no bits after them
        (torch.zeros(999), 1),
    ],
)
def test_as_many_passes_as_needed(values, passes):
    chunks = _Passes(values)
    best = streamed_dice_threshold(chunks)
    assert chunks.count == passes
    assert _plain(best) == _plain(dice_threshold(values, spatial_dims=1, method="sort"))
    accuracy = _Passes(values)
    streamed_dice_threshold(accuracy, metric="accuracy")
    assert accuracy.count == 1


@pytest.mark.parametrize("chunks", [[], [np.zeros((0, 3))], [torch.zeros(4), -torch.zeros(20)]])
def test_maps_without_mass_and_without_voxels(chunks):
    for metric in ("dice", "accuracy"):
        best = streamed_dice_threshold(chunks, metric=metric)
        assert _plain(best) == [0.5, 1.0, 0]
    if chunks:
        pairs = [torch.as_tensor(chunk).new_zeros(2, *chunk.shape) for chunk in chunks]
        assert _plain(streamed_dice_threshold(pairs, leading_dims=1))[1] == [1.0, 1.0]
    assert streamed_dice_threshold([torch.zeros(0, 4)], leading_dims=1).dice.shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at", [3, 70_000, 130_001])
def test_values_out_of_range_are_counted(dtype, at):
    # Five of the dtype's steps at 1, of float32's for float64.
    step = max(torch.finfo(dtype).eps, 2.0**-23)
    above = 1 + 5 * step
    assert float(f"{above:.8g}") > 1
    for wrong, found in (
        ([above], f"1 outside ({above:.8g} to {above:.8g})"),
        ([1 + 4 * step, -5 * step], f"1 outside ({-5 * step:.8g} to {-5 * step:.8g})"),
        ([1.5, -0.25], "2 outside (-0.25 to 1.5)"),
        ([math.nan], "1 outside (NaN)"),
        ([-math.nan, 1.5, math.inf, -math.inf], "4 outside (-inf to inf and NaN)"),
    ):
        m = torch.full((2, 65_001), 0.4, dtype=dtype)
        m[1, 5] = -0.0
        m.flatten()[at - 3 : at - 3 + len(wrong)] = torch.tensor(wrong, dtype=dtype)
        with pytest.raises(ValueError, match=r"^chunks: expected values within \[0, 1\]") as error:
            streamed_dice_threshold([torch.zeros(2, 40, dtype=dtype), m], leading_dims=1)
        assert str(error.value).endswith(f"got {found}")


@pytest.mark.parametrize("metric", ["dice", "accuracy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rounding_beyond_counts_as_0_and_as_1(dtype, metric):
    generator = torch.Generator().manual_seed(0)
    step = max(torch.finfo(dtype).eps, 2.0**-23)
    m = (torch.rand(40_001, generator=generator, dtype=torch.float64) ** 4).to(dtype)
    beyond = m.clone()
    for k in range(1, 5):
        m[k::50], beyond[k::50] = 1.0, 1 + k * step
        m[10 + k :: 50], beyond[10 + k :: 50] = 0.0, -k * step
    assert float(beyond.max()) == 1 + 4 * step
    found = streamed_dice_threshold([beyond[:9_000], beyond[9_000:]], metric=metric)
    assert _plain(found) == _plain(streamed_dice_threshold([m], metric=metric))
    if metric == "dice":
        assert _plain(found) == _plain(dice_threshold(beyond, spatial_dims=1, check=True))


class _Changing:
    """Chunks that are others in each pass."""

    def __init__(self, *passes):
        self.passes = iter(passes)

    def __iter__(self):
        return iter(next(self.passes))


@pytest.mark.parametrize(
    ("chunks", "options", "error", "message"),
    [
        (iter([torch.rand(3)]), {}, TypeError, "chunks: .*over again.*list_iterator"),
        ((torch.rand(3) for _ in range(2)), {}, TypeError, "chunks: .*generator"),
        (7, {}, TypeError, "chunks: expected an iterable, got int"),
        ([torch.ones(3).long()], {}, TypeError, "chunks: .*floating dtype, got torch.int64"),
        ([np.ones(3, dtype=np.uint8)], {}, TypeError, "chunks: .*floating dtype, got uint8"),
        ([np.ones(3, dtype=np.longdouble)], {}, TypeError, "chunks: .*floating dtype"),
        ([torch.ones(3, device="meta")], {}, ValueError, "chunks: .*on the CPU, got one on meta"),
        ([torch.ones(3), torch.ones(3).half()], {}, ValueError, "chunks: .*float32.*got.*float16"),
        ([torch.ones(2, 3), torch.ones(3, 3)], {"leading_dims": 1}, ValueError, "chunks: .*shape"),
        ([torch.ones(3)], {"leading_dims": 2}, ValueError, "chunks: .*2 leading axes"),
        ([], {"leading_dims": 1}, ValueError, "chunks: expected at least one"),
        ([torch.ones(3)], {"leading_dims": -1}, ValueError, "leading_dims"),
        ([torch.ones(3)], {"leading_dims": 1.0}, TypeError, "leading_dims: expected an integer"),
        ([torch.ones(3)], {"leading_dims": "1"}, TypeError, "leading_dims: expected an integer"),
        ([torch.ones(3)], {"leading_dims": None}, TypeError, "leading_dims: expected an integer"),
        ([torch.ones(3)], {"metric": "jaccard"}, ValueError, "metric"),
        (_Changing([UNIFORM], [UNIFORM[1:]]), {}, ValueError, "chunks: .*99999 values.*got 99998"),
        (_Changing([UNIFORM], []), {}, ValueError, "chunks: .*99999 values.*got 0"),
        (_Changing([UNIFORM], [UNIFORM.flip(0).square()]), {}, ValueError, "chunks: .*got others"),
        (
            _Changing([UNIFORM], [UNIFORM.double()]),
            {},
            ValueError,
            "chunks: .*float32.*got.*float64",
        ),
    ],
)
def test_bad_arguments_are_named(chunks, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        streamed_dice_threshold(chunks, **options)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_more_values_than_a_thread_keeps_for_itself(dtype):
    # What a thread has counted in one word for each prefix is emptied every 2^23 values: here
    # most of them are equal, and have the largest rest that a prefix can have.
    size = (1 << 23) + (1 << 20)
    plateau = torch.tensor([0x3EBFFFFF], dtype=torch.int32).view(torch.float32).to(dtype)
    generator = torch.Generator().manual_seed(2)
    values = plateau.repeat(size)
    values[: size // 3] = torch.rand(size // 3, generator=generator).to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = streamed_dice_threshold([values, values])
    finally:
        torch.set_num_threads(before)
    expected = dice_threshold(torch.cat([values, values]), spatial_dims=1)
    assert _plain(best) == _plain(expected)


def test_more_equal_values_than_one_word_counts():
    # Their rests add up to more than 2^40, which is all that the word has for them.
    bits = 0x3EBFFFFF
    plateau = torch.tensor([bits], dtype=torch.int32).view(torch.float32).repeat(1 << 20)
    chunks = [plateau] * 40
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = streamed_dice_threshold(chunks)
    finally:
        torch.set_num_threads(before)
    # D of all n values v is 2 n v / (n v + n).
    value = Fraction(plateau[0].item())
    dice = 2 * value / (value + 1)
    assert best.dice.item() == float(dice)
    assert best.threshold.item() == float(dice / 2)
    assert best.volume.item() == 40 << 20
