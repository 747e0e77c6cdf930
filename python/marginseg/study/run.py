"""Execute a run, from data to its result; what executors of many runs have in common."""

from __future__ import annotations

import errno
import json
import threading
import time
import traceback
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from marginseg.data import Dataset
from marginseg.files.atomic import remove_leftovers, replacing, write_text
from marginseg.files.locks import locked
from marginseg.noise import GaussianFieldNoise
from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.evaluation import evaluate, noisy_label
from marginseg.training.train import Epoch, TrainingSettings, computing_device, predict, train

#: In a run's folder: its epochs so far, its state while it is under way, why it failed.
LOG, CHECKPOINT = "log.jsonl", "checkpoint.pt"
ERROR_LOG = "error.log"

#: Seconds that a run waits for another process to leave its folder. Workers whose study was killed
#: end at once; Ray takes some seconds to end those of a driver that is gone.
PATIENCE = 30.0


@dataclass(frozen=True)
class Task:
    """All that a process needs to execute a run.

    Attributes:
        run: Which.
        config: The study's.
        dataset: Of the run's structure; it carries file names.
        train_cases: Numbers of the cases to train on.
        test_cases: Numbers of those to test on.
        folder: Where checkpoint and result go.

    """

    run: Run
    config: StudyConfig
    dataset: Dataset
    train_cases: tuple[int, ...]
    test_cases: tuple[int, ...]
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What an executor reports of a run.

    Attributes:
        run: Which.
        kind: ``"started"``, ``"epoch"``, ``"lost"`` (its process ended; it goes on from its
            checkpoint in another), ``"finished"`` or ``"failed"``.
        epoch: The last epoch done, for ``"epoch"``.
        error: One line, for ``"lost"`` and ``"failed"``.
        details: The traceback, for ``"failed"``.
        log: The file that has it; None where it could not be written.

    """

    run: Run
    kind: str
    epoch: Epoch | None = None
    error: str = ""
    details: str = ""
    log: Path | None = None


class Executor(Protocol):
    """Executes the runs of a study."""

    def facts(self, runs: int) -> dict[str, Any]:
        """Return what ``environment.json`` says of it, for a study of so many runs.

        ``executor``, ``workers`` (runs at the same time), ``threads`` (that torch uses in each).
        """

    def __call__(self, tasks: Sequence[Task], report: Callable[[Outcome], None]) -> None:
        """Execute tasks, in their order, and report every outcome in this process as it comes.

        A run that fails does not stop the others. An exception, Ctrl-C among them, ends what is
        under way; that goes on from its checkpoints the next time.
        """


def execute(task: Task, on_epoch: Callable[[Epoch], None]) -> None:
    """Train, test, and write ``result.json``, ``log.jsonl``, ``model.pt`` and ``slices.npz``.

    ``slices.npz`` has a plane of every test case, for pictures: ``image``, ``clean``, ``noisy``,
    ``marginal`` and ``probability``, each (cases, *plane), in the order of ``cases``. While the run
    is under way ``checkpoint.pt`` holds its state, and it goes on from there. ``result.json`` comes
    last: where it is, the run is finished.

    Raises:
        LockedError: Another process works on this run.
        Exception: Whatever goes wrong in a run.

    """
    folder = task.folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, patience=PATIENCE, take_over=True):
        # The process that held the lock may have finished it meanwhile.
        if finished_result(folder, task.config, task.run) is None:
            (folder / ERROR_LOG).unlink(missing_ok=True)
            remove_leftovers(folder)
            _execute(task, on_epoch)
        (folder / CHECKPOINT).unlink(missing_ok=True)


def _execute(task: Task, on_epoch: Callable[[Epoch], None]) -> None:
    run, config, folder = task.run, task.config, task.folder
    device = computing_device(config.device)
    cases = _loaded(task.dataset, run.std, config, device)
    settings = TrainingSettings(
        loss=run.loss,
        features=tuple(config.features),
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        plateau_patience=config.plateau_patience,
        plateau_factor=config.plateau_factor,
        augmentation=config.augmentation,
        precision=config.precision,
        seed=config.seed + run.fold,
    )

    def write_log(epochs: list[Epoch]) -> None:
        lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)
        write_text(folder / LOG, lines)

    def log(epochs: list[Epoch]) -> None:
        write_log(epochs)
        on_epoch(epochs[-1])

    chosen = [cases[number] for number in task.train_cases]
    trained = train(
        [case.image for case in chosen],
        [case.noisy for case in chosen],
        settings,
        spacings=[case.spacing for case in chosen],
        checkpoint=folder / CHECKPOINT,
        on_epoch=log,
        device=device,
    )
    # After the last checkpoint, a process may have been killed before it wrote the log.
    write_log(trained.epochs)
    started = time.monotonic()
    scores: list[dict[str, Any]] = []
    slices: dict[str, list[Tensor]] = defaultdict(list)
    noise = GaussianFieldNoise(run.std, config.length_scale)
    for number in task.test_cases:
        case = cases[number]
        marginal = noise.marginals(case.label)
        probabilities = predict(trained.model, case.image, precision=config.precision)
        found = evaluate(
            probabilities, run.loss, clean=case.label, noisy=case.noisy, marginal=marginal
        )
        scores.append({"name": case.name, "fold": run.fold, **found})
        plane = (..., largest_plane(case.label))
        slices["image"].append(case.image[plane].half())
        slices["clean"].append(case.label[plane])
        slices["noisy"].append(case.noisy[plane])
        slices["marginal"].append(marginal[plane].half())
        slices["probability"].append(probabilities[plane].half())
    arrays: dict[str, Any] = {
        key: torch.stack(planes).cpu().numpy() for key, planes in slices.items()
    }
    with replacing(folder / "slices.npz") as file:
        np.savez_compressed(file, **arrays)
    with replacing(folder / "model.pt") as file:
        model = {"features": list(config.features), "state": trained.model.cpu().state_dict()}
        torch.save(model, file)
    result = {
        **asdict(run),
        "seconds": sum(e.seconds for e in trained.epochs) + time.monotonic() - started,
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "cases": scores,
    }
    write_text(folder / "result.json", json.dumps(result) + "\n")


class _UnreportedError(Exception):
    """Telling of a run went wrong, which is not the run's failure."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def perform(task: Task, report: Callable[[Outcome], None]) -> None:
    """Execute a task and report what becomes of it; a failure is an outcome, too.

    Raises:
        Exception: What ``report`` raises.

    """

    def tell(epoch: Epoch) -> None:
        try:
            report(Outcome(task.run, "epoch", epoch))
        except Exception as error:
            raise _UnreportedError(error) from error

    report(Outcome(task.run, "started"))
    try:
        execute(task, tell)
    except _UnreportedError as error:
        raise error.cause from None
    except Exception as error:
        outcome = failure(task.run, task.folder, one_line(error), traceback.format_exc())
    else:
        outcome = Outcome(task.run, "finished")
    report(outcome)


