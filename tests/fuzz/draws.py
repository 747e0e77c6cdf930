"""Arguments drawn at random: shapes, memory layouts, values that are not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
LABELS = (torch.uint8, torch.bool, torch.int16, torch.int32, torch.int64)
MODES = ("constant", "nearest", "reflect", "mirror", "wrap")

Random = np.random.Generator


def chance(random: Random, share: float) -> bool:
    return bool(random.random() < share)


def one_of(random: Random, values: Any) -> Any:
    return values[int(random.integers(len(values)))]


def size(random: Random) -> int:
    """Draw the size of an axis: mostly small, at times nothing, or longer than a vector."""
    if chance(random, 0.03):
        return 0
    return int(random.integers(15, 70) if chance(random, 0.15) else random.integers(1, 8))


def shape(random: Random, least: int = 1, most: int = 3) -> tuple[int, ...]:
    drawn = [size(random) for _ in range(int(random.integers(least, most + 1)))]
    while np.prod(drawn) > 20000:
        drawn[int(np.argmax(drawn))] = 3
    return tuple(drawn)


def laid_out(random: Random, values: Tensor) -> Tensor:
    """Return equal values that lie in memory in another way."""
    way = int(random.integers(5))
    if way == 0 and values.ndim > 1:
        axes = random.permutation(values.ndim).tolist()
        return values.permute(axes).contiguous().permute(np.argsort(axes).tolist())
    if way == 1 and values.ndim:
        wide = torch.zeros((*values.shape[:-1], 2 * values.shape[-1] + 1), dtype=values.dtype)
        wide[..., 1::2] = values
        return wide[..., 1::2]
    if way == 2:
        beside = torch.zeros(values.numel() + 1, dtype=values.dtype)
        beside[1:] = values.flatten()
        return beside[1:].view(values.shape)
    if way == 3 and values.ndim and values.shape[0] > 1:
        return values[:1].expand(values.shape)
    return values


def floats(random: Random, of: tuple[int, ...], dtype: torch.dtype, wild: bool = True) -> Tensor:
    """Draw values of [-1, 1], at times with some that are not finite."""
    values = random.uniform(-1.0, 1.0, of)
    if wild and chance(random, 0.15) and values.size:
        for _ in range(int(random.integers(1, 4))):
            values.flat[int(random.integers(values.size))] = one_of(
                random, (np.nan, np.inf, -np.inf)
            )
    return laid_out(random, torch.from_numpy(values).to(dtype))


def probabilities(random: Random, of: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Draw values of [0, 1], at times with many that are equal, 0 or 1."""
    values = random.random(of)
    if chance(random, 0.4):
        values = np.round(values * 4) / 4
    if chance(random, 0.3):
        values = values * (random.random(of) < 0.2)
    return laid_out(random, torch.from_numpy(values).to(dtype))


def label(random: Random, of: tuple[int, ...], dtype: torch.dtype, classes: int = 4) -> Tensor:
    values = random.integers(0, classes, of)
    if chance(random, 0.5):
        values = values * (random.random(of) < 0.1)
    return laid_out(random, torch.from_numpy(np.asarray(values)).to(dtype))


def displacement(random: Random, of: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    values = random.normal(0.0, one_of(random, (0.0, 0.3, 3.0, 1000.0)), of)
    if chance(random, 0.3):
        values = np.round(2.0 * values) / 2.0
    if chance(random, 0.2) and values.size:
        for _ in range(int(random.integers(1, 4))):
            extreme = one_of(random, (np.nan, np.inf, -np.inf, 3e38, -3e38, 2.0**31, -(2.0**31)))
            values.flat[int(random.integers(values.size))] = extreme
    return laid_out(random, torch.from_numpy(values).to(dtype))
