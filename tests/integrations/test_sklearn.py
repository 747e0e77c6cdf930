"""What the guide says of scikit-learn's tuned threshold, measured with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import marginseg

pytest.importorskip("sklearn")
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import TunedThresholdClassifierCV

Case = tuple[torch.Tensor, torch.Tensor]


class MapItself(ClassifierMixin, BaseEstimator):
    """A classifier of voxels whose only feature is the probability that a network gave."""

    def fit(self, X: Any, y: Any) -> MapItself:
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X: Any) -> Any:
        return np.concatenate([1 - X, X], 1)


def tuned(cases: list[Case]) -> float:
    """Return the threshold of the largest F1, which is Dice, of all voxels together."""
    X = torch.cat([m.flatten() for m, _ in cases]).numpy()[:, None]
    y = torch.cat([label.flatten() for _, label in cases]).numpy()
    classifier = FrozenEstimator(MapItself().fit(X, y))
    search = TunedThresholdClassifierCV(
        classifier, scoring="f1", thresholds=40, cv="prefit", refit=False
    )
    return float(search.fit(X, y).best_threshold_)


def mean_dice(cases: list[Case], threshold: float | None) -> float:
    """Return the mean Dice at one threshold, or at each case's t*."""
    scores = []
    for m, label in cases:
        t = marginseg.optimal_threshold(m) if threshold is None else threshold
        scores.append(float(marginseg.dice(marginseg.cut(m, t), label.bool())))
    return float(np.mean(scores))


def balls(radii: np.ndarray, seed: int) -> list[Case]:
    """Return balls under label noise: their exact marginals, and one label that was drawn."""
    axis = torch.arange(24.0) - 11.5
    distance = sum(part**2 for part in torch.meshgrid(axis, axis, axis, indexing="ij")).sqrt()
    noise = marginseg.GaussianFieldNoise(2.0, 8.0, "voxel")
    generator = torch.Generator().manual_seed(seed)
    labels = [(distance < radius).to(torch.uint8) for radius in radii]
    return [
        (noise.marginals(label), noise.sample(label, generator=generator)[0]) for label in labels
    ]


@pytest.mark.slow
def test_one_tuned_threshold_and_one_for_each_case():
    """The better, the more the cases differ; where they are alike, one does as well."""
    draws = np.random.default_rng(0)
    found = {}
    for name, smallest in (("alike", 7.5), ("different", 1.5)):
        cases = balls(draws.uniform(smallest, 8.5, size=120), seed=0)
        threshold = tuned(cases[:40])
        found[name] = [mean_dice(cases[40:], t) for t in (0.5, threshold, None)]
    half, single, each = found["alike"]
    assert single - half > 0.01
    assert abs(each - single) < 0.01
    half, single, each = found["different"]
    assert single - half > 0.02
    assert each - single > 0.015
