"""Theorem 2: how much of a label's mass the noise leaves in the domain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: In float64 a label takes up to eight times its memory: so many voxels are taken at a time.
VOXELS_AT_ONCE = 1 << 18


def kept_mass(
    label: Tensor,
    std: Sequence[float],
    domain: Sequence[int] | None = None,
    begin: Sequence[int] | None = None,
) -> Tensor:
    r"""Return the expected sum of L over the domain, :math:`\sum_j l_j \prod_i k_i(j_i)`.

    A voxel's mass stays with a probability that is a product over axes, see :func:`kept_share`.

    Args:
        label: (*leading, *spatial), n spatial axes.
        std: a along each of the n axes, in voxels.
        domain: The sizes of the domain, of which ``label`` may be a part that holds all its mass;
            the default is the label's own.
        begin: Where in the domain that part begins, along each axis.

    Returns:
        float64 tensor of the leading shape.

    Example:
        >>> kept_mass(torch.ones(3, 8), [0.0])
        tensor([8., 8., 8.], dtype=torch.float64)
        >>> one, whole = torch.ones(1), torch.tensor([0.0, 1.0, 0.0, 0.0])
        >>> kept_mass(one, [2.0], domain=[4], begin=[1]) == kept_mass(whole, [2.0])
        tensor(True)

    """
    first = label.ndim - len(std)
    sizes = label.shape[first:]
    shares = [
        kept_share(whole, a)[start : start + size].to(label.device)
        for size, whole, start, a in zip(
            sizes, domain or sizes, begin or [0] * len(std), std, strict=True
        )
    ]
    planes = max(1, VOXELS_AT_ONCE * len(shares[0]) // max(1, label.numel()))
    sums = []
    for part in label.split(planes, dim=first):
        kept = part.double()
        for share in reversed(shares[1:]):
            kept = kept @ share
        sums.append(kept)
    return torch.cat(sums, dim=-1) @ shares[0]


def kept_share(size: int, std: float) -> Tensor:
    """Return, for each voxel of an axis, how much of its mass N(0, std²) leaves in the domain.

    The domain of voxel centres 0..N-1 sends to voxel j the mass
    Σ_ω P(ω + X ∈ [j-½, j+½]) = Φ((j+½)/a) - Φ((j-N+½)/a), the sum over ω telescoping.

    Args:
        size: N.
        std: a, in voxels.

    Returns:
        float64 tensor of N shares, on the CPU.

    """
    j = torch.arange(size, dtype=torch.float64, device="cpu")
    if std == 0:
        return torch.ones_like(j)
    scale = std * math.sqrt(2.0)
    return 0.5 * (torch.erf((j + 0.5) / scale) - torch.erf((j - size + 0.5) / scale))
