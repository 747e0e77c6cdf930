"""What a predicted map is judged by, and the noisy label that it is judged against."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from marginseg import GaussianFieldNoise
from marginseg.study.evaluation import METHODS, evaluate, is_whole_score, noisy_label
from marginseg.training.state import LOSSES


def test_noisy_label_depends_on_case_structure_level_and_seed_only() -> None:
    label = torch.zeros(16, 16, 16, dtype=torch.uint8)
    label[4:12, 4:12, 4:12] = 1

    def draw(std: float = 0.06, seed: int = 0, structure: str = "a", name: str = "x") -> Tensor:
        noise = GaussianFieldNoise(std)
        return noisy_label(label, noise, seed=seed, structure=structure, name=name)

    assert torch.equal(draw(), draw())
    assert draw().dtype == torch.uint8
    others = [draw(std=0.05), draw(seed=1), draw(structure="b"), draw(name="y")]
    assert all(not torch.equal(draw(), other) for other in others)
    assert torch.equal(draw(std=0.0), label)


def test_the_noise_of_one_level_is_not_that_of_another_scaled() -> None:
    """Two levels that are all but the same deform a label in ways that have nothing in common."""
    label = torch.zeros(32, 32, dtype=torch.uint8)
    label[:, :16] = 1
    borders = torch.stack(
        [
            noisy_label(
                label, GaussianFieldNoise(std), seed=0, structure="half", name=str(case)
            ).sum(dim=1, dtype=torch.float64)
            for std in (0.1, 0.1 + 1e-12)
            for case in range(200)
        ]
    )
    # Where the border lies in a row: 200 pairs of independent numbers.
    correlation = torch.corrcoef(borders[:, 16].reshape(2, 200))[0, 1]
    assert abs(float(correlation)) < 5 / 200**0.5


def test_each_repeat_has_noisy_labels_of_its_own() -> None:
    label = torch.zeros(16, 16, dtype=torch.uint8)
    label[4:12, 4:12] = 1
    noise = GaussianFieldNoise(0.1)
    given = [
        noisy_label(label, noise, seed=0, structure="square", name="a", repeat=repeat)
        for repeat in (0, 1, 2, 1)
    ]
    assert torch.equal(given[1], given[3])
    assert not any(torch.equal(given[i], given[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("loss", LOSSES)
def test_evaluation_against_brute_force(loss: str) -> None:
    rng = np.random.default_rng(0)
    p = rng.random(60).astype(np.float32)
    clean, noisy = rng.random((2, 60)) < 0.4
    marginal = rng.random(60)
    found = evaluate(
        torch.from_numpy(p),
        loss,
        clean=torch.from_numpy(clean),
        noisy=torch.from_numpy(noisy),
        marginal=torch.from_numpy(marginal),
    )

    def dice(s: np.ndarray, m: np.ndarray) -> float:
        return float(2 * (s * m).sum() / (s.sum() + m.sum()))

    def best(m: np.ndarray) -> float:
        return max(dice(m >= cut, m) for cut in m)

    wide = p.astype(np.float64)
    at_half, at_optimum = METHODS[loss]
    for method, threshold in ((at_half, 0.5), (at_optimum, best(wide) / 2)):
        s = wide >= threshold
        scores = found["methods"][method]
        assert scores["threshold"] == pytest.approx(threshold, abs=1e-12)
        assert scores["dice_noisy"] == pytest.approx(dice(s, noisy), abs=1e-12)
        assert scores["dice_clean"] == pytest.approx(dice(s, clean), abs=1e-12)
        assert scores["dice_marginal"] == pytest.approx(dice(s, marginal), abs=1e-12)
        assert scores["volume_ratio"] == pytest.approx(s.sum() / clean.sum(), abs=1e-12)
    places = np.minimum((wide * 15).astype(int), 14)
    for field, weights in (("count", np.ones(60)), ("promised", wide), ("held", marginal)):
        expected = [weights[places == place].sum() for place in range(15)]
        assert found["calibration"][field] == pytest.approx(expected, abs=1e-12)
    assert found["sup_dice"] == pytest.approx(best(marginal), abs=1e-12)


def test_a_whole_score_has_all_that_was_said() -> None:
    label = torch.tensor([1, 0, 1])
    found = evaluate(torch.rand(3), "soft_dice", clean=label, noisy=label, marginal=label.double())
    case = {"name": "a", **found}
    assert is_whole_score(case, "soft_dice")
    assert not is_whole_score(case, "cross_entropy")
    assert not is_whole_score(found, "soft_dice")
    assert not is_whole_score({**case, "sup_dice": None}, "soft_dice")
    assert not is_whole_score({**case, "calibration": {}}, "soft_dice")
    assert not is_whole_score([1], "soft_dice")  # type: ignore[arg-type]
