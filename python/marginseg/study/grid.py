"""A study: the grid of runs, who executes them, and the folder that remembers what is done."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from marginseg.data import Dataset, EmptyDatasetError, folds
from marginseg.files.atomic import remove_leftovers, write_text
from marginseg.files.locks import LOCK, locked
from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.environment import environment, noise_statistics
from marginseg.study.executors import local_executor
from marginseg.study.run import (
    CHECKPOINT,
    ERROR_LOG,
    Executor,
    Outcome,
    Task,
    failure,
    finished_result,
)
from marginseg.training.train import Epoch

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
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
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

    The folder gets ``config.json``, ``environment.json``, ``skipped.json``, ``failed.json``,
    ``noise.json``, ``runs.jsonl`` (a line for each finished run), ``runs/RUN/`` and ``cache/`` (the
    prepared cases). A study that was killed goes on where it was, runs from their last epoch; on
    the CPU the results have the same bits as uninterrupted ones. A run that fails does not stop the
    others: its traceback is in ``runs/RUN/error.log``, and the next time it is tried again.

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
        ValueError: The folder holds a study with other settings (they are named), or another
            process works in it; there are more folds than cases; the data set is not as the
            settings say.
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
    _check_same_study(config, output)
    notify = progress or (lambda _: None)
    # Other processes, and other machines, have folders of their own to start from.
    cache = (output / "cache" if cache_dir is None else Path(cache_dir)).absolute()
    if executor is None:
        executor = local_executor(config)
    # A cache of its own outlives a study that cannot begin: others use it too.
    inside = [cache] if cache_dir is None else []
    new = [path for path in (output, *inside, output / LOCK) if not path.exists()]
    output.mkdir(parents=True, exist_ok=True)
    try:
        with locked(output, patience=PATIENCE):
            remove_leftovers(output)
            return _run(config, output, cache, notify, executor)
    except ValueError:
        if not (output / "config.json").exists():
            _take_back(new)
        raise


def _run(
    config: StudyConfig,
    output: Path,
    cache: Path,
    notify: Callable[[Progress], None],
    executor: Executor,
) -> StudyResult:
    runs = config.runs()
    epochs = config.epochs

    def tell(kind: str, **facts: Any) -> None:
        work = sum(done.values())
        notify(
            Progress(
                kind,
                sum(run not in pending for run in runs),
                len(runs),
                work,
                len(runs) * epochs,
                epochs=epochs,
                **facts,
            )
        )

    done: dict[Run, int] = {}
    folder = output.absolute() / "runs"
    pending: dict[Run, Path] = {run: folder / config.folder_of(run) for run in runs}
    facts = executor.facts(len(runs))  # what it cannot do is refused before hours of preparation
    new = not (output / "config.json").exists()
    # It comes first: whoever asks for the study's status learns what is being prepared.
    write_json(output / "config.json", config.to_dict())
    try:
        datasets, skipped = _prepared(
            config,
            cache,
            lambda structure, cases, wanted: tell(
                "preparing", structure=structure, cases=cases, wanted=wanted
            ),
        )
    except ValueError:
        if new:
            (output / "config.json").unlink()
        raise
    runs = [run for run in runs if run.structure in datasets]
    write_json(
        output / "skipped.json",
        [dict(zip(("structure", "name", "reason"), entry, strict=True)) for entry in skipped],
    )
    finished: dict[Run, dict[str, Any]] = {}
    for run in runs:
        result = finished_result(pending[run], config, run)
        if result is not None:
            finished[run] = result
            done[run] = epochs
            with suppress(OSError):  # a process killed after its last file leaves it
                (pending[run] / CHECKPOINT).unlink()
    pending = {run: pending[run] for run in runs if run not in finished}
    for path in pending.values():
        with suppress(OSError):
            (path / ERROR_LOG).unlink()
    write_json(output / "environment.json", environment(config) | facts)
    write_json(output / "noise.json", noise_statistics(config, datasets))
    splits = {
        structure: folds(len(dataset), config.folds, config.seed)
        for structure, dataset in datasets.items()
    }
    tasks = []
    for run, folder in pending.items():
        train, test = splits[run.structure][run.fold]
        numbers = tuple(map(int, train)), tuple(map(int, test))
        tasks.append(Task(run, config, datasets[run.structure], *numbers, folder))
    failed: dict[Run, Outcome] = {}

    def record() -> None:
        results = (json.dumps(finished[run]) + "\n" for run in runs if run in finished)
        write_text(output / "runs.jsonl", "".join(results))
        errors = [
            {
                "run": run.id,
                "folder": config.folder_of(run),
                "error": failed[run].error,
                "details": failed[run].details,
            }
            for run in runs
            if run in failed
        ]
        write_json(output / "failed.json", errors)

    def report(outcome: Outcome) -> None:
        run = outcome.run
        if outcome.epoch is not None:
            done[run] = outcome.epoch.epoch
        if outcome.kind in ("finished", "failed"):
            done[run] = epochs
            path = pending.pop(run)
            if outcome.kind == "finished":
                result = finished_result(path, config, run)
                if result is None:
                    message = f"{path}: the result is not there; do all machines share the folder?"
                    outcome = failure(run, path, message, message)
                else:
                    finished[run] = result
            if outcome.kind == "failed":
                failed[run] = outcome
            # A full disk stops the runs that write, and the study only at its end.
            with suppress(OSError):
                record()
        tell(outcome.kind, run=run, epoch=outcome.epoch, error=outcome.error)

    record()
    tell("prepared")
    executor(tasks, report)
    record()
    return StudyResult(
        output,
        config,
        [finished[run] for run in runs if run in finished],
        skipped,
        [FailedRun(run.id, failed[run].error, failed[run].log) for run in runs if run in failed],
    )


def _prepared(
    config: StudyConfig, cache: Path, tell: Callable[[str, int, int], None]
) -> tuple[dict[str, Dataset], list[tuple[str, str, str]]]:
    """Return the data set of every structure that has one, and the cases left out."""
    datasets: dict[str, Dataset] = {}
    skipped: list[tuple[str, str, str]] = []
    empty: list[str] = []
    for structure in config.structures:
        tell(structure, 0, 0)

        def progress(_: int, usable: int, wanted: int, structure: str = structure) -> None:
            tell(structure, usable, wanted)

        try:
            datasets[structure] = config.dataset(structure, cache_dir=cache, progress=progress)
        except EmptyDatasetError as error:
            empty.append(str(error))
            skipped.append((structure, "all cases", str(error)))
        else:
            skipped += [(structure, *why) for why in datasets[structure].skipped]
    if not datasets:
        raise EmptyDatasetError("; ".join(empty))
    for structure, dataset in datasets.items():
        if config.folds > len(dataset):
            problem = (
                f"folds: expected at most the number of cases, got {config.folds} for the "
                f"{len(dataset)} of structure {structure!r}"
            )
            raise ValueError("; ".join([problem, *empty]))
    return datasets, skipped


def _check_same_study(config: StudyConfig, output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"output_dir: expected a folder, {output} is a file")
    settings = _read_json(output / "config.json")
    if not isinstance(settings, dict):
        return
    earlier = StudyConfig.from_dict(settings)
    changed = [
        f"{name} ({_shown(getattr(earlier, name))} there, {_shown(getattr(config, name))} now)"
        for name in config.differences(earlier)
    ]
    if changed:
        raise ValueError(
            f"output_dir: {output} holds a study with other settings: {', '.join(changed)}; "
            "name another folder"
        )


def _shown(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _take_back(paths: list[Path]) -> None:
    """Remove what was made for a study that then could not begin."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def _read_json(path: Path) -> Any:
    """Return the content, or None where there is no such file or it is damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
