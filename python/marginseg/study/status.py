"""How far a study is, told from its folder alone: while it runs, or after it was killed."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from marginseg.files.locks import is_locked
from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.run import ERROR_LOG, finished_result, read_epochs

#: What the study names as skipped where a structure has no case at all.
ALL_CASES = "all cases"

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
        >>> from marginseg.study.grid import write_json
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder) / "config.json", StudyConfig(structures=["tube"]).to_dict())
        ...     status = study_status(folder)
        >>> status.count("waiting"), status.working, status.seconds_left
        (40, False, None)

    """
    output = Path(output_dir)
    if not output.is_dir():
        raise ValueError(f"{output}: no such folder")
    settings = output / "config.json"
    if not settings.exists():
        raise ValueError(f"{output}: holds no study (config.json is missing)")
    config = _config(settings)
    environment = _json(output / "environment.json")
    workers = environment.get("workers") if isinstance(environment, dict) else None
    workers = workers if isinstance(workers, int) and workers > 0 else 1
    failures = _failures(output)
    empty = _structures_without_cases(output)
    runs = [
        _run_status(output / "runs" / config.folder_of(run), config, run, failures)
        for run in config.runs()
        if run.structure not in empty
    ]
    working = is_locked(output)
    return StudyStatus(
        output,
        config,
        runs,
        working,
        preparing=not (output / "runs.jsonl").exists(),
        workers=workers,
        seconds=sum(run.seconds for run in runs),
        seconds_left=_seconds_left(runs, config.epochs, workers),
    )


def _run_status(folder: Path, config: StudyConfig, run: Run, failures: dict[str, str]) -> RunStatus:
    result = finished_result(folder, config, run)
    epochs = read_epochs(folder)
    facts: dict[str, Any] = {"epochs": min(len(epochs), config.epochs)}
    if epochs:
        facts["loss"] = epochs[-1].loss
        facts["epoch_seconds"] = fmean(epoch.seconds for epoch in epochs[-RECENT:])
        facts["seconds"] = sum(epoch.seconds for epoch in epochs)
    if result is not None:
        facts |= {"epochs": config.epochs, "seconds": float(result.get("seconds", 0.0))}
        return RunStatus(run, "done", **facts)
    if is_locked(folder):
        return RunStatus(run, "running", **facts)
    log = folder / ERROR_LOG
    error = failures.get(folder.name, "") or _last_line(log)
    if error:
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


def _config(path: Path) -> StudyConfig:
    settings = _json(path)
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: cannot be read; the study's command writes it anew")
    try:
        return StudyConfig.from_dict(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _failures(output: Path) -> dict[str, str]:
    """Return the error of every run that the study has recorded as failed, by its folder's name."""
    entries = _json(output / "failed.json")
    return {
        str(entry.get("folder")): str(entry.get("error"))
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
    }


def _structures_without_cases(output: Path) -> set[str]:
    entries = _json(output / "skipped.json")
    return {
        str(entry.get("structure"))
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and entry.get("name") == ALL_CASES
    }


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
