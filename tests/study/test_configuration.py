"""The settings of a study, and the names of its runs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
import torch

from marginseg.data import folds
from marginseg.study import PRESETS, Run, StudyConfig
from marginseg.study.bounds import LARGEST_SEED, MOST_RUNS

TINY = StudyConfig(
    structures=("tube",),
    std=(0.0, 0.06),
    folds=2,
    patch_shape=(16, 16, 16),
    phantom_cases=4,
    features=(2, 4),
    epochs=2,
    learning_rate=1e-2,
    workers=1,
)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"std": (-0.1,)}, "std"),
        ({"std": (math.nan,)}, "std"),
        ({"std": (0.1, 0.1)}, "std"),
        ({"std": ()}, "std"),
        ({"data": "ct"}, "data"),
        ({"data": "decathlon"}, "directory"),
        ({"directory": "somewhere"}, "directory"),
        ({"structures": ("liver",)}, "structures"),
        ({"data": "decathlon", "directory": "x", "structures": ("a", " ")}, "structures"),
        ({"data": "totalsegmentator", "directory": "x", "structures": ()}, "structures"),
        ({"losses": ("dice",)}, "losses"),
        ({"folds": 1}, "folds"),
        ({"folds": 5}, "folds"),
        ({"max_cases": 1}, "folds"),
        ({"max_cases": 0}, "max_cases"),
        ({"largest_cut": -0.1}, "largest_cut"),
        ({"largest_cut": 1.1}, "largest_cut"),
        ({"largest_cut": math.nan}, "largest_cut"),
        ({"features": (8,)}, "features"),
        ({"features": (8, 0)}, "features"),
        ({"patch_shape": (16,)}, "patch_shape"),
        ({"patch_shape": (16, 15)}, "patch_shape"),
        ({"patch_shape": (16, 16), "spacing": (1.0, 1.0, 1.0)}, "spacing"),
        ({"patch_shape": (16, 16, 15)}, "patch_shape"),
        ({"spacing": (1.0, -1.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, 1.0)}, "spacing"),
        ({"length_scale": 0.0}, "length_scale"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"plateau_factor": 1.0}, "plateau_factor"),
        ({"augmentation": 1.5}, "augmentation"),
        ({"precision": "half"}, "precision"),
        ({"epochs": 0}, "epochs"),
        ({"workers": 0}, "workers"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 2**64 - 1}, "seed"),
        ({"std": (1e308,)}, "std"),
        ({"std": (10**400,)}, "std"),
        ({"std": (1e3,)}, "std"),
        ({"length_scale": 1e-300}, "length_scale"),
        ({"learning_rate": 1e308}, "learning_rate"),
        ({"spacing": (1e-300,)}, "spacing"),
        ({"folds": 10**23}, "folds"),
        ({"data": "decathlon", "directory": "x", "structures": (), "folds": 10**23}, "folds"),
        ({"data": "decathlon", "directory": "x", "structures": (), "folds": 90_000}, "folds"),
        ({"max_cases": 10**23}, "max_cases"),
        ({"epochs": 10**400}, "epochs"),
        ({"workers": 10**23}, "workers"),
        ({"patch_shape": (100_000, 100_000, 100_000)}, "patch_shape"),
        ({"patch_shape": (2, 2, 10**400)}, "patch_shape"),
        ({"features": (2,) * 100_000}, "features"),
        ({"features": (2, 10**23)}, "features"),
    ],
)
def test_bad_settings_are_named_in_one_line(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: ") as error:
        dataclasses.replace(TINY, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings", [{"std": 0.1}, {"epochs": 1.5}, {"structures": "tube"}, {"seed": True}]
)
def test_wrong_types_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(settings))}: "):
        dataclasses.replace(TINY, **settings)


def test_all_generators_take_the_largest_seed() -> None:
    """NumPy's, and torch's with the seed of the last fold that a study can have."""
    config = dataclasses.replace(TINY, seed=LARGEST_SEED)
    last = Run("tube", 0.0, MOST_RUNS, "soft_dice")
    seed = config.training_settings(last).seed
    assert torch.Generator().manual_seed(seed).initial_seed() == LARGEST_SEED + MOST_RUNS
    torch.Generator().manual_seed(config.seed)
    assert len(folds(4, 2, config.seed)) == 2


@pytest.mark.parametrize("config", [TINY, *PRESETS.values()])
def test_json_round_trip(config: StudyConfig) -> None:
    assert StudyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_runs_folder_is_named_by_all_that_it_is() -> None:
    run = TINY.runs()[0]
    name = TINY.folder_of(run)
    same = [{"workers": 2}, {"std": (0.0,)}, {"structures": ("tube", "kidney")}]
    other = [{"epochs": 3}, {"seed": 1}, {"learning_rate": 2e-2}, {"phantom_cases": 5}]
    for changes in same:
        assert dataclasses.replace(TINY, **changes).folder_of(run) == name  # type: ignore[arg-type]
    names = {dataclasses.replace(TINY, **changes).folder_of(run) for changes in other}  # type: ignore[arg-type]
    assert len(names | {name}) == 5
    # Six digits of std are in the name; the hash has them all.
    assert TINY.folder_of(Run("tube", 0.1, 0, "soft_dice")) != TINY.folder_of(
        Run("tube", 0.1 + 1e-9, 0, "soft_dice")
    )


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ValueError, match="unknown batch"):
        StudyConfig.from_dict({"batch": 2})


def test_networks_are_trained_as_the_settings_say() -> None:
    """Every setting of the training is the study's own, but for the loss and the fold's seed."""
    config = dataclasses.replace(
        TINY,
        features=(3, 5),
        epochs=7,
        learning_rate=0.5,
        weight_decay=0.25,
        schedule="cosine",
        plateau_patience=11,
        plateau_factor=0.125,
        augmentation=0.75,
        precision="float32",
        seed=100,
    )
    for run in config.runs():
        settings = dataclasses.asdict(config.training_settings(run))
        assert (settings.pop("loss"), settings.pop("seed")) == (run.loss, 100 + run.fold)
        assert settings == {name: getattr(config, name) for name in settings}
        assert len(settings) == 9


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_repeat_of_a_fold_is_another_run() -> None:
    config = dataclasses.replace(TINY, repeats=3, seed=7)
    runs = config.runs()
    assert len(runs) == 3 * len(TINY.runs())
    assert len({config.folder_of(run) for run in runs}) == len(runs)
    # The losses of a fold share a seed, no others do: neither structures nor levels have their own.
    seeds = {(run.repeat, run.fold): config.training_settings(run).seed for run in runs}
    assert len(set(seeds.values())) == 3 * config.folds
    # On a CPU torch's generators know 32 bits of a seed.
    first = {int(torch.randint(2**62, (), generator=_generator(seed))) for seed in seeds.values()}
    assert len(first) == len(seeds)
    # What has been trained once stays when more repeats are asked for.
    once = dataclasses.replace(config, repeats=1)
    assert [config.folder_of(run) for run in runs if run.repeat == 0] == (
        [once.folder_of(run) for run in once.runs()]
    )
    with pytest.raises(ValueError, match="^repeats: expected at least 1"):
        dataclasses.replace(TINY, repeats=0)
    with pytest.raises(ValueError, match="^repeats: expected at most 100000 runs"):
        dataclasses.replace(TINY, repeats=100_000)
