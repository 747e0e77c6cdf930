"""The theorems of the noise model, held within what the sample size allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from marginseg import GaussianFieldNoise

ALARM = 1e-6  # the probability of a false alarm of a whole statistical test


def _label(shape, *, border):
    """A slanted block, in the middle or against the border, with a hole and a stray voxel."""
    grids = torch.meshgrid(*[torch.arange(size) for size in shape], indexing="ij")
    low = 0 if border else 0.3
    label = torch.ones(shape, dtype=torch.bool)
    for grid, size in zip(grids, shape, strict=True):
        label &= (grid >= low * size) & (grid < 0.65 * size)
    label &= (grids[0] + grids[-1]) % 7 != 0
    label[(-1,) * len(shape)] = True
    return label.to(torch.uint8)


def _assert_frequencies_agree(counts, samples, marginals):
    """Counts lie within the exact binomial bounds of the marginals, at every voxel at once."""
    level = ALARM / marginals.size
    slack = 1e-8  # the kernel ends at 6 standard deviations
    low = binom.ppf(level / 2, samples, np.clip(marginals - slack, 0, 1))
    high = binom.isf(level / 2, samples, np.clip(marginals + slack, 0, 1))
    assert (counts >= low).all()
    assert (counts <= high).all()


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize(
    ("shape", "std", "length_scale"),
    [
        ((24,), 1.3, 5.0),
        ((16, 20), 0.64, 4.0),
        ((16, 20), 2.5, 6.0),
        ((20, 12), (0.0, 1.7), (4.0, 2.0)),
        ((7, 8, 9), (0.5, 1.0, 2.0), 4.0),
    ],
)
def test_theorem_1_mean_label_is_the_marginal_at_every_voxel(shape, std, length_scale, border):
    samples = 40_000 if len(shape) < 3 else 20_000
    label = _label(shape, border=border)
    noise = GaussianFieldNoise(std, length_scale, units="voxel")
    generator = torch.Generator().manual_seed(7)
    counts = sum(
        noise.sample(label, samples // 10, generator=generator).sum(dim=0, dtype=torch.float64)
        for _ in range(10)
    )
    marginals = noise.marginals(label.double())
    _assert_frequencies_agree(counts.numpy(), samples, marginals.numpy())


def test_linear_interpolation_is_close_but_not_exact():
    label = _label((24, 24), border=False)
    noise = GaussianFieldNoise(1.5, 8.0, units="voxel", interpolation="linear")
    samples = noise.sample(label, 4000, generator=torch.Generator().manual_seed(0))
    assert samples.dtype is torch.uint8
    error = (samples.double().mean(dim=0) - noise.marginals(label.double())).abs()
    assert error.mean() < 0.05


@pytest.mark.parametrize("shape", [(24,), (16, 20), (7, 8, 9)])
@pytest.mark.parametrize("border", [False, True])
def test_theorem_2_mean_volume(shape, border):
    samples = 20_000
    label = _label(shape, border=border)
    noise = GaussianFieldNoise(0.08)
    drawn = noise.sample(label, samples, generator=torch.Generator().manual_seed(3))
    volumes = drawn.double().flatten(1).mean(dim=1)
    bound = -norm.ppf(ALARM / 2) * float(volumes.std()) / math.sqrt(samples)
    assert abs(float(volumes.mean() - noise.expected_volume(label))) < bound
    volume = label.double().mean()
    torch.testing.assert_close(noise.volume_loss(label), volume - noise.expected_volume(label))
    if border:
        assert noise.volume_loss(label) > 0.01 * volume


@pytest.mark.parametrize("std", [0.0, 0.003, 0.02, 0.3])
def test_expected_volume_is_the_mean_of_the_marginals(std):
    label = _label((12, 9, 10), border=True)
    noise = GaussianFieldNoise(std)
    torch.testing.assert_close(
        noise.expected_volume(label), noise.marginals(label.double()).mean(), rtol=0, atol=1e-8
    )


def test_marginal_of_a_half_space_is_the_normal_distribution():
    """P(ω + X < edge) for a half space whose edge is a voxel face, within a bounded domain."""
    label = torch.zeros(200, dtype=torch.float64)
    label[:100] = 1
    std = 3.7
    marginals = GaussianFieldNoise(std, units="voxel").marginals(label).numpy()
    omega = np.arange(200)
    expected = norm.cdf((99.5 - omega) / std) - norm.cdf((-0.5 - omega) / std)
    np.testing.assert_allclose(marginals, expected, atol=1e-8)


def test_units_say_the_same_thing():
    label = _label((20, 40), border=True)
    extent = GaussianFieldNoise((0.05, 0.05), 0.2)
    voxel = GaussianFieldNoise((1.0, 2.0), (4.0, 8.0), units="voxel")
    millimetre = GaussianFieldNoise((2.0, 1.0), (8.0, 4.0), units="mm", spacing=(2.0, 0.5))
    for other in (voxel, millimetre):
        torch.testing.assert_close(extent.marginals(label), other.marginals(label))
        draws = [
            noise.displacement((20, 40), generator=torch.Generator().manual_seed(0))
            for noise in (extent, other)
        ]
        torch.testing.assert_close(*draws)


def test_multi_label_map_and_its_one_hot_classes_move_together():
    generator = torch.Generator().manual_seed
    labels = torch.randint(0, 4, (12, 14), generator=generator(0)).to(torch.uint8)
    noise = GaussianFieldNoise(0.1, spatial_dims=2)
    drawn = noise.sample(labels, 3, generator=generator(1))
    one_hot = torch.stack([labels == value for value in range(4)])
    drawn_one_hot = noise.sample(one_hot, 3, generator=generator(1))
    for value in range(1, 4):
        assert torch.equal(drawn == value, drawn_one_hot[:, value])
    marginals = noise.marginals(labels, classes=[1, 3])
    torch.testing.assert_close(marginals, noise.marginals(one_hot[[1, 3]]))


def test_batch_dims_get_fields_of_their_own():
    label = _label((16, 16), border=False).expand(2, 16, 16)
    noise = GaussianFieldNoise(0.1, spatial_dims=2)
    shared = noise.sample(label, 4, generator=torch.Generator().manual_seed(0))
    own = noise.sample(label, 4, generator=torch.Generator().manual_seed(0), batch_dims=1)
    assert torch.equal(shared[:, 0], shared[:, 1])
    assert not torch.equal(own[:, 0], own[:, 1])


def test_the_volumes_of_a_batch_are_those_of_each_label():
    labels = torch.stack([_label((12, 10), border=border) for border in (False, True)])
    noise = GaussianFieldNoise(0.1, spatial_dims=2)
    for volume in (noise.expected_volume, noise.volume_loss):
        each = torch.stack([volume(label) for label in labels])
        torch.testing.assert_close(volume(labels), each, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_marginals_are_at_most_1_and_1_in_the_middle(dtype):
    """Where the whole kernel lies in the label, exactly."""
    label = torch.ones(24, 26, 28, dtype=dtype)
    for std in np.linspace(0.2, 1.5, 14).tolist():
        marginals = GaussianFieldNoise(std, units="voxel").marginals(label)
        assert marginals.max() <= 1
        assert torch.equal(
            marginals[9:-9, 9:-9, 9:-9], torch.ones_like(marginals)[9:-9, 9:-9, 9:-9]
        )


def test_std_zero_changes_nothing():
    label = _label((9, 9), border=True)
    noise = GaussianFieldNoise(0.0)
    assert torch.equal(noise.sample(label, 2), label.expand(2, 9, 9))
    torch.testing.assert_close(noise.marginals(label), label.float())
    assert noise.volume_loss(label) == 0


def test_one_voxel_volume():
    label = torch.ones(1, 1, 1, dtype=torch.uint8)
    noise = GaussianFieldNoise(0.5, spatial_dims=3)
    inside = (norm.cdf(1.0) - norm.cdf(-1.0)) ** 3
    assert noise.marginals(label.double()).item() == pytest.approx(inside, abs=1e-8)
    assert noise.sample(label, 5).shape == (5, 1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": -0.1}, "std"),
        ({"std": math.nan}, "std"),
        ({"std": (0.1,) * 4}, "std"),
        ({"length_scale": 0.0}, "length_scale"),
        ({"units": "cm"}, "units"),
        ({"units": "mm"}, "spacing"),
        ({"units": "mm", "spacing": (1.0, 0.0)}, "spacing"),
        ({"std": (0.1, 0.1), "length_scale": (0.2, 0.2, 0.2)}, "length_scale"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"spatial_dims": 4}, "spatial_dims"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        GaussianFieldNoise(**{"std": 0.02, **arguments})


def test_bad_labels_are_named():
    noise = GaussianFieldNoise(0.02, spatial_dims=2)
    with pytest.raises(
        TypeError, match="^label: expected a torch.Tensor or a NumPy array, got list"
    ):
        noise.sample([[0, 1]])
    with pytest.raises(ValueError, match="^label"):
        noise.sample(torch.zeros(4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="^label"):
        noise.marginals(torch.full((4, 4), 2))
    with pytest.raises(ValueError, match="^label"):
        noise.marginals(torch.full((4, 4), math.nan))
    with pytest.raises(ValueError, match="^n:"):
        noise.sample(torch.zeros(4, 4, dtype=torch.uint8), 0)
    with pytest.raises(ValueError, match="^n: expected at least 0, got -1"):
        noise.displacement((4, 4), -1)


@pytest.mark.parametrize("classes", [1, "1", [1.5], ["1"], [None], torch.tensor(1)])
def test_classes_are_integers(classes):
    with pytest.raises(TypeError, match="^classes: expected a.* integer.*, got"):
        GaussianFieldNoise(0.1).marginals(torch.ones(4, 4, dtype=torch.uint8), classes=classes)


@pytest.mark.parametrize("classes", [[], (), range(0), np.zeros(0, np.int64)])
def test_no_classes_are_no_marginals(classes):
    with pytest.raises(ValueError, match="^classes: expected one at least, got none"):
        GaussianFieldNoise(0.1).marginals(torch.ones(4, 4, dtype=torch.uint8), classes=classes)


@pytest.mark.parametrize("shape", [(40,), (40, 30), (24, 30, 20)])
@pytest.mark.parametrize("leading", [(), (2, 3)])
def test_a_label_in_fortran_s_order_is_deformed_and_filtered_as_it_lies(
    shape: tuple[int, ...], leading: tuple[int, ...]
) -> None:
    n = len(shape)
    label = torch.rand((*leading, *shape), generator=torch.Generator().manual_seed(1)) < 0.2
    order = [*range(len(leading)), *range(label.ndim - 1, len(leading) - 1, -1)]
    fortran = label.permute(order).contiguous().permute(order)
    assert torch.equal(fortran, label)
    assert n == 1 or not fortran.is_contiguous()
    noise = GaussianFieldNoise([0.05, 0.03, 0.08][:n], [0.3, 0.2, 0.25][:n])
    batch_dims = min(1, len(leading))
    found, folded = noise.sample_folded(
        fortran, 2, generator=torch.Generator().manual_seed(5), batch_dims=batch_dims
    )
    expected, share = noise.sample_folded(
        label, 2, generator=torch.Generator().manual_seed(5), batch_dims=batch_dims
    )
    # The field is summed up in another order: a voxel whose place is rounded to either side.
    assert (found != expected).sum() <= 2
    assert torch.equal(folded, share)
    lies = [0, *[1 + axis for axis in order]]
    assert found.permute(lies).is_contiguous()
    marginals = noise.marginals(fortran)
    torch.testing.assert_close(marginals, noise.marginals(label), rtol=0, atol=1e-6)
    assert marginals.permute(order).is_contiguous()
    for name in ("expected_volume", "volume_loss"):
        found, expected = (getattr(noise, name)(each) for each in (fortran, label))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_expected_volume_in_parts_and_of_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = GaussianFieldNoise(0.1, spatial_dims=3)
    label = torch.rand(2, 9, 8, 7, dtype=torch.float64)
    whole = noise.expected_volume(label)
    monkeypatch.setattr("marginseg.ops.kept_mass.VOXELS_AT_ONCE", 300)
    torch.testing.assert_close(noise.expected_volume(label), whole, rtol=1e-14, atol=0)
    assert noise.expected_volume(label[:0]).shape == (0,)
    assert noise.volume_loss(label[:0]).shape == (0,)


def test_the_default_length_scale_is_that_of_the_extent_only():
    label = torch.ones(6, 6, dtype=torch.uint8)
    for units, spacing in (("mm", (1.0, 1.0)), ("voxel", None)):
        noise = GaussianFieldNoise(2, units=units, spacing=spacing)
        assert noise.marginals(label).shape == label.shape
        for draw in (noise.sample, noise.sample_folded):
            with pytest.raises(ValueError, match="^length_scale: needed with units="):
                draw(label)
        with pytest.raises(ValueError, match="^length_scale: needed with units="):
            noise.displacement((6, 6))
        assert "length_scale=None" in repr(noise)
    assert GaussianFieldNoise(0.02).length_scale == pytest.approx(0.15 * 2**0.5)


def test_dtypes_that_are_not_computed_in_are_told_from_those_that_are():
    noise = GaussianFieldNoise(0.02)
    for dtype in (torch.uint64, torch.complex64):
        message = f"^label: expected .*int64, int8, uint16 or uint32, got {dtype}"
        label = torch.ones(6, 6).to(dtype)
        for call in (noise.sample, noise.marginals, noise.expected_volume, noise.volume_loss):
            with pytest.raises(TypeError, match=message):
                call(label)


LOADED = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
UNUSUAL = [torch.int8, torch.uint16, torch.uint32]


@pytest.mark.parametrize("scale", [None, 0.02])  # a field of few coefficients, and one in memory
@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("dtype", LOADED + UNUSUAL)
def test_labels_as_loaders_give_them_are_deformed_as_integers_are(dtype, interpolation, scale):
    label = 3 * _label((80, 24), border=True).to(torch.int64)
    noise = GaussianFieldNoise(0.05, scale, interpolation=interpolation)
    found, folded = noise.sample_folded(label.to(dtype), 2, generator=7)
    assert found.dtype is dtype
    expected, share = noise.sample_folded(label, 2, generator=7)
    assert torch.equal(found.to(torch.int64), expected)
    assert torch.equal(folded, share)
    assert torch.equal(noise.sample(label.to(dtype), 2, generator=7), found)
    for kind in (noise.marginals(label.to(dtype), classes=[0, 3]),):
        torch.testing.assert_close(kind, noise.marginals(label, classes=[0, 3]))
    ones = (label // 3).to(dtype)
    torch.testing.assert_close(noise.expected_volume(ones), noise.expected_volume(label // 3))
    expected = noise.marginals(label // 3).double()
    torch.testing.assert_close(noise.marginals(ones).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrong", [0.5, math.nan, math.inf, 1e10])
def test_what_is_no_label_is_not_cut_off_in_silence(wrong):
    label = torch.zeros(6, 7)
    label[2, 3] = wrong
    noise = GaussianFieldNoise(0.05)
    for call in (noise.sample, noise.sample_folded):
        with pytest.raises(ValueError, match="^label: expected whole numbers, got fractions, NaN"):
            call(label)
    with pytest.raises(ValueError, match="^label: expected whole numbers"):
        noise.marginals(label, classes=[1])


def test_a_soft_label_may_be_a_rounding_beyond_1():
    label = torch.ones(24, 26)
    noise = GaussianFieldNoise(1.0, units="voxel")
    beyond = label * (1 + 2.0**-23)
    assert torch.equal(noise.marginals(beyond), noise.marginals(label))
    assert torch.equal(noise.expected_volume(beyond), noise.expected_volume(label))
    with pytest.raises(ValueError, match="got 0 to 3; name the classes of a multi-label map$"):
        noise.marginals(torch.tensor([0, 1, 3]))


def test_a_seed_is_as_good_as_a_generator():
    label = _label((16, 20), border=False)
    noise = GaussianFieldNoise(0.05)
    source = torch.Generator().manual_seed(11)
    assert torch.equal(
        noise.sample(label, 3, generator=11), noise.sample(label, 3, generator=source)
    )
    drawn = noise.displacement((8, 9), 2, generator=np.int64(11))
    assert torch.equal(drawn, noise.displacement((8, 9), 2, generator=source.manual_seed(11)))
    assert torch.equal(drawn, noise.displacement((8, 9), 2, generator=11, device="cpu"))
    assert not torch.equal(drawn, noise.displacement((8, 9), 2, generator=12))
    with pytest.raises(TypeError, match="^generator: expected an integer, got 'a'"):
        noise.sample(label, generator="a")
    for seed in (-(2**63), 2**64 - 1):
        assert noise.sample(label, generator=seed).shape == (1, *label.shape)
    for seed in (-(2**63) - 1, 2**64):
        with pytest.raises(ValueError, match=f"^generator: expected a seed .*, got {seed}"):
            noise.sample(label, generator=seed)


@pytest.mark.parametrize("n", [math.nan, 2.0, "2", None])
def test_a_number_of_samples_is_an_integer(n):
    with pytest.raises(TypeError, match="^n: expected an integer, got"):
        GaussianFieldNoise(std=0.02).sample(torch.zeros(4, 5, dtype=torch.bool), n)


def test_floating_labels_in_one_graph_and_under_vmap():
    """Where nobody can look, and so where a look would break the graph."""
    label = _label((9, 10), border=False).float()
    noise = GaussianFieldNoise(0.0)

    def drawn(label):
        return noise.sample(label, 2), noise.marginals(label, classes=[0, 1])

    found, marginals = torch.compile(drawn, fullgraph=True, backend="eager")(label)
    assert torch.equal(found, label.expand(2, 9, 10))
    torch.testing.assert_close(marginals, torch.stack([1 - label, label]))
    found, _ = torch.vmap(drawn, randomness="different")(label.expand(3, 9, 10))
    assert torch.equal(found, label.expand(3, 2, 9, 10))
