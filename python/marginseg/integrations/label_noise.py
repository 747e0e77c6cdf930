"""Label noise of planes and of patches, and of label maps that lie in memory in one way.

What the transforms of all packages have in common; it needs none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from marginseg.noise import GaussianFieldNoise
from marginseg.values import whole

#: How far the ends of two voxels' edges may be apart, as a share of the edge. Headers in float32
#: differ by less, and so do rotations that were written as quaternions.
TOLERANCE = 1e-3


def std_along(
    std: float | tuple[float, ...], shape: Sequence[int], factor: float = 1.0
) -> tuple[float, ...]:
    """Return the std along each axis of a volume, 0 where there is a single voxel.

    Along such an axis, as planes have one among volumes, all that moved would leave the volume.

    Args:
        std: One number, or one for each axis.
        shape: The spatial sizes.
        factor: What they are multiplied by.

    Raises:
        ValueError: There are more or fewer than axes.

    Example:
        >>> std_along(2.0, (64, 64, 1))
        (2.0, 2.0, 0.0)

    """
    along = std if isinstance(std, tuple) else (std,) * len(shape)
    if len(along) != len(shape):
        raise ValueError(f"std: expected {len(shape)} numbers, got {len(along)}")
    return tuple(
        0.0 if size == 1 else factor * value for size, value in zip(shape, along, strict=True)
    )


def deformed_patch(
    noise: GaussianFieldNoise, label: Tensor, seed: int, fixed: Sequence[int] = ()
) -> Tensor:
    """Deform the label of a patch, which is a part of an image.

    In a whole image, what comes from outside is 0. What lies outside a patch is not known: a voxel
    that would get its label from there keeps its own.

    Args:
        noise: Its ``spatial_dims`` are told.
        label: (channels, *spatial), whole numbers of any dtype.
        seed: Of the field.
        fixed: Values that stay where they are; what lies under them is not known either.

    Returns:
        Tensor of the label's shape and dtype.

    Raises:
        ValueError: The label has fractions or NaN.

    Example:
        >>> noise = GaussianFieldNoise(2.0, 8.0, "voxel", spatial_dims=2)
        >>> bool((deformed_patch(noise, torch.ones(1, 16, 16), seed=0) == 1).all())
        True

    """
    numbers = whole("label", label)
    if not numbers.numel():
        return label
    known = torch.ones_like(numbers, dtype=torch.bool)
    for value in fixed:
        known &= numbers != value
    # The sampler puts 0 where it finds nothing. So 0 stands for what is not known, and the labels
    # come after it, beginning with 1.
    low, high = int(numbers.min()), int(numbers.max())
    smallest = torch.int32 if high - low + 1 < 2**31 else torch.int64
    coded = (numbers.to(torch.int64) - (low - 1)).masked_fill(~known, 0).to(smallest)
    found = noise.sample(coded, generator=seed)[0]
    moved = (found.to(torch.int64) + (low - 1)).to(numbers.dtype)
    return torch.where(known & (found > 0), moved, numbers).to(label.dtype)


def lie_alike(affine: Any, other: Any, n: int) -> bool:
    """Whether the n axes of two volumes have the same directions and spacings.

    One field deforms both alike only then; where their first voxels are makes no difference.

    Args:
        affine: Matrix from voxels to millimetres, whose first n columns are an axis each.
        other: That of the other volume.
        n: How many spatial axes there are.

    Example:
        >>> lie_alike(torch.eye(4), torch.diag(torch.tensor([-1, 1, 1, 1])), 3)
        False

    """
    edges, others = (torch.as_tensor(each).double()[:-1, :n] for each in (affine, other))
    if edges.shape != others.shape:
        return False
    apart = (edges - others).square().sum(0).sqrt()
    return bool((apart <= TOLERANCE * edges.square().sum(0).sqrt()).all())


def edges_of(affine: Any, n: int) -> list[list[float]]:
    """Return a voxel's n edges, in millimetres, as a message shows them.

    Example:
        >>> edges_of(torch.diag(torch.tensor([-1.0, 2.0, 1.0])), 2)
        [[-1.0, 0.0], [0.0, 2.0]]

    """
    columns = torch.as_tensor(affine).double()[:-1, :n].T
    return [[round(value, 4) for value in column] for column in columns.tolist()]
