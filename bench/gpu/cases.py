"""What is timed on a GPU: batches that fill it, each op beside its peers and yardsticks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench import assign_labels as label_peers
from bench import dice_threshold as threshold_peers
from bench import folded_share as fold_peers
from bench import gaussian_field as field_peers
from bench import gaussian_filter as filter_peers
from bench import sample as sample_peers
from bench import warp as warp_peers
from bench.case import Call, Size, largest_difference, optional, organ
from marginseg import GaussianFieldNoise, dice_threshold, gaussian_field, gaussian_filter, warp
from marginseg.noise import DEFAULT_LENGTH_SCALE
from marginseg.ops.assign_labels import assign_labels
from marginseg.ops.dice_threshold import Method
from marginseg.ops.folded_share import folded_share_from_coefficients
from marginseg.ops.gaussian_field import draw_coefficients

#: Inputs that take turns.
SETS = 2

Check = Callable[[Any, Any], str]


def not_compared(ours: Any, peer: Any) -> str:
    """Nothing to compare: a yardstick, or random."""
    return ""


@dataclass(frozen=True)
class Rival:
    """What a case is held against.

    Attributes:
        name: Package and function, or the yardstick.
        prepare: Makes its call on each set of inputs.
        check: As for `bench.case.Peer`.
        faster: Ours is to be at least so many times as fast.
        longer: Ours is to take at most so many times as long.

    """

    name: str
    prepare: Callable[[int], Call]
    check: Check = not_compared
    faster: float | None = None
    longer: float | None = None


@dataclass(frozen=True)
class DeviceCase:
    """One op on one kind of input, as calls on each set."""

    op: str
    setting: str
    size: str
    moved_bytes: float
    ours: Callable[[int], Call]
    rivals: tuple[Rival, ...] = field(default=())


def batches(size: Size) -> Iterator[DeviceCase]:
    """Each op on a batch of cubes."""
    yield from _filters(size)
    yield from _warps(size)
    yield _sample(size)
    yield _field(size)
    yield _folds(size)
    yield _labels(size)
    yield from _thresholds(size)


def _filters(size: Size) -> Iterator[DeviceCase]:
    images = [torch.rand(size.shape) for _ in range(SETS)]

    def copy(values: list[Tensor]) -> Callable[[int], Call]:
        return lambda i: values[i].clone

    def cupy(i: int, sigma: float) -> Call:
        package, ndimage = optional("cupy"), optional("cupyx.scipy.ndimage")
        values = package.from_dlpack(images[i])
        sigmas = (*(0,) * (values.ndim - 3), *(sigma,) * 3)
        return lambda: ndimage.gaussian_filter(values, sigmas, mode="constant", truncate=4.0)

    for sigma in (1.0, 2.0):
        yield DeviceCase(
            "gaussian_filter",
            f"float32, σ {sigma:g}",
            size.name,
            8.0 * size.voxels,
            lambda i, sigma=sigma: lambda: gaussian_filter(images[i], (sigma,) * 3),  # type: ignore[misc]
            (
                Rival("copy of the tensor", copy(images), longer=3.0),
                Rival(
                    "MONAI GaussianFilter",
                    lambda i, sigma=sigma: filter_peers.monai(images[i], sigma),  # type: ignore[misc]
                    largest_difference(1e-4),
                    faster=20.0,
                ),
                Rival(
                    "CuPy gaussian_filter",
                    lambda i, sigma=sigma: cupy(i, sigma),  # type: ignore[misc]
                    largest_difference(1e-4),
                    faster=5.0,
                ),
            ),
        )
    halves = [image.half() for image in images]
    yield DeviceCase(
        "gaussian_filter",
        "float16, σ 2",
        size.name,
        4.0 * size.voxels,
        lambda i: lambda: gaussian_filter(halves[i], (2.0,) * 3),
        (Rival("copy of the tensor", copy(halves)),),
    )
    label = organ(size) > 0
    noise = GaussianFieldNoise(std=0.02, spatial_dims=3)
    yield DeviceCase(
        "marginals",
        "bool, std 0.02",
        size.name,
        5.0 * size.voxels,
        lambda i: lambda: noise.marginals(label),
    )


def _warps(size: Size) -> Iterator[DeviceCase]:
    images = [torch.rand(size.shape) for _ in range(SETS)]
    noise = GaussianFieldNoise(std=0.03)
    edges = (size.edge,) * 3
    fields = [noise.displacement(edges, size.batch or None) for _ in range(SETS)]
    label = organ(size)

    def ours(i: int) -> Call:
        return lambda: warp(images[i], fields[i], spatial_dims=3)

    yield DeviceCase(
        "warp",
        "linear, float32",
        size.name,
        20.0 * size.voxels,
        ours,
        (
            Rival("moving its bytes", lambda i: lambda: None, longer=2.5),
            Rival(
                "torch grid_sample",
                lambda i: warp_peers.grid_sample(images[i], fields[i]),
                largest_difference(1e-3),
                faster=2.0,
            ),
        ),
    )

    def gradients(call: Callable[[Tensor, Tensor], Call]) -> Callable[[int], Call]:
        def prepare(i: int) -> Call:
            image, field = images[i].clone().requires_grad_(), fields[i].clone().requires_grad_()
            result = call(image, field)()
            weight = torch.rand_like(result)
            return lambda: torch.autograd.grad(result, (image, field), weight, retain_graph=True)

        return prepare

    yield DeviceCase(
        "warp, both gradients",
        "linear, float32",
        size.name,
        36.0 * size.voxels,
        gradients(lambda image, field: lambda: warp(image, field, spatial_dims=3)),
        (Rival("torch grid_sample's", gradients(warp_peers.grid_sample)),),
    )
    yield DeviceCase(
        "warp",
        "nearest, uint8",
        size.name,
        14.0 * size.voxels,
        lambda i: lambda: warp(label, fields[i], interpolation="nearest", spatial_dims=3),
    )


def _sample(size: Size) -> DeviceCase:
    labels = [organ(size) for _ in range(SETS)]
    noise = GaussianFieldNoise(std=sample_peers.STD, spatial_dims=3)
    return DeviceCase(
        "sample",
        "nearest, uint8",
        size.name,
        2.0 * size.voxels,
        lambda i: lambda: noise.sample(labels[i], batch_dims=1 if size.batch else 0)[0],
        (
            Rival("copy of the labels", lambda i: labels[i].clone, longer=10.0),
            Rival(
                "randn, matmul, grid_sample",
                lambda i: sample_peers.plain(labels[i]),
                sample_peers.resemblance(labels[0]),
                faster=20.0,
            ),
        ),
    )


def _field(size: Size) -> DeviceCase:
    edges = (size.edge,) * 3
    scales = (DEFAULT_LENGTH_SCALE * size.edge,) * 3
    coefficients, factors = draw_coefficients(
        edges,
        (1.0,) * 3,
        scales,
        generator=None,
        batch_shape=(size.cubes,),
        dtype=torch.float32,
        device=torch.get_default_device(),
    )

    return DeviceCase(
        "gaussian_field",
        "float32, from coefficients",
        size.name,
        12.0 * size.voxels,
        lambda i: lambda: torch.ops.marginseg.gaussian_field(coefficients, factors),
        (
            Rival(
                "torch matmul",
                lambda i: lambda: field_peers.expand(coefficients, factors),
                largest_difference(1e-3),
            ),
        ),
    )


def _folds(size: Size) -> DeviceCase:
    coefficients, factors = fold_peers.drawn(size)
    return DeviceCase(
        "folded_share",
        "float32, from coefficients",
        size.name,
        # Nothing of the volume's size is moved: the field, which others read, stands for it.
        12.0 * size.voxels,
        lambda i: lambda: folded_share_from_coefficients(coefficients, factors),
        (
            Rival(
                "the field itself",
                lambda i: lambda: torch.ops.marginseg.gaussian_field(coefficients, factors),
            ),
        ),
    )


def _labels(size: Size) -> DeviceCase:
    # Eight channels of half the edge are as many values as one map of that size has.
    cubes = Size(size.edge // 2, size.batch)
    maps = [label_peers.marginals(cubes) for _ in range(SETS)]
    scale, offset = label_peers.gains(maps[0])
    return DeviceCase(
        "assign_labels",
        f"{label_peers.CHANNELS} channels of half the edge",
        size.name,
        (4.0 * label_peers.CHANNELS + 1.0) * cubes.voxels,
        lambda i: lambda: assign_labels(maps[i], scale, offset),
        (
            Rival(
                "torch max + bincount",
                lambda i: label_peers.by_torch(maps[i], scale, offset),
                label_peers.same_labels,
            ),
        ),
    )


def _thresholds(size: Size) -> Iterator[DeviceCase]:
    def realistic() -> Tensor:
        grain = gaussian_filter(torch.randn(size.shape), (1.0,) * 3)
        noise = GaussianFieldNoise(std=0.03, spatial_dims=3)
        return (noise.marginals(organ(size)) + 0.05 * grain).clamp_(0.0, 1.0)

    kinds: dict[str, Callable[[], Tensor]] = {
        "organ's marginals": realistic,
        "uniform": lambda: torch.rand(size.shape),
    }
    for setting, make in kinds.items():
        maps = [make() for _ in range(SETS)]

        def prepare(method: Method, maps: list[Tensor] = maps) -> Callable[[int], Call]:
            return lambda i: lambda: dice_threshold(maps[i], spatial_dims=3, method=method)

        def sorting(i: int, maps: list[Tensor] = maps) -> Call:
            return threshold_peers.torch_sort(maps[i])

        def one_sum(i: int, maps: list[Tensor] = maps) -> Call:
            return threshold_peers.one_sum(maps[i])

        same = threshold_peers.same_dice
        yield DeviceCase(
            "dice_threshold",
            f"iterate, {setting}",
            size.name,
            4.0 * size.voxels,
            prepare("iterate"),
            (
                Rival("torch.sum", one_sum, longer=8.0),
                Rival("torch sort + cumsum", sorting, same, faster=20.0),
            ),
        )
        yield DeviceCase(
            "dice_threshold",
            f"sort, {setting}",
            size.name,
            4.0 * size.voxels,
            prepare("sort"),
            (Rival("torch sort + cumsum", sorting, same, faster=1.0),),
        )


#: One 64³ volume under graph replay: each op is to take at most so long.
SINGLE_SECONDS = 30e-6


def singles(size: Size) -> dict[str, Call]:
    """Return a call of each op on one cube, fit to be captured in a graph."""
    (edges, image) = ((size.edge,) * 3, torch.rand(size.shape))
    noise = GaussianFieldNoise(std=0.03, spatial_dims=3)
    field = noise.displacement(edges)
    coefficients, factors = fold_peers.drawn(size)
    label = organ(size)
    return {
        "gaussian_filter, σ 2": lambda: gaussian_filter(image, 2.0),
        "marginals of a bool label": lambda body=label > 0: noise.marginals(body),  # type: ignore[misc]
        "warp, linear": lambda: warp(image, field),
        "gaussian_field": lambda: gaussian_field(
            edges, 1.0, DEFAULT_LENGTH_SCALE * size.edge, device=image.device
        ),
        "sample": lambda: noise.sample(label),
        "folded_share": lambda: folded_share_from_coefficients(coefficients, factors),
        "dice_threshold, iterate": lambda: dice_threshold(image, spatial_dims=3),
        "dice_threshold, sort": lambda: dice_threshold(image, spatial_dims=3, method="sort"),
    }
