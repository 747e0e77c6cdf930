"""Maps whose true probabilities are known, and networks that distort them in a known way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit

from marginseg.evaluation.case import Case, Label

Distortion = Callable[[np.ndarray], np.ndarray]


def truth(seed: int, size: int = 24, classes: int = 2) -> np.ndarray:
    """Blurred balls, (classes, size, size, size): the probability of each voxel of each class."""
    random = np.random.default_rng(seed)
    grid = np.indices((size,) * 3) / size
    maps = []
    for _ in range(classes):
        centre = random.uniform(0.3, 0.7, (3, 1, 1, 1))
        radius, blur = random.uniform(0.1, 0.2), random.uniform(0.03, 0.06)
        distance = np.sqrt(((grid - centre) ** 2).sum(0))
        maps.append(random.uniform(0.6, 0.95) * expit((radius - distance) / blur))
    return np.stack(maps)


def drawn(seed: int, probabilities: np.ndarray) -> np.ndarray:
    """A label of each class that the probabilities are right about."""
    return np.random.default_rng([seed, 1]).uniform(size=probabilities.shape) < probabilities


def temperature(t: float) -> Distortion:
    return lambda m: expit(logit(m) / t)


def shifted(by: float) -> Distortion:
    return lambda m: expit(logit(m) + by)


def one_class_alone(distort: Distortion) -> Distortion:
    return lambda m: np.concatenate([distort(m[:1]), m[1:]])


def case(seed: int, distort: Distortion, *, size: int = 24, classes: int = 2) -> Case:
    """A case of a network that distorts the truth."""

    def probabilities() -> np.ndarray:
        return distort(truth(seed, size, classes)).astype(np.float32)

    def label() -> Label:
        return Label(drawn(seed, truth(seed, size, classes)))

    return Case(f"case_{seed}", probabilities, label)
