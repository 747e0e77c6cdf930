"""What the runs of a study left in its folder: scores of cases, and slices for pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.evaluation import CALIBRATION, METHODS, SCORES
from marginseg.study.folder import StudyFolder


class CaseScore(NamedTuple):
    """How one method did on one test case.

    Attributes:
        structure: What is segmented.
        std: Noise level a.
        repeat: Of the training.
        fold: That the case was tested in.
        name: The case's.
        method: ``"CE(0)"``, ``"CE(*)"``, ``"SD(0)"`` or ``"SD(*)"``.
        dice_noisy: Dice against the noisy label.
        dice_clean: Dice against the clean label.
        dice_marginal: Dice against the marginals.
        volume_ratio: |s|/|l| against the clean label.
        threshold: Where the map was cut.
        sup_dice: sup D of the marginals.
        calibration_error: Of the map, against the marginals.

    """

    structure: str
    std: float
    repeat: int
    fold: int
    name: str
    method: str
    dice_noisy: float
    dice_clean: float
    dice_marginal: float
    volume_ratio: float
    threshold: float
    sup_dice: float
    calibration_error: float


@dataclass(frozen=True)
class Results:
    """The finished runs of a study.

    Attributes:
        folder: The study's.
        config: Its settings.
        finished: The runs that have a result, in the grid's order.
        expected: Runs that the study has.
        unreadable: Run folders whose result is damaged.

    """

    folder: StudyFolder
    config: StudyConfig
    finished: Mapping[Run, Mapping[str, Any]]
    expected: int
    unreadable: tuple[str, ...]

    @property
    def scores(self) -> Iterator[CaseScore]:
        """Every method's score of every test case, in the grid's order."""
        for run, result in self.finished.items():
            for case in result["cases"]:
                error = _calibration_error(case["calibration"])
                for method in METHODS[run.loss]:
                    scores = case["methods"][method]
                    yield CaseScore(
                        structure=run.structure,
                        std=run.std,
                        repeat=run.repeat,
                        fold=run.fold,
                        name=str(case["name"]),
                        method=method,
                        sup_dice=float(case["sup_dice"]),
                        calibration_error=error,
                        **{name: float(scores[name]) for name in SCORES},
                    )

    def slices(self, run: Run) -> dict[str, NDArray[Any]] | None:
        """Return the planes of a run's test cases, in the order of its cases.

        Returns:
            ``image``, ``clean``, ``noisy``, ``marginal`` and ``probability``, each (cases,
            *plane); None where they are missing or damaged.

        """
        cases = len(self.finished[run]["cases"])
        return self.folder.run(self.config, run).read_slices(cases)


def read_results(output_dir: str | os.PathLike[str]) -> Results:
    """Read what is there of a study.

    Only the folders of the runs that ``config.json`` names count: a folder may hold runs of an
    earlier study.

    Args:
        output_dir: A study's folder.

    Raises:
        ValueError: The folder holds no study.

    """
    folder = StudyFolder(Path(output_dir))
    config = folder.config()
    without = folder.structures_without_cases()
    runs = [run for run in config.runs() if run.structure not in without]
    finished: dict[Run, Mapping[str, Any]] = {}
    unreadable = []
    for run in runs:
        run_folder = folder.run(config, run)
        result = run_folder.read_result(run)
        if result is not None:
            finished[run] = result
        elif run_folder.has_result:
            unreadable.append(run.id)
    return Results(folder, config, finished, len(runs), tuple(unreadable))


def _calibration_error(calibration: Mapping[str, Any]) -> float:
    """Return the expected calibration error of one map from its curve."""
    count, promised, held = (
        np.asarray(calibration[name], dtype=np.float64) for name in CALIBRATION
    )
    return float(np.abs(promised - held).sum() / max(1.0, count.sum()))
