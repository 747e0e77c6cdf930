"""A study: the grid of runs, who executes them, and the folder that remembers what is done."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from marginseg.atomic import remove_leftovers, write_text
from marginseg.configuration import PAPER, PRESETS, QUICK, Run, StudyConfig
from marginseg.data import Dataset, EmptyDatasetError, decathlon, folds, phantom, totalsegmentator
from marginseg.execution import Outcome, Task, execute_all
from marginseg.noise import GaussianFieldNoise, folded_share
from marginseg.training import Epoch, computing_dtype

#: Cases that the statistics of the noise are taken from.
NOISE_CASES = 8
LOCK = ".lock"


@dataclass(frozen=True)
class Progress:
    """What a study tells while it works.

    Attributes:
        kind: ``"preparing"`` (a structure's cases), ``"prepared"`` (all), then for each run
            ``"started"``, ``"epoch"`` and ``"finished"`` or ``"failed"``.
        done: Runs that need no more work, failed ones among them.
        total: Runs of the study.
        work: Epochs done, of all runs.
        total_work: Epochs of all runs.
        structure: Whose cases are prepared.
        run: Which one.
        epoch: What it gave, for ``"epoch"``.
        epochs: How many the run has.
        error: One line, for ``"failed"``.

    """

    kind: str
    done: int
    total: int
    work: int
    total_work: int
    structure: str = ""
    run: Run | None = None
    epoch: Epoch | None = None
    epochs: int = 0
    error: str = ""


@dataclass(frozen=True)
class StudyResult:
    """What became of a study.

    Attributes:
        output_dir: The folder.
        config: The settings, structures named.
        runs: Results of the runs that are finished, as in ``runs.jsonl``, in the grid's order.
        skipped: ``(structure, case, reason)`` of cases that could not be used.
        failed: ``(run id, error)``, one line each; the same command tries them again.

    """

    output_dir: Path
    config: StudyConfig
    runs: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def run_study(
    config: StudyConfig,
    output_dir: str | os.PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> StudyResult:
    """Execute all runs of a study, or those that are missing in its folder.

    The folder gets ``config.json``, ``environment.json``, ``skipped.json``, ``failed.json``,
    ``noise.json``, ``runs.jsonl`` (a line for each finished run), ``runs/RUN/`` and ``cache/`` (the
    prepared cases). A study that was killed goes on where it was, runs from their last epoch; on
    the CPU the results have the same bits as uninterrupted ones.

    With several workers, a script has to start it under ``if __name__ == "__main__":``, as for
    every process that Python spawns.

    Args:
        config: The settings.
        output_dir: Made if it is new.
        progress: Called with everything that happens, in this process.
        cache_dir: For the prepared cases; None: in the output folder.

    Raises:
        ValueError: The folder holds a study with other settings (they are named), or another
            process works in it; there are more folds than cases; the data set is not as the
            settings say.
        EmptyDatasetError: Of no structure a case can be used.

    """
    config = config.resolved()
    output = Path(output_dir)
    _check_same_study(config, output)
    notify = progress or (lambda _: None)
    cache = output / "cache" if cache_dir is None else Path(cache_dir)
    new = [path for path in (output, cache, output / LOCK) if not path.exists()]
    output.mkdir(parents=True, exist_ok=True)
    try:
        with _only_process(output):
            remove_leftovers(output)
            return _run(config, output, cache, notify)
    except ValueError:
        if not (output / "config.json").exists():
            _take_back(new)
        raise


def _run(
    config: StudyConfig, output: Path, cache: Path, notify: Callable[[Progress], None]
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
    pending: dict[Run, Path] = {run: output / "runs" / config.folder_of(run) for run in runs}
    datasets, skipped = _prepared(
        config, cache, lambda structure: tell("preparing", structure=structure)
    )
    runs = [run for run in runs if run.structure in datasets]
    write_json(output / "config.json", config.to_dict())
    write_json(
        output / "skipped.json",
        [dict(zip(("structure", "name", "reason"), entry, strict=True)) for entry in skipped],
    )
    finished: dict[Run, dict[str, Any]] = {}
    for run in runs:
        result = _read_json(pending[run] / "result.json")
        if isinstance(result, dict):
            finished[run] = result
            done[run] = epochs
    pending = {run: pending[run] for run in runs if run not in finished}
    workers, threads = _crew(config, len(pending))
    write_json(output / "environment.json", _environment(config, workers, threads))
    write_json(output / "noise.json", _noise_statistics(config, datasets))
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
            {"run": run.id, "error": failed[run].error, "details": failed[run].details}
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
            folder = pending.pop(run)
            if outcome.kind == "finished":
                finished[run] = _read_json(folder / "result.json")
            else:
                failed[run] = outcome
            record()
        tell(outcome.kind, run=run, epoch=outcome.epoch, error=outcome.error)

    record()
    tell("prepared")
    execute_all(tasks, report, workers=workers, threads=threads)
    return StudyResult(
        output,
        config,
        [finished[run] for run in runs if run in finished],
        skipped,
        [(run.id, failed[run].error) for run in runs if run in failed],
    )


def _prepared(
    config: StudyConfig, cache: Path, begin: Callable[[str], None]
) -> tuple[dict[str, Dataset], list[tuple[str, str, str]]]:
    """Return the data set of every structure that has one, and the cases left out."""
    datasets: dict[str, Dataset] = {}
    skipped: list[tuple[str, str, str]] = []
    empty: list[str] = []
    for structure in config.structures:
        begin(structure)
        try:
            datasets[structure] = _dataset(config, structure, cache)
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


def _dataset(config: StudyConfig, structure: str, cache: Path) -> Dataset:
    if config.data == "phantom":
        return phantom(
            structure,
            cases=config.number_of_phantoms,
            patch_shape=config.patch_shape,
            seed=config.seed,
            cache_dir=cache,
        )
    source = decathlon if config.data == "decathlon" else totalsegmentator
    assert config.directory is not None
    return source(
        config.directory,
        structure,
        patch_shape=config.patch_shape,
        spacing=config.spacing,
        max_cases=config.max_cases,
        cache_dir=cache,
    )


def _crew(config: StudyConfig, runs: int) -> tuple[int, int]:
    """Return how many processes, and how many threads each has.

    In bfloat16 a run of batch 1 gains little from threads, so there is a process for each CPU. In
    float32 torch convolves a batch of one by a slow loop over large buffers: two runs side by side
    took longer than one after the other with all threads (133 s against 120 s for four runs).
    """
    cpus = len(os.sched_getaffinity(0))
    workers = config.workers
    if workers is None:
        workers = cpus if computing_dtype(config.precision) is torch.bfloat16 else 1
    workers = max(1, min(workers, runs))
    return workers, max(1, cpus // workers)


def _environment(config: StudyConfig, workers: int, threads: int) -> dict[str, Any]:
    from marginseg import __version__

    return {
        "marginseg": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "precision": str(computing_dtype(config.precision)).removeprefix("torch."),
        "workers": workers,
        "threads": threads,
    }


def _noise_statistics(config: StudyConfig, datasets: dict[str, Dataset]) -> list[dict[str, Any]]:
    """Say of each structure and level what the noise does to the volume.

    ``folded_share`` is the share of voxels where ω + X(ω) turns over, ``volume_loss`` the share
    of the structure that the noise carries out of the domain (Theorem 2), on average.
    """
    statistics = []
    for structure, dataset in datasets.items():
        labels = [torch.tensor(dataset[i].label) for i in range(min(NOISE_CASES, len(dataset)))]
        for std in config.std:
            noise = GaussianFieldNoise(std, config.length_scale)
            generator = torch.Generator().manual_seed(config.seed)
            fields = noise.displacement(labels[0].shape, len(labels), generator=generator)
            shares = [
                float(noise.volume_loss(label)) * label.numel() / max(int(label.sum()), 1)
                for label in labels
            ]
            statistics.append(
                {
                    "structure": structure,
                    "std": std,
                    "folded_share": float(torch.as_tensor(folded_share(fields)).double().mean()),
                    "volume_loss": sum(shares) / len(shares),
                }
            )
    return statistics


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


@contextmanager
def _only_process(output: Path) -> Iterator[None]:
    """Hold the folder's lock; the system frees it when the process ends, however it ends."""
    with (output / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"output_dir: another process works in {output}") from None
        yield


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


__all__ = [
    "PAPER",
    "PRESETS",
    "QUICK",
    "Progress",
    "Run",
    "StudyConfig",
    "StudyResult",
    "run_study",
]
