"""The paper's Figure 1: what the noise does to shapes, and the segmentations that are optimal."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from marginseg.metrics import volume_ratio
from marginseg.noise import GaussianFieldNoise
from marginseg.ops.dice_threshold import dice_threshold
from marginseg.report.figures.style import save
from marginseg.threshold import cut

OUTLINE = "#D55E00"


def figure1(
    path: str | os.PathLike[str],
    *,
    std: Sequence[float] = (0.02, 0.04, 0.06),
    size: int = 256,
    samples: int = 3,
    seed: int = 0,
) -> Path:
    """Draw the paper's Figure 1: shapes under rising noise, and their optimal segmentations.

    Each row is a shape at a noise level: samples of the noisy label, the marginal, and the
    segmentations that are optimal for Accuracy (cut at ½) and for Dice (cut at t*), with the
    label's outline.

    Args:
        path: File to write: ``.png``, ``.pdf`` or ``.svg``; its folder must exist.
        std: Noise levels a, fractions of the extent.
        size: Pixels along each axis.
        samples: Noisy labels a row.
        seed: Of the samples.

    Returns:
        The path.
    """
    shapes = {"kidney": _kidney(size), "tube": _tube(size, 0.06), "thin tube": _tube(size, 0.018)}
    rows = [(name, label, a) for name, label in shapes.items() for a in std]
    columns = samples + 3
    height = 1.62 * len(rows) + 0.9
    figure = Figure(figsize=(1.45 * columns + 1.3, height))
    axes = figure.subplots(
        len(rows),
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.06,
            "right": 0.9,
            "top": 1 - 0.5 / height,
            "bottom": 0.6 / height,
            "wspace": 0.06,
            "hspace": 0.32,
        },
    )
    titles = [*(f"sample {i + 1}" for i in range(samples)), "marginal m"]
    titles += ["Accuracy-optimal\n{m ≥ ½}", "Dice-optimal\n{m ≥ t*}"]
    picture = None
    for place, (name, label, a) in enumerate(rows):
        noise = GaussianFieldNoise(a)
        drawn = noise.sample(label, samples, generator=torch.Generator().manual_seed(seed))
        marginal = noise.marginals(label)
        best = dice_threshold(marginal, spatial_dims=2)
        cuts = [cut(marginal, threshold) for threshold in (0.5, best.threshold)]
        for axis, image in zip(axes[place], [*drawn, marginal, *cuts], strict=True):
            picture = axis.imshow(
                np.asarray(image, dtype=np.float32), cmap="cividis", vmin=0, vmax=1
            )
            axis.set(xticks=[], yticks=[])
            axis.contour(label.numpy(), levels=[0.5], colors=OUTLINE, linewidths=0.9)
        axes[place][0].set_ylabel(f"{name}\na = {a:g}", fontsize=9)
        for axis, segmentation, text in zip(
            axes[place][-2:], cuts, ("", f", t* = {float(best.threshold):.2f}"), strict=True
        ):
            overlap = float(marginal[segmentation].sum())
            dice = 2 * overlap / float(segmentation.sum() + marginal.sum())
            ratio = float(volume_ratio(segmentation, label))
            axis.set_xlabel(f"D = {dice:.2f}{text}\n|s|/|l| = {ratio:.2f}", fontsize=7.5)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    assert picture is not None
    bar = figure.colorbar(picture, cax=figure.add_axes((0.925, 0.35, 0.016, 0.3)))
    bar.set_label("probability (label: 0 or 1)")
    outline = Line2D([], [], color=OUTLINE, linewidth=1.2, label="the clean label")
    figure.legend(handles=[outline], loc="lower left", frameon=False, fontsize=8)
    return save(figure, path)


def _grid(size: int) -> tuple[Tensor, Tensor]:
    line = (torch.arange(size, device="cpu") + 0.5) / size
    y, x = torch.meshgrid(line, line, indexing="ij")
    return y, x


def _kidney(size: int) -> Tensor:
    y, x = _grid(size)
    turned_x, turned_y = (x - 0.5) + 0.3 * (y - 0.5), (y - 0.5) - 0.3 * (x - 0.5)
    body = (turned_x / 0.2) ** 2 + (turned_y / 0.3) ** 2 < 1
    hilum = ((turned_x - 0.2) / 0.12) ** 2 + (turned_y / 0.1) ** 2 < 1
    return (body & ~hilum).to(torch.uint8)


def _tube(size: int, radius: float) -> Tensor:
    """A tube along a sine wave; the distance to it to first order in its slope."""
    y, x = _grid(size)
    wave = 0.5 + 0.12 * torch.sin(2 * math.pi * y)
    slope = 0.24 * math.pi * torch.cos(2 * math.pi * y)
    distance = (x - wave).abs() / torch.sqrt(1 + slope**2)
    return ((distance < radius) & (y > 0.08) & (y < 0.92)).to(torch.uint8)
