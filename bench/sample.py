"""``GaussianFieldNoise.sample`` against the paper's Listing 2, MONAI, TorchIO and plain torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from bench.case import (
    Call,
    Case,
    DifferenceError,
    Peer,
    Size,
    Work,
    as_array,
    box_extents,
    optional,
    organ,
)
from bench.gaussian_field import component, expand
from marginseg import GaussianFieldNoise, gaussian_field_ranks
from marginseg.noise import DEFAULT_LENGTH_SCALE
from marginseg.ops.axis_factor import axis_factor

STD = 0.03


def cases(size: Size) -> Iterator[Case]:
    """Draw one sample of a label (of each label of a batch)."""
    label = organ(size)
    noise = GaussianFieldNoise(std=STD, spatial_dims=3)
    edge = size.edge
    rank = gaussian_field_ranks((edge,) * 3, DEFAULT_LENGTH_SCALE * edge)[0]
    box = math.prod(box_extents(label)) * size.cubes
    check = resemblance(label)
    yield Case(
        "sample",
        f"std {STD:g}",
        lambda: noise.sample(label, batch_dims=1 if size.batch else 0)[0],
        (
            Peer(
                "SciPy, Listing 2",
                "float32 noise and filter, cubic spline, mode nearest, cut at ½; one thread",
                lambda: listing_2(label),
                check,
                power=4.0,
                note="variance falls towards the border, cubic spline, border label repeated",
                targets={64: 200.0, 128: 200.0},
            ),
            Peer(
                "MONAI Rand3DElastic",
                "prob 1, sigma 0.15 N, magnitude for the same variance, nearest, zeros",
                lambda: monai(label),
                check,
                power=4.0,
                note="uniform white noise on the grid only, filter cut at 3 σ",
                targets={64: 500.0},
            ),
            Peer(
                "TorchIO RandomElasticDeformation",
                "7 control points, 2 locked borders, max_displacement matched, nearest, no copy",
                lambda: torchio(label),
                check,
                note="cubic B-spline of 3³ free points, zero at the border",
                targets={64: 250.0},
            ),
            Peer(
                "plain torch",
                "low-rank matrix products, then grid_sample nearest, zeros; factors made before",
                lambda: plain(label),
                check,
                note="our algorithm for the field, written with torch",
            ),
        ),
        Work(2.0 * size.voxels, 3.0 * rank * box),
    )


def resemblance(label: Tensor) -> Any:
    """Return a check that a noisy label overlaps the label about as ours does."""
    body = as_array(label) > 0

    def overlap(sample: Any) -> float:
        other = as_array(sample).reshape(body.shape) > 0
        return float(2 * (body & other).sum() / (body.sum() + other.sum()))

    def check(ours: Any, peer: Any) -> str:
        mine, theirs = overlap(ours), overlap(peer)
        # One draw each: a Gaussian field of this smoothness moves the Dice by about 0.05.
        if abs(mine - theirs) > 0.25 or theirs > 0.999:
            raise DifferenceError(f"Dice with the clean label {theirs:.2f}, ours {mine:.2f}")
        return f"Dice with the clean label {theirs:.2f}, ours {mine:.2f}"

    return check


def _cubes(label: Tensor) -> list[Tensor]:
    return list(label.reshape(-1, *label.shape[-3:]))


def listing_2(label: Tensor) -> Call:
    """Return Listing 2 with its slips mended."""
    edge = label.shape[-1]
    rng = np.random.default_rng(0)
    cubes = [cube.numpy().astype(np.float32) for cube in _cubes(label)]
    grid = np.indices((edge,) * 3, dtype=np.float32)

    def one(cube: Any) -> Any:
        coordinates = np.empty_like(grid)
        for axis in range(3):
            coordinates[axis] = grid[axis] + component(edge, STD, rng)
        moved = ndimage.map_coordinates(
            cube, coordinates, order=3, mode="nearest", output=np.float32
        )
        return (moved >= 0.5).astype(np.uint8)

    return lambda: np.stack([one(cube) for cube in cubes])


def monai(label: Tensor) -> Call:
    """Return MONAI's transform with a field as smooth and as large as ours."""
    transforms = optional("monai.transforms")
    edge = label.shape[-1]
    sigma = 0.15 * edge
    # Uniform noise on [-1, 1] has variance ⅓; the filter leaves (2 √π σ)⁻³ of it.
    magnitude = STD * edge * math.sqrt(3.0) * (2.0 * math.sqrt(math.pi) * sigma) ** 1.5
    transform = transforms.Rand3DElastic(
        (sigma, sigma),
        (magnitude, magnitude),
        prob=1.0,
        mode="nearest",
        padding_mode="zeros",
    )
    transform.set_random_state(0)
    cubes = [cube[None].float() for cube in _cubes(label)]
    return lambda: torch.stack([transform(cube)[0].to(torch.uint8) for cube in cubes])


def torchio(label: Tensor) -> Call:
    """Return TorchIO's transform with control points that displace about as far as ours."""
    package = optional("torchio")
    # A cubic B-spline leaves (151/315)³ of the control points' variance, D²/3.
    reach = STD * label.shape[-1] * math.sqrt(3.0) * (315 / 151) ** 1.5
    transform = package.RandomElasticDeformation(max_displacement=reach, copy=False)
    cubes = [cube[None] for cube in _cubes(label)]

    def one(cube: Tensor) -> Any:
        subject = package.Subject(label=package.LabelMap(tensor=cube))
        return transform(subject)["label"].data[0]

    def call() -> Tensor:
        with warnings.catch_warnings():
            # It says that fields of this size may fold, which is so.
            warnings.simplefilter("ignore", RuntimeWarning)
            return torch.stack([one(cube) for cube in cubes])

    return call


def plain(label: Tensor) -> Call:
    """Return what one would write with torch alone, knowing that the field has a low rank."""
    edge = label.shape[-1]
    cubes = label.reshape(-1, 1, *label.shape[-3:])
    factor = torch.from_numpy(axis_factor(edge, DEFAULT_LENGTH_SCALE * edge, 1e-6))
    factor = factor.to(label.device, torch.float32)
    rank = factor.shape[1]
    centres = (2.0 * torch.arange(edge) + 1.0) / edge - 1.0
    # grid_sample wants x, y, z in [-1, 1]; the voxels' edges are its ends.
    base = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij")[::-1])
    amplitude = 2.0 * STD

    def call() -> Tensor:
        coefficients = torch.randn(len(cubes), 3, rank, rank, rank) * amplitude
        field = expand(coefficients, [factor] * 3)
        grid = field.add_(base).movedim(1, -1)
        moved = functional.grid_sample(cubes.float(), grid, "nearest", "zeros", align_corners=False)
        return moved.to(torch.uint8)

    return call
