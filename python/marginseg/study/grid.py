"""A study: the grid of runs, from the settings to what became of every run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from marginseg.data import Dataset, EmptyDatasetError, folds
from marginseg.study.configuration import GRID, Run, StudyConfig
from marginseg.study.environment import environment, noise_statistics
from marginseg.study.executors import local_executor
from marginseg.study.folder import ALL_CASES, RecordedFailure, SkippedCase, StudyFolder
from marginseg.study.run_folder import RunFolder
from marginseg.study.task import Executor, Outcome, Task, failure
from marginseg.training.state import Epoch

#: Seconds that a study waits for another process to leave its folder. Whoever asks for a study's
#: status holds the lock for a moment.
PATIENCE = 0.5


@dataclass(frozen=True)
class Progress:
    """What a study tells while it works.

    Attributes:
        kind: ``"preparing"`` (a structure's cases), ``"prepared"`` (all), then for each run
            ``"started"``, ``"epoch"``, ``"lost"`` (its process ended; it goes on in another),
            and ``"finished"`` or ``"failed"``.
        done: Runs that need no more work, failed ones among them.
        total: Runs of the study.
        work: Epochs done, of all runs.
        total_work: Epochs of all runs.
        structure: Whose cases are prepared.
        cases: How many of its cases are ready.
        wanted: How many there can be at most.
        run: Which one.
        epoch: What it gave, for ``"epoch"``.
        epochs: How many the run has.
        error: One line, for ``"lost"`` and ``"failed"``.

    """

    kind: str
    done: int
    total: int
    work: int
    total_work: int
    structure: str = ""
    cases: int = 0
    wanted: int = 0
    run: Run | None = None
    epoch: Epoch | None = None
    epochs: int = 0
    error: str = ""


class FailedRun(NamedTuple):
    """A run that failed; the same command tries it again.

    Attributes:
        run: Its id.
        error: One line.
        log: The file with the traceback; None where it could not be written.

    """

    run: str
    error: str
    log: Path | None


@dataclass(frozen=True)
class StudyResult:
    """What became of a study.

    Attributes:
        output_dir: The folder.
        config: The settings, structures named.
        runs: Results of the runs that are finished, as in ``runs.jsonl``, in the grid's order.
        skipped: ``(structure, case, reason)`` of cases that could not be used.
        failed: The runs that failed.

    """

    output_dir: Path
    config: StudyConfig
    runs: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[SkippedCase] = field(default_factory=list)
    failed: list[FailedRun] = field(default_factory=list)


def run_study(
    config: StudyConfig,
    output_dir: str | os.PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
) -> StudyResult:
    """Execute all runs of a study, or those that are missing in its folder.

    What the folder gets is told by :mod:`marginseg.study.folder`. A study that was killed goes on
    where it was, runs from their last epoch; on the CPU the results have the same bits as
    uninterrupted ones. A run that fails does not stop the others: its traceback is in its folder,
    and the next time it is tried again. So goes on a study that grows: with further structures,
    noise levels, losses or repeats it trains only what it has not.

    With several workers, a script has to start it under ``if __name__ == "__main__":``, as for
    every process that Python spawns.

    Args:
        config: The settings.
        output_dir: Made if it is new.
        progress: Called with everything that happens, in this process.
        cache_dir: For the prepared cases; None: in the output folder.
        executor: Who executes the runs; None: this machine, ``config.workers`` at a time. See
            :class:`marginseg.study.executors.RayExecutor` for a cluster.

    Raises:
        ValueError: The folder holds a study with other settings (they are named) that has trained
            an epoch, or another process works in it; there are more folds than cases; the data set
            is not as the settings say.
        EmptyDatasetError: Of no structure a case can be used.
        OSError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> config = StudyConfig(
        ...     structures=["tube"], std=[0.03], losses=["soft_dice"], folds=2, phantom_cases=2,
        ...     patch_shape=(8, 8, 8), features=(2, 4), epochs=1, workers=1,
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = run_study(config, folder)
        >>> len(result.runs), result.failed
        (2, [])

    """
    config = config.resolved()
    output = Path(output_dir)
    # Other processes, and other machines, have working folders of their own to start from.
    folder = StudyFolder(output.absolute())
    _check_same_study(config, folder)
    if executor is None:
        executor = local_executor(config)
    cache = folder.cache if cache_dir is None else Path(cache_dir).absolute()
    # What was made for a study that cannot begin is taken back, but for a cache that the caller
    # named: others use it too.
    made = [folder.path, folder.lock, *([folder.cache] if cache_dir is None else [])]
    new = [path for path in made if not path.exists()]
    folder.path.mkdir(parents=True, exist_ok=True)
    study = _Study(config, folder, cache, progress or (lambda _: None), executor)
    try:
        with folder.locked(patience=PATIENCE):
            # Whoever left the folder meanwhile may have trained something.
            _check_same_study(config, folder)
            study.execute()
    except ValueError:
        if not folder.has_begun:
            _take_back(new)
        raise
    return study.result(output)


class _Study:
    """One call of :func:`run_study`: what it knows and has done so far.

    The steps are those of :meth:`execute`: prepare the cases, plan what is left to do, let the
    executor do it, and record what becomes of each run.
    """

    def __init__(
        self,
        config: StudyConfig,
        folder: StudyFolder,
        cache: Path,
        notify: Callable[[Progress], None],
        executor: Executor,
    ) -> None:
        self.config, self.folder, self.cache = config, folder, cache
        self.notify, self.executor = notify, executor
        #: The runs in the grid's order. When it is known which structures have no case, theirs are
        #: taken out.
        self.runs = config.runs()
        self.datasets: dict[str, Dataset] = {}
        self.skipped: list[SkippedCase] = []
        self.epochs: dict[Run, int] = {}
        self.finished: dict[Run, dict[str, Any]] = {}
        self.failed: dict[Run, Outcome] = {}

    def execute(self) -> None:
        """Do all that is left to do."""
        runs = len(self.runs)
        with self.executor:
            # An executor that cannot do this study says so here, before hours of preparation.
            facts = self.executor.facts(runs)
            self.prepare()
            tasks = self.plan()
            self.folder.write_environment(environment(self.config) | facts)
            self.folder.write_noise(noise_statistics(self.config, self.datasets))
            self.record()
            self.tell("prepared")
            self.executor(tasks, self.report, runs=runs)
        self.record()

    def prepare(self) -> None:
        """Make the cases of every structure ready; the study has begun if that succeeds."""
        begins = not self.folder.has_begun
        if not self.folder.has_epochs:
            self.folder.remove_records()
        # The settings are written first: who asks for the study's status learns what is prepared.
        self.folder.write_config(self.config)
        try:
            self.load_datasets()
        except ValueError:
            if begins:
                self.folder.remove_config()
            raise
        self.folder.write_skipped(self.skipped)
        self.runs = [run for run in self.runs if run.structure in self.datasets]

    def load_datasets(self) -> None:
        """Find the data set of every structure that has one, and the cases left out."""
        empty: list[str] = []
        for structure in self.config.structures:
            self.tell("preparing", structure=structure)

            def progress(_: int, usable: int, wanted: int, structure: str = structure) -> None:
                self.tell("preparing", structure=structure, cases=usable, wanted=wanted)

            try:
                dataset = self.config.dataset(structure, cache_dir=self.cache, progress=progress)
            except EmptyDatasetError as error:
                empty.append(str(error))
                self.skipped.append(SkippedCase(structure, ALL_CASES, str(error)))
            else:
                self.datasets[structure] = dataset
                self.skipped += [SkippedCase(structure, *why) for why in dataset.skipped]
        if not self.datasets:
            raise EmptyDatasetError("; ".join(empty))
        for structure, dataset in self.datasets.items():
            if self.config.folds > len(dataset):
                problem = (
                    f"folds: expected at most the number of cases, got {self.config.folds} for the "
                    f"{len(dataset)} of structure {structure!r}"
                )
                raise ValueError("; ".join([problem, *empty]))

    def plan(self) -> list[Task]:
        """Return the runs that are left to do; what is finished is taken from the folder."""
        splits = {
            structure: folds(len(dataset), self.config.folds, self.config.seed)
            for structure, dataset in self.datasets.items()
        }
        tasks = []
        for run in self.runs:
            folder = self.folder_of(run)
            result = folder.finished_result(self.config, run)
            if result is not None:
                self.finish(run, result)
                # A process that was killed after its last file leaves its checkpoint.
                with suppress(OSError):
                    folder.checkpoint.unlink()
                continue
            with suppress(OSError):
                folder.error_log.unlink()
            train, test = splits[run.structure][run.fold]
            numbers = tuple(map(int, train)), tuple(map(int, test))
            tasks.append(Task(run, self.config, self.datasets[run.structure], *numbers, folder))
        return tasks

    def report(self, outcome: Outcome) -> None:
        """Take note of what an executor says of a run, and pass it on."""
        run = outcome.run
        if outcome.epoch is not None:
            self.epochs[run] = outcome.epoch.epoch
        if outcome.kind == "finished":
            folder = self.folder_of(run)
            result = folder.finished_result(self.config, run)
            if result is not None:
                self.finish(run, result)
            else:
                message = f"{folder.path}: no result is there; do all machines share the folder?"
                outcome = failure(run, folder, message, message)
        if outcome.kind == "failed":
            self.failed[run] = outcome
            self.epochs[run] = self.config.epochs
        if outcome.kind in ("finished", "failed"):
            # On a full disk the runs that have to write fail, one by one. The study goes on, and
            # fails itself where it records its end.
            with suppress(OSError):
                self.record()
        self.tell(outcome.kind, run=run, epoch=outcome.epoch, error=outcome.error)

    def finish(self, run: Run, result: dict[str, Any]) -> None:
        """Count a run as done."""
        self.finished[run] = result
        self.epochs[run] = self.config.epochs

    def record(self) -> None:
        """Write what is finished and what has failed, in the grid's order."""
        self.folder.write_finished(self.finished[run] for run in self.runs if run in self.finished)
        self.folder.write_failed(
            RecordedFailure(
                run.id,
                self.config.folder_of(run),
                self.failed[run].error,
                self.failed[run].details,
            )
            for run in self.runs
            if run in self.failed
        )

    def tell(self, kind: str, **facts: Any) -> None:
        """Say how far the study is."""
        self.notify(
            Progress(
                kind,
                done=len(self.finished) + len(self.failed),
                total=len(self.runs),
                work=sum(self.epochs.values()),
                total_work=len(self.runs) * self.config.epochs,
                epochs=self.config.epochs,
                **facts,
            )
        )

    def folder_of(self, run: Run) -> RunFolder:
        return self.folder.run(self.config, run)

    def result(self, output: Path) -> StudyResult:
        """Return what became of the study in its folder, as the caller names it."""
        return StudyResult(
            output,
            self.config,
            [self.finished[run] for run in self.runs if run in self.finished],
            self.skipped,
            [
                FailedRun(run.id, self.failed[run].error, self.failed[run].log)
                for run in self.runs
                if run in self.failed
            ],
        )


def _check_same_study(config: StudyConfig, folder: StudyFolder) -> None:
    if folder.path.exists() and not folder.path.is_dir():
        raise ValueError(f"output_dir: expected a folder, {folder.path} is a file")
    # What has trained nothing yet may change its settings.
    earlier = folder.read_config() if folder.has_epochs else None
    if earlier is None:
        return
    changed = [
        f"{name} ({_shown(getattr(earlier, name))} there, {_shown(getattr(config, name))} now)"
        for name in config.differences(earlier)
        if not (name in GRID and _grows(getattr(earlier, name), getattr(config, name)))
    ]
    if changed:
        raise ValueError(
            f"output_dir: {folder.path} holds a study with other settings: {', '.join(changed)}; "
            "name another folder"
        )


def _grows(earlier: Any, now: Any) -> bool:
    """Whether the runs that were asked for are among those that are asked for now."""
    return set(earlier) <= set(now) if isinstance(now, tuple) else bool(earlier <= now)


def _shown(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _take_back(paths: list[Path]) -> None:
    """Remove what was made for a study that then could not begin."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
