"""Ceilings against brute force in NumPy, and beside what a study finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from marginseg import GaussianFieldNoise
from marginseg.data import Dataset, phantom
from marginseg.data.dataset import Case
from marginseg.study import ceilings, ceilings_of
from marginseg.study.evaluation import evaluate

LEVELS = (0.0, 0.02, 0.05, 0.15)


def a_label(*shape: int, seed: int = 0) -> np.ndarray:
    """A bent bar that touches the border, with a ragged surface."""
    places = np.indices(shape) / np.reshape(shape, (-1, *[1] * len(shape)))
    distance = np.abs(places[-1] - 0.3 - 0.2 * places[0] ** 2)
    rough = np.random.default_rng(seed).uniform(0.08, 0.2, shape)
    return (distance < rough).astype(np.uint8)


def marginals_by_definition(label: np.ndarray, std: float) -> np.ndarray:
    """The chance that each axis's N(0, a²) leads from a voxel's centre into another voxel."""
    m = label.astype(np.float64)
    for axis, size in enumerate(label.shape):
        if std:
            steps = np.arange(size)[None, :] - np.arange(size)[:, None]
            reached = ndtr((steps + 0.5) / (std * size)) - ndtr((steps - 0.5) / (std * size))
            m = np.moveaxis(np.tensordot(reached, m, axes=(1, axis)), 0, axis)
    return m


def dice(s: np.ndarray, m: np.ndarray) -> float:
    return float(2 * (s * m).sum() / (s.sum() + m.sum()))


@pytest.mark.parametrize("shape", [(17, 12), (9, 11, 13)])
def test_against_every_threshold(shape: tuple[int, ...]) -> None:
    label = a_label(*shape)
    noises = [GaussianFieldNoise(std) for std in LEVELS]
    for std, found in zip(LEVELS, ceilings_of(torch.from_numpy(label), noises), strict=True):
        m = marginals_by_definition(label, std)
        scores = {t: dice(m >= t, m) for t in np.unique(m[m > 0])}
        best = max(scores.values())
        assert found.sup_dice == pytest.approx(best, abs=1e-6)
        assert found.threshold == pytest.approx(best / 2, abs=1e-6)
        # The best of all thresholds is the smallest value that t* lets in, or ties with it.
        s = m >= best / 2 - 1e-6
        assert dice(s, m) == pytest.approx(best, abs=1e-9)
        assert found.volume_ratio == pytest.approx(s.sum() / label.sum(), abs=1e-12)
        half = m >= 0.5
        assert found.dice_at_half == pytest.approx(dice(half, m), abs=1e-6)
        assert found.volume_ratio_at_half == pytest.approx(half.sum() / label.sum(), abs=1e-12)
        assert found.expected_volume_ratio == pytest.approx(m.sum() / label.sum(), rel=1e-6)


def test_a_structure_that_vanishes_at_a_half() -> None:
    label = torch.zeros(32, 32, dtype=torch.bool)
    label[4:28, 16] = True
    (found,) = ceilings_of(label, [GaussianFieldNoise(0.06)])
    assert (found.dice_at_half, found.volume_ratio_at_half) == (0.0, 0.0)
    assert found.sup_dice > 0.2
    assert found.volume_ratio > 1


@pytest.fixture(scope="module")
def tubes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("cache")
    return phantom("thin_tube", cases=5, patch_shape=(16, 16, 16), cache_dir=folder)


def test_a_study_finds_the_same(tubes: Dataset) -> None:
    rows = ceilings(tubes, [0, 0.03])
    order = [(case.name, std) for case in tubes.cases for std in (0, 0.03)]
    assert [(row.name, row.std) for row in rows] == order
    for row, (case, std) in zip(
        rows, [(c, a) for c in tubes.cases for a in (0, 0.03)], strict=True
    ):
        label = torch.from_numpy(np.array(case.label))
        m = GaussianFieldNoise(std).marginals(label)
        study = evaluate(m, "cross_entropy", clean=label, noisy=label, marginal=m)
        assert row.structure == "thin_tube"
        assert row.voxels == case.label.sum()
        assert row.ceiling.sup_dice == study["sup_dice"]
        at_half, at_optimum = study["methods"]["CE(0)"], study["methods"]["CE(*)"]
        assert row.ceiling.threshold == at_optimum["threshold"]
        assert row.ceiling.volume_ratio == at_optimum["volume_ratio"]
        assert row.ceiling.dice_at_half == pytest.approx(at_half["dice_marginal"], abs=1e-12)
        assert row.ceiling.volume_ratio_at_half == at_half["volume_ratio"]


def test_progress_and_the_callers_threads(tubes: Dataset) -> None:
    seen: list[int] = []
    before = torch.get_num_threads()
    ceilings(tubes, [0.03], progress=seen.append)
    assert seen == [1, 2, 3, 4, 5]
    assert torch.get_num_threads() == before


def test_units_say_the_same_thing() -> None:
    label, spacing = a_label(16, 16, 16), (1.0, 1.5, 4.0)
    case = Case("a", label.astype(np.float32), label, spacing)
    data = Dataset("bar", [case])
    by_extent, by_voxel = (
        ceilings(data, [std], units=units)[0].ceiling
        for std, units in ((0.05, "extent"), (0.05 * 16, "voxel"))
    )
    assert by_extent == by_voxel
    (by_mm,) = ceilings(data, [2.0], units="mm")
    expected = ceilings_of(
        torch.from_numpy(label), [GaussianFieldNoise((2.0, 2.0 / 1.5, 0.5), units="voxel")]
    )
    assert by_mm.ceiling == expected[0]
    with pytest.raises(ValueError, match="units: expected"):
        ceilings(data, [2.0], units="inch")


def test_what_goes_wrong_in_a_case_comes_out(tubes: Dataset) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ceilings(tubes, [0.03], progress=interrupt)
    with pytest.raises(ValueError, match="std: expected"):
        ceilings(tubes, [-0.1])
