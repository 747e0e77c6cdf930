"""One random call of each public function, and what is compared with its result."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from tests.fuzz import draws, references
from tests.fuzz.draws import Random, chance, one_of
from torch import Tensor

import marginseg

#: Makes and checks one call. It returns whether the result was compared with a reference; what the
#: function raises passes through.
Call = Callable[[Random], bool]

ROUNDING = {
    torch.float64: 1e-11,
    torch.float32: 6e-6,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}


def equal(
    result: Tensor,
    expected: np.ndarray,
    tolerance: float,
    where: np.ndarray | None = None,
    *,
    largest: float = 1.0,
) -> None:
    """Compare, relative to the largest finite value expected, or of the input, and to 1."""
    assert tuple(result.shape) == expected.shape, f"{tuple(result.shape)} for {expected.shape}"
    got = result.double().numpy()
    if where is not None:
        got, expected = got[where], expected[where]
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, largest, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


def gaussian_filter(random: Random) -> bool:
    of = draws.shape(random, 1, 4)
    labels = chance(random, 0.4)
    dtype = one_of(random, draws.LABELS if labels else draws.FLOATING)
    n = int(random.integers(1, min(3, len(of)) + 1))
    values = draws.label(random, of, dtype) if labels else draws.floats(random, of, dtype)
    sigmas = [float(one_of(random, (0.0, 0.3, 1.0, random.uniform(0.05, 6.0)))) for _ in range(n)]
    kernel = one_of(random, ("sampled", "integrated"))
    mode = one_of(random, draws.MODES)
    cval = float(one_of(random, (0.0, 0.0, 1.0, 0.3, 255.0, 256.0)))
    truncate = float(one_of(random, (4.0, 3.0, 0.4, 6.0)))
    options = {"mode": mode, "cval": cval, "truncate": truncate, "kernel": kernel}
    result = marginseg.gaussian_filter(values, sigmas, **options)
    kept = torch.float32 if labels else dtype
    assert result.dtype is kept
    if result.numel() == 0:
        assert result.shape == values.shape
        return True
    source = values.double().numpy()
    expected = references.filtered(source, sigmas, mode, cval, truncate, kernel)
    # A weight that underflows in float32 takes no infinity with it: only where all is finite for
    # both are values compared, and that what is not stays within the kernel's reach.
    finite = np.isfinite(expected)
    assert bool(result.isfinite().numpy()[finite].all())
    # A weight is off by a unit at most, and what it multiplies may lie beyond the border.
    beyond = abs(cval) if mode == "constant" else 0.0
    equal(result, expected, ROUNDING[kept], finite, largest=beyond)
    return True


def warp(random: Random) -> bool:
    spatial = draws.shape(random)
    n = len(spatial)
    batch = (int(random.integers(1, 4)),) if chance(random, 0.3) else ()
    channels = (int(random.integers(1, 3)),) if chance(random, 0.3) else ()
    of = (*batch, *channels, *spatial)
    labels = chance(random, 0.4)
    dtype = one_of(random, draws.LABELS if labels else (torch.float32, torch.float64))
    image = draws.label(random, of, dtype) if labels else draws.floats(random, of, dtype)
    moved = draws.displacement(
        random, (*batch, n, *spatial), one_of(random, (torch.float32, torch.float64))
    )
    mode = one_of(random, draws.MODES)
    interpolation = one_of(random, ("linear", "nearest"))
    cval = 1 if labels else float(one_of(random, (0.0, 0.5, 7.0, math.nan, math.inf)))
    result = marginseg.warp(
        image, moved, interpolation=interpolation, mode=mode, cval=cval, spatial_dims=n
    )
    assert result.dtype is dtype
    assert result.shape == image.shape
    if image.numel() == 0:
        return True
    order = 0 if interpolation == "nearest" else 1
    # The positions are computed in the image's dtype, if that is floating, or the displacement's.
    fields = (moved if labels else moved.to(dtype)).double().numpy()
    images = image.reshape(*batch, -1, *spatial)
    results = result.reshape(images.shape)
    for entry in itertools.product(*map(range, batch)):
        for channel in range(images.shape[len(batch)]):
            compare = _compare_labels if labels else _compare_images
            at = (*entry, channel)
            compare(images[at], fields[entry], results[at], order, mode, cval)
    return True


def _compare_images(
    image: Tensor, moved: np.ndarray, result: Tensor, order: int, mode: str, cval: float
) -> None:
    expected, defined = references.warped(image.double().numpy(), moved, order, mode, cval)
    # SciPy adds voxel and movement in float64, and so finds 0 where ours is next to nothing.
    defined &= ~((np.abs(moved) < 1e-9) & (moved != 0)).any(axis=0)
    if not bool(image.isfinite().all()) and mode not in ("constant", "nearest"):
        # Which of the voxels beside an integer weighs 0 is another one in what SciPy mirrors.
        sizes = np.reshape(image.shape, (-1, *(1,) * image.ndim))
        grid = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"))
        defined &= ((grid + moved >= 0) & (grid + moved <= sizes - 1)).all(axis=0)
    got = result.double().numpy()[defined]
    expected = expected[defined]
    assert np.array_equal(np.isnan(got), np.isnan(expected)), "NaN elsewhere"
    assert np.array_equal(got == np.inf, expected == np.inf), "infinity elsewhere"
    finite = np.isfinite(expected)
    # Positions have the fraction of the movement, of which large ones have few bits.
    tolerance = 1e-6 if result.dtype is torch.float32 else 1e-9
    scale = max(1.0, float(np.abs(expected[finite]).max(initial=0.0)))
    np.testing.assert_allclose(got[finite], expected[finite], rtol=0, atol=tolerance * scale)


def _compare_labels(
    label: Tensor, moved: np.ndarray, result: Tensor, order: int, mode: str, cval: float
) -> None:
    values = label.numpy().astype(np.float64)
    if order == 0:
        expected, defined = references.warped(values, moved, 0, mode, cval)
        expected = np.where(np.isnan(expected), cval, expected)
        assert np.array_equal(result.numpy().astype(np.float64)[defined], expected[defined])
        return
    known = np.unique(np.append(values, cval))
    votes = []
    for value in known:
        vote, defined = references.warped(
            (values == value).astype(np.float64), moved, 1, mode, float(value == cval)
        )
        votes.append(np.where(np.isnan(vote), float(value == cval), vote))
    ordered = np.sort(votes, axis=0)
    certain = defined & (ordered[-1] - (ordered[-2] if len(known) > 1 else 0.0) > 1e-5)
    expected = known[np.argmax(votes, axis=0)]
    assert np.array_equal(result.numpy().astype(np.float64)[certain], expected[certain])


def _maps(random: Random) -> tuple[Tensor, int]:
    of = draws.shape(random, 1, 4)
    maps = draws.probabilities(random, of, one_of(random, draws.FLOATING))
    return maps, int(random.integers(1, len(of) + 1))


def _each(maps: Tensor, n: int) -> list[np.ndarray]:
    leading = maps.shape[: maps.ndim - n]
    flat = maps.double().numpy().reshape(math.prod(leading), -1) if maps.numel() else None
    return [] if flat is None else list(flat)


def _beta(random: Random) -> float:
    return float(one_of(random, (1.0, 0.5, 2.0, 10.0 ** random.uniform(-2, 2))))


def _compare_thresholds(best: marginseg.DiceThreshold, maps: list[np.ndarray], beta: float) -> None:
    for number, values in enumerate(maps):
        threshold, dice, volume = (float(field.flatten()[number]) for field in best)
        expected, supremum = references.threshold(values, beta)
        if math.isnan(expected):
            assert (threshold, dice, volume) == (1.0 / (1.0 + beta * beta), 1.0, 0.0)
            continue
        assert abs(dice - supremum) <= 1e-12
        assert abs(threshold - expected) <= 1e-12
        certain = np.count_nonzero(values >= expected + 1e-11)
        assert certain <= volume <= np.count_nonzero(values >= expected - 1e-11)


def dice_threshold(random: Random) -> bool:
    maps, n = _maps(random)
    method = one_of(random, ("iterate", "sort"))
    beta = _beta(random)
    best = marginseg.dice_threshold(maps, spatial_dims=n, method=method, beta=beta)
    _compare_thresholds(best, _each(maps, n), beta)
    return True


def segment_dice_threshold(random: Random) -> bool:
    values = draws.probabilities(random, draws.shape(random, 1, 1), one_of(random, draws.FLOATING))
    ends = np.sort(random.integers(0, len(values) + 1, int(random.integers(1, 6))))
    beta = _beta(random)
    best = marginseg.segment_dice_threshold(values, torch.from_numpy(ends), beta=beta)
    numbers = values.double().numpy()
    _compare_thresholds(best, [numbers[a:b] for a, b in itertools.pairwise(ends)], beta)
    return True


def streamed_dice_threshold(random: Random) -> bool:
    values = draws.probabilities(random, draws.shape(random, 2, 3), one_of(random, draws.FLOATING))
    chunks = [values[:, a : a + 2] for a in range(0, max(1, values.shape[1]), 2)]
    beta = _beta(random)
    best = marginseg.streamed_dice_threshold(chunks, leading_dims=1, metric="fbeta", beta=beta)
    _compare_thresholds(best, _each(values, values.ndim - 1), beta)
    return True


def dice_curve(random: Random) -> bool:
    maps, n = _maps(random)
    beta = _beta(random)
    curve = marginseg.dice_curve(maps, spatial_dims=n, beta=beta)
    for number, values in enumerate(_each(maps, n)):
        volume = np.array([np.count_nonzero(values >= t) for t in np.sort(values)])
        kept = np.array([values[values >= t].sum() for t in np.sort(values)])
        with np.errstate(invalid="ignore"):
            dice = (1.0 + beta**2) * kept / (beta**2 * values.sum() + volume)
        got = curve.dice.reshape(-1, values.size)[number].double().numpy()
        np.testing.assert_allclose(np.sort(got), np.sort(dice), rtol=0, atol=1e-6)
    return True


def optimal_segmentation(random: Random) -> bool:
    maps, n = _maps(random)
    metric = one_of(random, ("dice", "iou", "fbeta", "accuracy"))
    options = {"beta": _beta(random) if metric == "fbeta" else None, "spatial_dims": n}
    segmentation = marginseg.optimal_segmentation(maps, metric, **options)
    thresholds = marginseg.optimal_threshold(maps, metric, **options)
    assert thresholds.shape == maps.shape[: maps.ndim - n]
    assert torch.equal(marginseg.cut(maps, thresholds), segmentation)
    bounds = thresholds.reshape(*thresholds.shape, *(1,) * n).double()
    assert torch.equal(segmentation, maps.double() >= bounds)
    return True


def optimal_labels(random: Random) -> bool:
    spatial = tuple(max(1, size) for size in draws.shape(random))
    n = len(spatial)
    channels = int(random.integers(2, 6))
    batch = (int(random.integers(1, 3)),) if chance(random, 0.5) else ()
    dtype = one_of(random, draws.FLOATING)
    maps = draws.probabilities(random, (*batch, channels, *spatial), dtype)
    background = None if chance(random, 0.3) else int(random.integers(0, channels))
    beta = _beta(random)
    metric = {} if beta == 1.0 else {"metric": "fbeta", "beta": beta}
    found = marginseg.optimal_labels(maps, **metric, background=background, spatial_dims=n)
    assert found.labels.shape == (*batch, *spatial)
    masks = maps.double().reshape(-1, channels, math.prod(spatial)).numpy()
    labels = found.labels.reshape(len(masks), -1).numpy()
    for case, assigned, value, bound in zip(
        masks, labels, found.value.flatten(), found.bound.flatten(), strict=True
    ):
        each = []
        for channel in range(channels):
            if channel != background:
                chosen = assigned == channel + (background is None)
                total = chosen.sum() + beta**2 * case[channel].sum()
                inside = (1.0 + beta**2) * case[channel][chosen].sum()
                each.append(inside / total if total else 1.0)
        assert abs(np.mean(each) - float(value)) < 1e-9
        assert float(value) <= float(bound) + 1e-9
    return True


def gaussian_field(random: Random) -> bool:
    spatial = tuple(max(1, s) for s in draws.shape(random))
    n = len(spatial)
    std = [float(one_of(random, (0.0, 0.5, 2.0))) for _ in range(n)]
    scale = [float(random.uniform(0.3, 30.0)) for _ in range(n)]
    dtype = one_of(random, (torch.float32, torch.float64))
    batch = (int(random.integers(0, 3)),) if chance(random, 0.5) else ()
    ranks = marginseg.gaussian_field_ranks(spatial, scale, dtype=dtype)
    normals = torch.from_numpy(random.normal(size=(*batch, n, *ranks))).to(dtype)
    result = marginseg.gaussian_field(
        spatial, std, scale, batch_shape=batch, coefficients=normals, dtype=dtype
    )
    assert result.dtype is dtype
    from marginseg.ops.gaussian_field import TOLERANCE, axis_factor

    factors = [
        axis_factor(size, b, TOLERANCE[dtype]) for size, b in zip(spatial, scale, strict=True)
    ]
    expected = references.expanded(normals.double().numpy(), factors)
    expected = expected * np.reshape(std, (n, *(1,) * n))
    equal(result, expected, 1e-5 if dtype is torch.float32 else 1e-12)
    return True


def folded_share(random: Random) -> bool:
    spatial = draws.shape(random)
    n = len(spatial)
    dtype = one_of(random, (torch.float32, torch.float64))
    moved = torch.from_numpy(random.normal(0, one_of(random, (0.1, 0.7)), (n, *spatial))).to(dtype)
    moved = draws.laid_out(random, moved)
    share = float(marginseg.folded_share(moved))
    voxels = math.prod(spatial)
    if voxels == 0:
        return True
    return _compare_folds(share, moved.double().numpy(), voxels)


def _compare_folds(share: float, moved: np.ndarray, voxels: int) -> bool:
    found, largest = references.determinants(moved)
    rounding = 1e-5 * largest
    certain = np.count_nonzero(found < -rounding)
    assert certain - 1e-6 <= share * voxels <= np.count_nonzero(found < rounding) + 1e-6
    return True


def noise(random: Random) -> bool:
    spatial = tuple(max(1, s) for s in draws.shape(random))
    n = len(spatial)
    labels = draws.label(random, spatial, one_of(random, draws.LABELS), classes=2)
    model = marginseg.GaussianFieldNoise(
        std=float(one_of(random, (0.0, 0.02, 0.3))),
        length_scale=float(random.uniform(0.05, 0.5)),
        spatial_dims=n,
    )
    seed = int(random.integers(2**31))
    count = int(random.integers(1, 3))
    samples, folds = model.sample_folded(
        labels, count, generator=torch.Generator().manual_seed(seed)
    )
    moved = model.displacement(spatial, count, generator=torch.Generator().manual_seed(seed))
    for number in range(count):
        expected = references.looked_up(labels.numpy(), moved[number].numpy())
        assert np.array_equal(samples[number].numpy(), expected)
        _compare_folds(float(folds[number]), moved[number].double().numpy(), labels.numel())
    marginals = model.marginals(labels)
    from marginseg.noise import TRUNCATE

    expected = references.filtered(
        labels.numpy().astype(np.float64),
        model.std_in_voxels(spatial),
        "constant",
        0.0,
        TRUNCATE[torch.float32],
        "integrated",
    )
    equal(marginals, expected, 6e-6)
    assert float(marginals.max()) <= 1.0
    return True


def losses_and_metrics(random: Random) -> bool:
    of = draws.shape(random, 1, 4)
    n = int(random.integers(1, len(of) + 1))
    c = draws.probabilities(random, of, one_of(random, (torch.float32, torch.float64)))
    m = draws.probabilities(random, of, one_of(random, (torch.float32, torch.float64)))
    if c.numel() == 0:
        return True
    first, second = c.double().numpy(), m.double().numpy()
    axes = tuple(range(len(of) - n, len(of)))
    overlap, volumes = (first * second).sum(axes), first.sum(axes) + second.sum(axes)
    dice = np.where(volumes == 0, 1.0, 2.0 * overlap / np.where(volumes == 0, 1.0, volumes))
    equal(marginseg.dice(c, m, spatial_dims=n), np.asarray(dice), 1e-12)
    right = np.asarray((first * second + (1 - first) * (1 - second)).mean(axes))
    equal(marginseg.accuracy(c, m, spatial_dims=n), right, 1e-12)
    equal(
        marginseg.volume_bias(c, m, spatial_dims=n), np.asarray((first - second).mean(axes)), 1e-12
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(first.sum(axes) / second.sum(axes))
    ratio = np.where(np.isnan(ratio), 1.0, ratio)
    np.testing.assert_allclose(
        marginseg.volume_ratio(c, m, spatial_dims=n).numpy(), ratio, rtol=1e-12
    )
    loss = marginseg.soft_dice(c, m, logits=False, spatial_dims=n, reduction="none")
    equal(loss, np.asarray(1.0 - dice), 1e-5)
    with np.errstate(divide="ignore"):
        logs = [np.maximum(np.log(p), -100.0) for p in (first, 1.0 - first)]
    entropy = -(second * logs[0] + (1.0 - second) * logs[1])
    equal(marginseg.cross_entropy(c, m, logits=False, reduction="none"), entropy, 1e-5)
    bins = int(random.integers(1, 20))
    curve = marginseg.calibration_curve(c, m, bins=bins)
    place = np.minimum((first * bins).astype(int), bins - 1).ravel()
    count, promised, held = (
        np.bincount(place, weights, bins)
        for weights in (np.ones(place.size), first.ravel(), second.ravel())
    )
    for got, expected in ((curve.count, count), (curve.promised, promised), (curve.held, held)):
        equal(got, expected, 1e-11)
    error = np.abs(promised - held).sum() / place.size
    assert abs(float(marginseg.expected_calibration_error(c, m, bins=bins)) - error) < 1e-11
    return True


VALID: tuple[Call, ...] = (
    gaussian_filter,
    warp,
    dice_threshold,
    segment_dice_threshold,
    streamed_dice_threshold,
    dice_curve,
    optimal_segmentation,
    optimal_labels,
    gaussian_field,
    folded_share,
    noise,
    losses_and_metrics,
)
