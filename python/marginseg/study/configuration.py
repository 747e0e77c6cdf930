"""What a study is: its data, its noise, its networks, and the grid of runs that these make."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marginseg.data import (
    DATA_KINDS,
    PHANTOM_STRUCTURES,
    CaseProgress,
    Dataset,
    decathlon,
    phantom,
    structures_of,
    totalsegmentator,
)
from marginseg.files.names import as_file_name
from marginseg.noise import DEFAULT_LENGTH_SCALE
from marginseg.study.bounds import (
    LARGEST_SEED,
    MOST_CASES,
    MOST_CHANNELS,
    MOST_EPOCHS,
    MOST_LEVELS,
    MOST_RUNS,
    MOST_VOXELS,
    MOST_WORKERS,
    integer,
    listed,
    noise_level,
    number,
    one_of,
    sequence,
    strings,
)
from marginseg.training.device import DEVICES, PRECISIONS
from marginseg.training.state import LOSSES, SCHEDULES, TrainingSettings

#: Settings that say how runs are executed, and leave what they compute as it is.
EXECUTION_ONLY = frozenset({"device", "workers"})

#: Settings that say which runs there are; a run has its own value of each.
GRID = frozenset({"structures", "std", "losses", "repeats"})

#: Part of every run's name. Raise it when a run of the same settings would give other results.
RUN_FORMAT = 3


@dataclass(frozen=True)
class Run:
    """One network: trained on one fold of one structure, at one noise level, with one loss.

    A repeat has other initial weights, another order of the cases, and other noisy labels.
    """

    structure: str
    std: float
    fold: int
    loss: str
    repeat: int = 0

    @property
    def id(self) -> str:
        """What the run is called.

        Example:
            >>> Run("tube", 0.03, 1, "soft_dice").id
            'tube-std0.03-fold1-soft_dice'

        """
        name = f"{as_file_name(self.structure)}-std{self.std:g}-fold{self.fold}-{self.loss}"
        return f"{name}-repeat{self.repeat}" if self.repeat else name


@dataclass(frozen=True)
class StudyConfig:
    """Settings of a study. Sequences are kept as tuples, the directory as a string.

    Attributes:
        data: ``"phantom"``, ``"decathlon"`` or ``"totalsegmentator"``.
        directory: The data set's folder; phantoms have none.
        structures: What to segment; none named: all three phantoms, the union of a Decathlon
            task's labels. TotalSegmentator's have to be named.
        std: Noise levels a, fractions of the extent, >= 0.
        length_scale: b, a fraction of the extent, > 0.
        folds: Of the cross-validation, >= 2.
        losses: ``"cross_entropy"``, ``"soft_dice"``.
        repeats: How often each network is trained anew, with other initial weights, another order
            of the cases and other noisy labels; from two on, intervals know what that changes.
        patch_shape: Voxels of every case along two or three axes, each a multiple of
            2^(levels - 1). With two, a case is the plane across the last axis of its volume that
            holds most of the structure; of phantoms, the plane through the middle.
        spacing: Millimetres a voxel to resample to; None keeps each case's own.
        max_cases: Use the first so many cases; of phantoms: make so many.
        largest_cut: The share of a structure's voxels that may lie on the faces of the scan, at
            most 1; a case with more is left out, and so is one with hardly a voxel in its patch.
            None keeps them. Of no effect on phantoms.
        phantom_cases: Phantoms made where ``max_cases`` is None.
        features: Channels of the U-Net's levels.
        epochs: Passes over the training cases.
        learning_rate: Adam's, in the first epoch.
        weight_decay: L2 penalty.
        schedule: ``"plateau"`` or ``"cosine"``, of the learning rate.
        plateau_patience: Epochs without improvement before the learning rate falls.
        plateau_factor: By which it is then multiplied.
        augmentation: Probability of each of shift, rotation and smoothing.
        precision: ``"auto"`` (bfloat16 where the device computes in it), ``"bfloat16"``,
            ``"float32"``.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``.
        seed: Of folds, phantoms, label noise, initial weights, order and augmentation.
        workers: Runs trained at the same time: processes on a CPU, threads on a GPU; None chooses.

    Raises:
        TypeError: A setting is of the wrong type; the message names it.
        ValueError: A setting is out of its range; the message names it.

    Example:
        >>> config = StudyConfig(std=[0, 0.03], folds=2, structures=["tube"])
        >>> len(config.runs())
        8
        >>> StudyConfig.from_dict(config.to_dict()) == config
        True

    """

    data: str = "phantom"
    directory: str | None = None
    structures: Sequence[str] = ()
    std: Sequence[float] = (0.0, 0.02, 0.04, 0.06)
    length_scale: float = DEFAULT_LENGTH_SCALE
    folds: int = 5
    losses: Sequence[str] = LOSSES
    repeats: int = 1
    patch_shape: Sequence[int] = (64, 64, 64)
    spacing: Sequence[float] | None = None
    max_cases: int | None = None
    largest_cut: float | None = None
    phantom_cases: int = 100
    features: Sequence[int] = (16, 32, 64, 128, 256)
    epochs: int = 100
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    schedule: str = "plateau"
    plateau_patience: int = 30
    plateau_factor: float = 0.2
    augmentation: float = 0.5
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.directory is not None:
            object.__setattr__(self, "directory", os.fspath(self.directory))
        for name in ("structures", "losses"):
            self._keep(name, strings(name, getattr(self, name)))
        self._keep("std", tuple(map(noise_level, sequence("std", self.std))))
        for name in ("patch_shape", "features"):
            values = sequence(name, getattr(self, name))
            most = MOST_VOXELS if name == "patch_shape" else MOST_CHANNELS
            self._keep(name, tuple(integer(name, value, 1, most) for value in values))
        if self.spacing is not None:
            values = sequence("spacing", self.spacing)
            self._keep("spacing", tuple(number("spacing", v, above=True) for v in values))
        for name in ("length_scale", "learning_rate", "plateau_factor"):
            self._keep(name, number(name, getattr(self, name), above=True))
        for name in ("weight_decay", "augmentation"):
            self._keep(name, number(name, getattr(self, name)))
        if self.largest_cut is not None:
            self._keep("largest_cut", number("largest_cut", self.largest_cut))
        for name, least, most in (
            ("folds", 2, MOST_RUNS),
            ("repeats", 1, MOST_RUNS),
            ("max_cases", 1, MOST_CASES),
            ("phantom_cases", 1, MOST_CASES),
            ("epochs", 1, MOST_EPOCHS),
            ("plateau_patience", 0, MOST_EPOCHS),
            ("seed", 0, LARGEST_SEED),
            ("workers", 1, MOST_WORKERS),
        ):
            value = getattr(self, name)
            if value is not None or name not in ("max_cases", "workers"):
                self._keep(name, integer(name, value, least, most))
        self._check()

    def _check(self) -> None:
        one_of("data", self.data, DATA_KINDS)
        one_of("precision", self.precision, PRECISIONS)
        one_of("device", self.device, DEVICES)
        one_of("schedule", self.schedule, SCHEDULES)
        for loss in self.losses:
            one_of("losses", loss, LOSSES)
        for name in ("structures", "losses", "std"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: expected each once, got {listed(values)}")
            if not values and name != "structures":
                raise ValueError(f"{name}: expected at least one, got none")
        if not all(name.strip() for name in self.structures):
            raise ValueError("structures: expected names, got one without a letter")
        if (self.directory is None) != (self.data == "phantom"):
            wanted = "none" if self.data == "phantom" else "the data set's folder"
            raise ValueError(
                f"directory: expected {wanted} for {self.data} data, got {self.directory}"
            )
        if self.data == "phantom":
            for structure in self.structures:
                one_of("structures", structure, PHANTOM_STRUCTURES)
        elif self.data == "totalsegmentator" and not self.structures:
            raise ValueError("structures: expected names of masks for totalsegmentator, got none")
        if len({f"{a:g}" for a in self.std}) != len(self.std):
            raise ValueError(f"std: expected 6 digits to tell them apart, got {listed(self.std)}")
        if self.plateau_factor >= 1:
            raise ValueError(f"plateau_factor: expected below 1, got {self.plateau_factor:g}")
        if self.augmentation > 1:
            raise ValueError(f"augmentation: expected a probability, got {self.augmentation:g}")
        if self.largest_cut is not None and self.largest_cut > 1:
            raise ValueError(f"largest_cut: expected a share, at most 1, got {self.largest_cut:g}")
        if not 2 <= len(self.features) <= MOST_LEVELS:
            levels = "two levels or more" if len(self.features) < 2 else f"{MOST_LEVELS} at most"
            raise ValueError(f"features: expected {levels}, got {listed(self.features[:99])}")
        axes = len(self.patch_shape)
        if axes not in (2, 3):
            raise ValueError(f"patch_shape: expected 2 or 3 sizes, got {listed(self.patch_shape)}")
        if self.spacing is not None and len(self.spacing) not in (1, axes):
            raise ValueError(f"spacing: expected 1 or {axes} numbers, got {listed(self.spacing)}")
        factor = 2 ** (len(self.features) - 1)
        sizes = self.patch_shape
        if any(size % factor for size in sizes) or all(size == factor for size in sizes):
            raise ValueError(
                f"patch_shape: expected multiples of {factor} for {len(self.features)} levels, "
                f"and more than {factor} somewhere, got {listed(sizes)}"
            )
        if math.prod(sizes) > MOST_VOXELS:
            raise ValueError(
                f"patch_shape: expected at most {MOST_VOXELS} voxels, got {listed(sizes)}"
            )
        networks = len(self.structures or "1") * len(self.std) * len(self.losses)
        for name, runs in (
            ("folds", networks * self.folds),
            ("repeats", networks * self.folds * self.repeats),
        ):
            if runs > MOST_RUNS:
                raise ValueError(f"{name}: expected at most {MOST_RUNS} runs in all, got {runs}")
        cases = self.number_of_phantoms
        if self.data == "phantom" and self.folds > cases:
            raise ValueError(f"folds: expected at most the {cases} cases, got {self.folds}")

    @property
    def number_of_phantoms(self) -> int:
        """How many phantoms of each structure are made."""
        return self.phantom_cases if self.max_cases is None else self.max_cases

    def resolved(self) -> StudyConfig:
        """Return it with the structures named and the directory absolute.

        Raises:
            ValueError: The directory holds no such data set, or not these structures.

        """
        directory = None if self.directory is None else os.path.abspath(self.directory)  # noqa: PTH100
        structures = tuple(self.structures)
        if self.data == "decathlon":
            known = [*structures_of(self.data, directory), "all"]
            structures = structures or ("all",)
            for structure in structures:
                one_of("structures", structure, known)
        elif self.data == "totalsegmentator":
            known = structures_of(self.data, directory)
            for structure in structures:
                one_of("structures", structure, known)
        elif not structures:
            structures = PHANTOM_STRUCTURES
        return dataclasses.replace(self, directory=directory, structures=structures)

    def dataset(
        self,
        structure: str,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        progress: CaseProgress | None = None,
    ) -> Dataset:
        """Return the prepared cases of a structure; those that the cache lacks are made.

        Args:
            structure: What to segment.
            cache_dir: Where prepared cases are kept; None is `marginseg.data.default_cache_dir`.
            progress: Called with each case in turn: how many were looked at, are usable, are
                wanted.

        Raises:
            ValueError: The data set is not as the settings say, or the cache cannot be written.
            EmptyDatasetError: No case can be used.

        """
        if self.data == "phantom":
            return phantom(
                structure,
                cases=self.number_of_phantoms,
                patch_shape=self.patch_shape,
                seed=self.seed,
                cache_dir=cache_dir,
                progress=progress,
            )
        source = decathlon if self.data == "decathlon" else totalsegmentator
        assert self.directory is not None
        return source(
            self.directory,
            structure,
            patch_shape=self.patch_shape,
            spacing=self.spacing,
            max_cases=self.max_cases,
            largest_cut=self.largest_cut,
            cache_dir=cache_dir,
            progress=progress,
        )

    def runs(self) -> list[Run]:
        """Return the grid: structure × std × repeat × fold × loss, in this order."""
        return [
            Run(structure, std, fold, loss, repeat)
            for structure in self.structures
            for std in self.std
            for repeat in range(self.repeats)
            for fold in range(self.folds)
            for loss in self.losses
        ]

    def training_settings(self, run: Run) -> TrainingSettings:
        """Return how a run's network is trained.

        The folds have seeds of their own, and so have the repeats. The losses of a fold share one:
        their networks begin with the same weights, and see the cases in the same order.

        Seeds of further repeats are hashed, and of 32 bits: torch's generators on CPUs give the
        same numbers for two seeds that differ in higher ones alone.

        Example:
            >>> config = StudyConfig(epochs=7, seed=10)
            >>> settings = config.training_settings(Run("tube", 0.03, 2, "soft_dice"))
            >>> settings.loss, settings.epochs, settings.seed
            ('soft_dice', 7, 12)

        """
        shared = {field.name for field in dataclasses.fields(TrainingSettings)} - {"loss", "seed"}
        settings = {name: getattr(self, name) for name in shared}
        seed = self.seed + run.fold
        if run.repeat:
            named = json.dumps([self.seed, run.fold, run.repeat])
            seed = int.from_bytes(hashlib.sha256(named.encode()).digest()[:4])
        return TrainingSettings(loss=run.loss, seed=seed, **settings)

    def folder_of(self, run: Run) -> str:
        """Return the name of a run's folder: what it is called, and a hash of all that it is.

        Runs of different settings never meet in one folder, and a run that is the same in two
        studies has the same name in both.

        Example:
            >>> config = StudyConfig(structures=["tube"])
            >>> name = config.folder_of(config.runs()[0])
            >>> name[:-8], len(name[-8:])
            ('tube-std0-fold0-cross_entropy-', 8)

        """
        settings = {k: v for k, v in self.to_dict().items() if k not in EXECUTION_ONLY | GRID}
        facts = {"format": RUN_FORMAT, "run": dataclasses.asdict(run), "settings": settings}
        if run.repeat:
            facts["seed"] = self.training_settings(run).seed
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"{run.id}-{digest[:8]}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> StudyConfig:
        """Build it from what :meth:`to_dict` gave.

        Raises:
            ValueError: There is no such setting; or as for the constructor.

        """
        unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"settings: unknown {', '.join(unknown)}")
        return cls(**settings)

    def differences(self, other: StudyConfig) -> list[str]:
        """Return the names of the settings that change results and are not the same in both."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in EXECUTION_ONLY
            and getattr(self, field.name) != getattr(other, field.name)
        ]

    def _keep(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
