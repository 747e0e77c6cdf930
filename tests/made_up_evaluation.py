"""Evaluations of a made-up network, whose maps are smooth and promise too much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, softmax

from marginseg.classes import Classes
from marginseg.evaluation.case import Case, Label, Settings
from marginseg.evaluation.evaluate import Evaluation, evaluate

#: Names that must be taken for nothing else, whatever medium shows them.
NASTY = ("kidney_left", "<b>thin</b> [bold]$x$ & co")


def made_up_case(
    name: str,
    seed: int,
    *,
    classes: int,
    exclusive: bool = False,
    shape: tuple[int, ...] = (20, 18, 16),
    confidence: float = 3.0,
    own: bool = False,
    absent: Sequence[int] = (),
    spacing: tuple[float, ...] | None = None,
) -> Case:
    """Return a case whose label is drawn from blobs, and whose map is surer of them than they are.

    Args:
        name: The case's.
        seed: Of all that is drawn.
        classes: How many.
        exclusive: Whether a softmax with a background; else sigmoids.
        shape: Of the grid.
        confidence: By what the log-odds are multiplied: 1 is honest.
        own: Whether there is a segmentation beside the map, that is processed after.
        absent: Classes that the label lacks.
        spacing: The voxels' size.

    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    logits = np.empty((classes, *shape))
    for place in range(classes):
        centre = rng.uniform(-0.55, 0.55, len(shape))
        squared = (grid - centre.reshape(-1, *(1,) * len(shape))) ** 2
        distance = np.sqrt(squared.sum(0))
        bumps = ndimage.gaussian_filter(rng.standard_normal(shape), 2.0)
        logits[place] = 14 * (rng.uniform(0.3, 0.5) - distance) + 1.2 * bumps / bumps.std()
    logits -= 0.6
    drawn = ndimage.gaussian_filter(rng.standard_normal(logits.shape), (0,) + (1.5,) * len(shape))
    uniform = ndimage.gaussian_filter(rng.standard_normal(logits.shape), (0,) + (1.0,) * len(shape))
    uniform = (drawn + uniform) / (drawn + uniform).std()
    held = logits + 1.5 * uniform
    held[list(absent)] = -9.0
    # Surer than it may be, and shy of the border, as what was trained with soft-Dice mostly is.
    told = confidence * (logits - 0.5)
    if exclusive:
        nothing = np.zeros((1, *shape))
        maps = softmax(np.concatenate([nothing, told]), axis=0).astype(np.float32)
        label = np.concatenate([nothing, held]).argmax(0).astype(np.uint8)
    else:
        maps = expit(told).astype(np.float32)
        label = np.zeros(shape, np.int64)
        for place in range(classes):
            label |= (held[place] > 0).astype(np.int64) << place

    def segmentation() -> NDArray[Any] | None:
        if not own:
            return None
        if exclusive:
            found: NDArray[Any] = maps.argmax(0)
        else:
            found = ((maps > 0.5) << np.arange(classes).reshape(-1, *(1,) * len(shape))).sum(0)
        found[found > 0] *= rng.uniform(size=int((found > 0).sum())) > 0.05
        return found

    given = segmentation()
    held_by = made_up_classes([f"class {n}" for n in range(classes)], exclusive=exclusive)
    return Case(name, lambda: maps, lambda: Label.of(label, held_by), lambda: given, spacing)


def made_up_classes(names: Sequence[str], *, exclusive: bool = False) -> Classes:
    """Return the classes of made-up cases; those that overlap are the bits of a label."""
    if exclusive:
        return Classes.softmax(names)
    values = {
        name: tuple(n for n in range(1, 1 << len(names)) if n >> place & 1)
        for place, name in enumerate(names)
    }
    return Classes.regions(values)


def made_up_evaluation(
    cases: int = 7,
    names: Sequence[str] = NASTY,
    settings: Settings | None = None,
    *,
    case_name: str = "case_{}",
    **of_case: Any,
) -> Evaluation:
    """Return what is found on so many cases."""
    exclusive = of_case.get("exclusive", False)
    found = [
        made_up_case(case_name.format(n), n, classes=len(names), **of_case) for n in range(cases)
    ]
    return evaluate(found, made_up_classes(names, exclusive=exclusive), settings, workers=1)
