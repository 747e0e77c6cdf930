"""A study's folder as runs leave it, with made-up scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.evaluation import METHODS

STRUCTURES = ("kidney", "thin <tube> & co")
BINS = 15


def write_study(
    folder: Path,
    *,
    structures: Sequence[str] = STRUCTURES,
    std: Sequence[float] = (0.0, 0.06),
    cases: int = 7,
    folds: int = 2,
    repeats: int = 1,
    seed: int = 0,
) -> dict[Run, dict[str, Any]]:
    """Write a finished study; the runs of a fold have their cases in other orders."""
    rng = np.random.default_rng(seed)
    config = StudyConfig(
        data="decathlon",
        directory="/secret/place/Task00_None",
        structures=structures,
        std=std,
        folds=folds,
        repeats=repeats,
        features=(8, 16),
        patch_shape=(8, 8, 8),
        epochs=3,
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "environment.json").write_text(json.dumps({"marginseg": "1.2.3", "threads": 2}))
    sup = {(s, a, i): rng.uniform(0.8, 1) for s in structures for a in std for i in range(cases)}
    results = {}
    for run in config.runs():
        numbers = rng.permutation(np.arange(run.fold, cases, folds)).tolist()
        tested = []
        for number in numbers:
            promised = np.sort(rng.uniform(0, 100, BINS))
            case = {
                "name": f"case_{number}",
                "fold": run.fold,
                "methods": {method: _scores(rng) for method in METHODS[run.loss]},
                "sup_dice": sup[run.structure, run.std, number],
                "calibration": {
                    "count": [100.0] * BINS,
                    "promised": promised.tolist(),
                    "held": (promised * rng.uniform(0.8, 1, BINS)).tolist(),
                },
            }
            tested.append(case)
        result = {
            "structure": run.structure,
            "std": run.std,
            "fold": run.fold,
            "loss": run.loss,
            "repeat": run.repeat,
            "seconds": 1.5,
            "epochs": [],
            "cases": tested,
        }
        place = folder / "runs" / config.folder_of(run)
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(result))
        labels = np.zeros((len(numbers), 9, 10), np.uint8)
        labels[:, 2:6, 3:7] = 1
        np.savez_compressed(
            place / "slices.npz",
            image=rng.normal(size=labels.shape).astype(np.float16),
            clean=labels,
            noisy=np.roll(labels, 1, axis=1),
            marginal=(0.8 * labels).astype(np.float16),
            probability=(0.3 * labels).astype(np.float16),
        )
        results[run] = result
    return results


def _scores(rng: np.random.Generator) -> dict[str, float]:
    return {
        "dice_noisy": rng.uniform(0, 0.8),
        "dice_clean": rng.uniform(0, 0.8),
        "dice_marginal": rng.uniform(0, 0.8),
        "volume_ratio": rng.uniform(0.5, 2),
        "threshold": rng.uniform(0, 0.5),
    }