def failure(run: Run, folder: Path, error: str, details: str) -> Outcome:
    """Return the outcome of a run that failed, and keep its log in its folder if that can be."""
    log = folder / ERROR_LOG
    try:
        write_text(log, details.rstrip() + "\n")
    except OSError:  # it may be the very reason of the failure
        return Outcome(run, "failed", error=error, details=details)
    return Outcome(run, "failed", error=error, details=details, log=log)


def one_line(error: BaseException) -> str:
    """Say what an error is, in one line.

    Where a full disk is behind it, that comes first: torch says only that its archive's writer
    failed.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error = seen
            break
        seen = seen.__cause__ or seen.__context__
    return " ".join(f"{type(error).__name__}: {error}".split())


def read_epochs(folder: Path) -> list[Epoch]:
    """Return the epochs that a run's log tells of, as far as it can be read."""
    epochs: list[Epoch] = []
    try:
        for line in (folder / LOG).read_text().splitlines():
            epochs.append(Epoch(**json.loads(line)))
    except (OSError, ValueError, TypeError):
        pass
    return epochs


def finished_result(folder: Path, config: StudyConfig, run: Run) -> dict[str, Any] | None:
    """Return the result of a run whose files are whole, else None.

    ``result.json`` is written last, so the others are there with it. ``model.pt`` may be missing,
    for it is large and nothing of the study reads it again.
    """
    try:
        result = json.loads((folder / "result.json").read_text())
        whole = (
            all(result[key] == value for key, value in asdict(run).items())
            and len(result["epochs"]) == config.epochs
            and len(result["cases"]) > 0
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    model = folder / "model.pt"
    archives = [folder / "slices.npz", *([model] if model.exists() else [])]
    return result if whole and all(map(zipfile.is_zipfile, archives)) else None


def largest_plane(label: Tensor) -> int:
    """Return the index along the last axis of the plane that holds most of the label."""
    return int(label.flatten(0, -2).sum(dim=0, dtype=torch.int64).argmax())


@dataclass(frozen=True)
class _LoadedCase:
    name: str
    image: Tensor
    label: Tensor
    noisy: Tensor
    spacing: tuple[float, ...]


# A study goes through structures and noise levels in order: the last one serves the next runs, in
# all threads.
_last_loaded: tuple[tuple[Any, ...], list[_LoadedCase]] | None = None
_loading = threading.Lock()


def _loaded(
    dataset: Dataset, std: float, config: StudyConfig, device: torch.device
) -> list[_LoadedCase]:
    """Return all cases on the device, with their noisy labels, which are the CPU's everywhere."""
    global _last_loaded  # noqa: PLW0603
    names = getattr(dataset.cases, "files", id(dataset))
    key = (dataset.structure, names, std, config.length_scale, config.seed, device)
    with _loading:
        if _last_loaded is None or _last_loaded[0] != key:
            _last_loaded = None  # the device need not hold both
            noise = GaussianFieldNoise(std, config.length_scale)
            cases = []
            for case in dataset.cases:
                label = torch.from_numpy(np.array(case.label))
                noisy = noisy_label(
                    label, noise, seed=config.seed, structure=dataset.structure, name=case.name
                )
                image = torch.from_numpy(np.array(case.image))
                image, label, noisy = (array.to(device) for array in (image, label, noisy))
                cases.append(_LoadedCase(case.name, image, label, noisy, case.spacing))
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # other threads have streams of their own
            _last_loaded = key, cases
        return _last_loaded[1]
