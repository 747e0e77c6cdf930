"""The paper's Figure 1: what it writes under its segmentations is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from marginseg import GaussianFieldNoise
from marginseg.report.figures import figure1 as module
from marginseg.report.figures.figure1 import _kidney, _tube, figure1


def test_what_it_says_of_each_segmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dice, t* and |s|/|l| by a scan over all cuts in NumPy."""
    drawn: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        drawn.append(figure)
        return path

    monkeypatch.setattr(module, "save", keep)
    size, levels = 48, (0.03, 0.06)
    figure1(tmp_path / "f.png", std=levels, size=size, samples=2)
    axes = np.reshape(drawn[0].axes[: 6 * 5], (6, 5))
    shapes = [_kidney(size), _tube(size, 0.06), _tube(size, 0.018)]
    rows = [(label, a) for label in shapes for a in levels]
    for row, (label, a) in zip(axes, rows, strict=True):
        m = GaussianFieldNoise(a).marginals(label).double().numpy()
        values = np.sort(m.ravel())[::-1]
        dice = 2 * np.cumsum(values) / (values.sum() + np.arange(1, values.size + 1))
        for axis, threshold in ((row[3], 0.5), (row[4], dice.max() / 2)):
            s = m >= threshold
            expected = 2 * m[s].sum() / (s.sum() + m.sum())
            said = [float(number) for number in re.findall(r"= ([\d.]+)", axis.get_xlabel())]
            assert said[0] == pytest.approx(expected, abs=0.0051)
            assert said[-1] == pytest.approx(s.sum() / int(label.sum()), abs=0.0051)
            if axis is row[4]:
                assert said[1] == pytest.approx(threshold, abs=0.0051)
            assert np.array_equal(axis.images[0].get_array(), s)


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    options = {"std": (0.03,), "size": 32, "samples": 1}
    first, again, other = (
        figure1(tmp_path / f"{name}.png", seed=seed, **options).read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert first != other


def test_shapes_are_within_the_picture() -> None:
    for label in (_kidney(64), _tube(64, 0.06), _tube(64, 0.018)):
        assert set(label.unique().tolist()) == {0, 1}
        border = torch.cat([label[0], label[-1], label[:, 0], label[:, -1]])
        assert not border.any()
