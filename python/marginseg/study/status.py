"""How far a study is, told from its folder alone: while it runs, or after it was killed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.folder import StudyFolder
from marginseg.study.run_folder import RunFolder

#: Epochs that the speed is taken from.
RECENT = 5


@dataclass(frozen=True)
class RunStatus:
    """How far one run is.

    Attributes:
        run: Which one.
        state: ``"done"``, ``"running"``, ``"failed"``, or ``"waiting"``; one that was stopped
            waits, too.
        epochs: That are done.
        loss: Of the last one; None before it.
        epoch_seconds: That the last epochs took, on average; None before the first.
        seconds: Spent on it so far.
        error: One line, where it failed.
        log: The file with the traceback, where there is one.

    """

    run: Run
    state: str
    epochs: int = 0
    loss: float | None = None
    epoch_seconds: float | None = None
    seconds: float = 0.0
    error: str = ""
    log: Path | None = None


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is.

    Attributes:
        output_dir: Its folder.
        config: Its settings.
        runs: Of every run, in the grid's order; of structures without a case there are none.
        working: Whether a process works there at the moment.
        preparing: Whether it has yet to prepare the cases.
        workers: Runs at the same time.
        seconds: Of computation so far, of all runs together.
        seconds_left: Until the runs are done that neither are nor have failed, with these workers;
            None where no epoch has been timed yet.

    """

    output_dir: Path
    config: StudyConfig
    runs: list[RunStatus] = field(default_factory=list)
    working: bool = False
    preparing: bool = False
    workers: int = 1
    seconds: float = 0.0
    seconds_left: float | None = None

    def count(self, state: str) -> int:
        """Return the number of runs in a state."""
        return sum(run.state == state for run in self.runs)


def study_status(output_dir: str | os.PathLike[str]) -> StudyStatus:
    """Say what a study has done so far.

    It reads the folder and changes nothing, so it works from any process or machine that sees it,
    and whatever a killed study left. A run counts as running while a process holds the lock of its
    folder, or, where another machine's locks are not seen, has renewed its time within a minute.

    Args:
        output_dir: A study's folder.

    Raises:
        ValueError: It is none, or its settings cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as path:
        ...     StudyFolder(Path(path)).write_config(StudyConfig(structures=["tube"]))
        ...     status = study_status(path)
        >>> status.count("waiting"), status.working, status.seconds_left
        (40, False, None)

    """
    folder = StudyFolder(Path(output_dir))
    config = folder.config()
    workers = folder.read_environment().get("workers")
    workers = workers if isinstance(workers, int) and workers > 0 else 1
    errors = {failure.folder: failure.error for failure in folder.read_failed()}
    empty = folder.structures_without_cases()
    runs = [
        _run_status(folder.run(config, run), config, run, errors)
        for run in config.runs()
        if run.structure not in empty
    ]
    return StudyStatus(
        folder.path,
        config,
        runs,
        folder.is_locked,
        preparing=not folder.is_prepared,
        workers=workers,
        seconds=sum(run.seconds for run in runs),
        seconds_left=_seconds_left(runs, config.epochs, workers),
    )


def _run_status(
    folder: RunFolder, config: StudyConfig, run: Run, errors: dict[str, str]
) -> RunStatus:
    result = folder.finished_result(config, run)
    epochs = folder.read_epochs()
    facts: dict[str, Any] = {"epochs": min(len(epochs), config.epochs)}
    if epochs:
        facts["loss"] = epochs[-1].loss
        facts["epoch_seconds"] = fmean(epoch.seconds for epoch in epochs[-RECENT:])
        facts["seconds"] = sum(epoch.seconds for epoch in epochs)
    if result is not None:
        facts |= {"epochs": config.epochs, "seconds": float(result["seconds"])}
        return RunStatus(run, "done", **facts)
    if folder.is_locked:
        return RunStatus(run, "running", **facts)
    error = errors.get(folder.path.name, "") or folder.last_error()
    if error:
        log = folder.error_log
        return RunStatus(run, "failed", **facts, error=error, log=log if log.exists() else None)
    return RunStatus(run, "waiting", **facts)


def _seconds_left(runs: Sequence[RunStatus], epochs: int, workers: int) -> float | None:
    """Share the epochs that are left among the workers; no run is done before its own epochs are.

    A run that has no epoch yet takes the time of its structure's others, or else of all others.
    """
    left = [run for run in runs if run.state in ("running", "waiting")]
    if not left:
        return 0.0
    known: dict[str, list[float]] = defaultdict(list)
    tests: list[float] = []
    for run in runs:
        if run.epoch_seconds is not None:
            known[run.run.structure].append(run.epoch_seconds)
        if run.state == "done" and run.epoch_seconds is not None:
            tests.append(max(0.0, run.seconds - run.epoch_seconds * epochs))
    if not known:
        return None
    everywhere = fmean(seconds for times in known.values() for seconds in times)
    test = fmean(tests) if tests else 0.0
    times = []
    for run in left:
        others = known.get(run.run.structure)
        epoch = run.epoch_seconds or (fmean(others) if others else everywhere)
        times.append((epochs - run.epochs) * epoch + test)
    return max(sum(times) / min(workers, len(times)), *times)
