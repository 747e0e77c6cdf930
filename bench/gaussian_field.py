"""``gaussian_field`` against white noise filtered by SciPy, GSTools, and plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bench.case import Call, Case, DifferenceError, Peer, Size, Work, as_array, optional
from marginseg import gaussian_field, gaussian_field_ranks
from marginseg.noise import DEFAULT_LENGTH_SCALE
from marginseg.ops.axis_factor import axis_factor

STD = 0.03
"""As a fraction of the extent, like the length scale."""

DRAWN = Size(16)
"""Statistics are compared at this size. A field is as smooth for its extent at every size."""

MARGIN = DRAWN.edge // 4
"""So far from the borders, white noise filtered on the grid alone has 97 % of its variance."""

LAG = 2
"""Over so many voxels the fields' roughness is compared: more than half a length scale."""

STANDARD_ERRORS = 5.0
"""By how many of them the statistics may differ. Draws are seeded: the verdict never changes."""

#: Makes a call that draws a displacement for each cube.
Draw = Callable[[Size], Call]


def cases(size: Size) -> Iterator[Case]:
    """Draw a displacement, three components (one for each cube of a batch)."""
    edge = size.edge
    rank = gaussian_field_ranks((edge,) * 3, DEFAULT_LENGTH_SCALE * edge)[0]
    # Expanding one axis after the other.
    expanding = 3.0 * edge * rank * (rank**2 + rank * edge + edge**2)
    yield Case(
        "gaussian_field",
        f"exact, std {STD:g}",
        ours(size),
        (
            Peer(
                "SciPy, Listing 2",
                "float32 white noise, gaussian_filter, mode constant, truncate 4; one thread",
                partial(listing_2, size),
                resemblance(listing_2, draws=200, margin=MARGIN),
                power=4.0,
                note="white noise on the grid only: variance falls towards the border",
            ),
            Peer(
                "GSTools SRF",
                "Gaussian covariance, structured grid, 1000 modes (its default); one thread",
                partial(gstools, size),
                resemblance(gstools, draws=12),
                note="float64; a sum of 1000 random waves, Gaussian only nearly",
            ),
            Peer(
                "plain torch",
                "randn, then a matrix product an axis with our factors, made before",
                partial(plain, size),
                resemblance(plain, draws=200),
                note="our algorithm, written with torch",
            ),
        ),
        Work(12.0 * size.voxels, size.cubes * expanding),
    )


def ours(size: Size) -> Call:
    edge = size.edge
    batch = (size.batch,) if size.batch else ()
    generator = torch.Generator().manual_seed(0)
    return lambda: gaussian_field(
        (edge,) * 3,
        STD * edge,
        DEFAULT_LENGTH_SCALE * edge,
        generator=generator,
        batch_shape=batch,
    )


def component(edge: int, std: float, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return one component as in Listing 2, its slip mended: one weight, in voxels."""
    b = DEFAULT_LENGTH_SCALE * edge
    weight = np.float32(std * edge * (2.0 * math.pi * b**2) ** 0.75)
    noise = rng.standard_normal((edge,) * 3, dtype=np.float32)
    field = ndimage.gaussian_filter(noise, b / math.sqrt(2.0), mode="constant")
    return np.multiply(field, weight, out=field)


def listing_2(size: Size) -> Call:
    rng = np.random.default_rng(1)

    def call() -> Any:
        field = np.empty((size.cubes, 3, *(size.edge,) * 3), np.float32)
        for cube in field:
            for axis in range(3):
                cube[axis] = component(size.edge, STD, rng)
        return field

    return call


def gstools(size: Size) -> Call:
    """Return GSTools' randomization method; a seed gives a component.

    Its Gaussian model is exp(-π/4 (r/ℓ)²), which is ours for ℓ = b √(π/2).
    """
    package = optional("gstools")
    edge = size.edge
    length = DEFAULT_LENGTH_SCALE * edge * math.sqrt(math.pi / 2.0)
    model = package.Gaussian(dim=3, var=(STD * edge) ** 2, len_scale=length)
    srf = package.SRF(model)
    axes = [np.arange(edge, dtype=np.float64)] * 3
    # Its own sequence of seeds would give every call the same field.
    rng = np.random.default_rng(1)

    def call() -> Any:
        seeds = rng.integers(1 << 31, size=3 * size.cubes)
        fields = [srf.structured(axes, seed=int(seed), store=False) for seed in seeds]
        return np.stack(fields).reshape(size.cubes, 3, *(edge,) * 3)

    return call


def plain(size: Size) -> Call:
    """Return what one would write with torch alone, knowing that the field has a low rank."""
    edge = size.edge
    factor = torch.from_numpy(axis_factor(edge, DEFAULT_LENGTH_SCALE * edge, 1e-6)).float()
    rank = factor.shape[1]
    generator = torch.Generator().manual_seed(1)

    def call() -> Tensor:
        drawn = torch.randn(size.cubes, 3, rank, rank, rank, generator=generator)
        return expand(drawn.mul_(STD * edge), [factor] * 3)

    return call


def expand(coefficients: Tensor, factors: list[Tensor]) -> Tensor:
    """Multiply coefficients (…, rank, rank, rank) by a factor along each axis."""
    first, second, third = factors
    field = second @ (coefficients @ third.T)
    field = first @ field.flatten(-2)
    return field.unflatten(-1, (len(second), len(third)))


def resemblance(peer: Draw, draws: int, margin: int = 0) -> Callable[[Any, Any], str]:
    """Return a check that the peer's fields vary as much as ours, and over the same distance.

    Two draws never agree. So the peer draws so many times, ours at least as often, and the means
    of two statistics may differ by `STANDARD_ERRORS` standard errors of their difference: the more
    draws, the less. ``margin`` leaves out so many voxels at the borders.
    """

    def check(mine: Any, theirs: Any) -> str:
        if as_array(mine).size != as_array(theirs).size:
            raise DifferenceError(f"shape {np.shape(theirs)}, ours {np.shape(mine)}")
        means, errors = _moments(ours, 200, margin)
        others, other_errors = _moments(peer, draws, margin)
        allowed = STANDARD_ERRORS * np.hypot(errors, other_errors)
        found = []
        for name, a, b, most in zip(("variance", "roughness"), means, others, allowed, strict=True):
            text = f"{name} {b / a:.3f} of ours, {1 - most / a:.3f} to {1 + most / a:.3f} allowed"
            if not abs(a - b) <= most:
                raise DifferenceError(text)
            found.append(text)
        return "; ".join(found)

    return check


@lru_cache
def _moments(
    draw: Draw, draws: int, margin: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the mean of each statistic over components and draws, and its standard error.

    The variance is the mean square. The roughness is half the mean square of steps of `LAG`
    voxels: a² (1 - exp(-LAG² / 2b²)), so it tells the length scale.
    """
    call, shape = draw(DRAWN), (-1, *(DRAWN.edge,) * 3)
    fields = np.concatenate([as_array(call()).reshape(shape) for _ in range(draws)])
    within = slice(margin, DRAWN.edge - margin)
    inner = fields[:, within, within, within]
    square = (inner**2).mean(axis=(1, 2, 3))
    rough = np.mean(
        [
            (np.diff(np.moveaxis(inner, axis, -1)[..., ::LAG]) ** 2).mean(axis=(1, 2, 3)) / 2.0
            for axis in (1, 2, 3)
        ],
        axis=0,
    )
    values = np.stack((square, rough), axis=1)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))
