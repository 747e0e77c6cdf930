"""Which devices, in which precision, trained the networks of a study."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from marginseg.report.covered import place
from marginseg.report.results import Results
from marginseg.study.run_folder import trained_on
from marginseg.training.device import UNKNOWN, TrainedOn

#: What computed a training, one after the other: it may have gone on elsewhere.
Computed = tuple[TrainedOn, ...]


def devices(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Count the trainings by device and precision, and find where a cell has more than one.

    Networks that another device, or another precision, trained are not quite alike: a difference of
    two methods may then be one of two machines.

    Returns:
        ``trained_on``, the counts of the whole study, and ``mixed``: for each structure and noise
        level whose networks were not all trained on the same ``place`` and ``trained_on``. A count
        is ``devices``, a list of ``device`` and ``precision``, and ``trainings``.

    """
    of_study: Counter[Computed] = Counter()
    of_cells: dict[tuple[str, float], Counter[Computed]] = defaultdict(Counter)
    for run, result in results.finished.items():
        computed = trained_on(result)
        of_study[computed] += 1
        of_cells[run.structure, run.std][computed] += 1
    return {
        "trained_on": _counted(of_study),
        "mixed": [
            {"place": place(*cell), "trained_on": _counted(counter)}
            for cell, counter in of_cells.items()
            if len(counter) > 1
        ],
    }


def named(computed: list[Mapping[str, str]]) -> str:
    """Return what computed a training in words.

    Example:
        >>> named([{"device": "cpu", "precision": "float32"}])
        'cpu in float32'
        >>> named([{"device": "unknown", "precision": "unknown"}])
        'unknown device'

    """
    return ", then ".join(
        "unknown device" if one["device"] == UNKNOWN else f"{one['device']} in {one['precision']}"
        for one in computed
    )


def _counted(counter: Counter[Computed]) -> list[dict[str, Any]]:
    return [
        {"devices": [asdict(one) for one in computed], "trainings": trainings}
        for computed, trainings in counter.most_common()
    ]
