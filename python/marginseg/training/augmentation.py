"""Augmentation (§5.3): shift, rotation and Gaussian smoothing, each with a probability of its own.

Shift and rotation are one rigid motion; image and label are carried along by one warp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from marginseg.ops.gaussian_filter import gaussian_filter
from marginseg.ops.warp import warp

#: Largest shift along each axis, as a fraction of the extent.
MAX_SHIFT = 0.05
#: Largest angle about each axis (in the plane of each pair of axes), in radians.
MAX_ANGLE = math.radians(10.0)
#: Largest standard deviation of the smoothing, as a fraction of the extent: a voxel at 64.
MAX_SIGMA = 1.0 / 64.0


def augment(
    image: Tensor,
    label: Tensor,
    *,
    generator: torch.Generator,
    probability: float = 0.5,
    spacing: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Shift, rotate and smooth an image, and carry its label along.

    Image and label move together: both are interpolated linearly at the same places and go on
    beyond the border as the nearest voxel; the label is then cut at ½. Smoothing leaves the label
    alone. Always the same number of random numbers is drawn, whatever is done with them.

    Args:
        image: Shape (*spatial), float32, two or three axes; on any device.
        label: The same shape, 0 and 1, any dtype; it is kept.
        generator: Source of the random numbers, on the CPU: the same for every device.
        probability: Of each of the three, independently, within [0, 1].
        spacing: Voxel size along each axis, so that rotations are rotations in space; None: equal.

    Returns:
        Image and label, new tensors or the ones that came.

    Raises:
        ValueError: Shapes or spacing do not fit, or the probability is out of its range.

    Example:
        >>> import torch
        >>> image, label = torch.rand(8, 8, 8), torch.zeros(8, 8, 8, dtype=torch.uint8)
        >>> a, b = augment(image, label, generator=torch.Generator().manual_seed(0))
        >>> a.shape, b.dtype
        (torch.Size([8, 8, 8]), torch.uint8)

    """
    n = image.ndim
    if n not in (2, 3):
        raise ValueError(f"image: expected 2 or 3 axes, got shape {tuple(image.shape)}")
    if label.shape != image.shape:
        raise ValueError(
            f"label: expected the image's shape {tuple(image.shape)}, got {tuple(label.shape)}"
        )
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability: expected within [0, 1], got {probability:g}")
    if spacing is not None and len(spacing) != n:
        raise ValueError(f"spacing: expected {n} numbers, got {len(spacing)}")
    planes = n * (n - 1) // 2
    draws = torch.rand(
        3 + n + planes + 1, generator=generator, dtype=torch.float64, device="cpu"
    ).tolist()
    shifts, rotates, smooths = (draw < probability for draw in draws[:3])
    signed = [2.0 * draw - 1.0 for draw in draws[3:-1]]
    if shifts or rotates:
        shift = [
            MAX_SHIFT * size * draw if shifts else 0.0
            for size, draw in zip(image.shape, signed[:n], strict=True)
        ]
        angles = [MAX_ANGLE * draw if rotates else 0.0 for draw in signed[n:]]
        displacement = rigid_displacement(
            image.shape, shift, angles, spacing=spacing, device=image.device
        )
        pair = torch.stack([image, label.to(image.dtype)])
        moved = warp(pair, displacement, mode="nearest", spatial_dims=n)
        image, label = moved[0], (moved[1] >= 0.5).to(label.dtype)
    if smooths:
        sigma = [MAX_SIGMA * size * draws[-1] for size in image.shape]
        image = gaussian_filter(image, sigma, mode="nearest")
    return image, label


def rigid_displacement(
    shape: Sequence[int],
    shift: Sequence[float],
    angles: Sequence[float],
    *,
    spacing: Sequence[float] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Return X(ω) = R(ω − c) + c + shift − ω, in voxels, about the volume's centre c.

    Args:
        shape: n spatial sizes.
        shift: n numbers, in voxels.
        angles: One for each pair of axes (0, 1), (0, 2), (1, 2), in radians; applied in turn.
        spacing: Voxel size along each axis; None: equal.
        device: Where the result is wanted; None: the CPU.

    Returns:
        float32 tensor of shape (n, *shape).

    Example:
        >>> rigid_displacement((2, 2), (1.0, 0.0), (0.0,))[:, 0, 0]
        tensor([1., 0.])

    """
    n = len(shape)
    rotation = torch.eye(n, dtype=torch.float64, device="cpu")
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    for (i, j), angle in zip(pairs, angles, strict=True):
        turn = torch.eye(n, dtype=torch.float64, device="cpu")
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        rotation = turn @ rotation
    if spacing is not None:
        scale = torch.tensor(list(spacing), dtype=torch.float64, device="cpu")
        rotation = rotation * scale / scale[:, None]
    change = rotation - torch.eye(n, dtype=torch.float64, device="cpu")
    # The shares of the axes stand side by side in one tensor, so that a GPU gets them in one copy,
    # from pinned memory: for a copy from any other the host would wait.
    shares = [
        change[:, axis, None]
        * (torch.arange(size, dtype=torch.float64, device="cpu") - (size - 1) / 2)
        for axis, size in enumerate(shape)
    ]
    start = torch.tensor(list(shift), dtype=torch.float64, device="cpu")[:, None]
    together = torch.cat([start, *shares], dim=1).float()
    if device is not None and device.type == "cuda":
        together = together.pin_memory()
    together = together.to(device or "cpu", non_blocking=True)
    parts = together.split([1, *shape], dim=1)
    field = parts[0].reshape(n, *(1,) * n).repeat(1, *shape)
    for axis, (size, share) in enumerate(zip(shape, parts[1:], strict=True)):
        view = [n, *(1,) * n]
        view[1 + axis] = size
        field += share.reshape(view)
    return field
