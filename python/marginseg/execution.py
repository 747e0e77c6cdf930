"""Execute runs: one from data to its result, and many at a time in processes of their own."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import signal
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marginseg.atomic import remove_leftovers, replacing, write_text
from marginseg.configuration import Run, StudyConfig
from marginseg.data import Dataset
from marginseg.evaluation import evaluate, noisy_label
from marginseg.noise import GaussianFieldNoise
from marginseg.training import Epoch, TrainingSettings, predict, train


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
        kind: ``"started"``, ``"epoch"``, ``"finished"`` or ``"failed"``.
        epoch: The last epoch done, for ``"epoch"``.
        error: One line, for ``"failed"``.
        details: The traceback, for ``"failed"``.

    """

    run: Run
    kind: str
    epoch: Epoch | None = None
    error: str = ""
    details: str = ""


def execute(task: Task, on_epoch: Callable[[Epoch], None]) -> None:
    """Train, test, and write ``result.json``, ``log.jsonl``, ``model.pt`` and ``slices.npz``.

    ``slices.npz`` has a plane of every test case, for pictures: ``image``, ``clean``, ``noisy``,
    ``marginal`` and ``probability``, each (cases, *plane), in the order of ``cases``. While the run
    is under way ``checkpoint.pt`` holds its state, and it goes on from there.
    """
    run, config, folder = task.run, task.config, task.folder
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    cases = _loaded(task.dataset, run.std, config)
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

    def log(epochs: list[Epoch]) -> None:
        lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)
        write_text(folder / "log.jsonl", lines)
        on_epoch(epochs[-1])

    chosen = [cases[number] for number in task.train_cases]
    checkpoint = folder / "checkpoint.pt"
    trained = train(
        [case.image for case in chosen],
        [case.noisy for case in chosen],
        settings,
        spacings=[case.spacing for case in chosen],
        checkpoint=checkpoint,
        on_epoch=log,
    )
    started = time.monotonic()
    scores: list[dict[str, Any]] = []
    slices: dict[str, list[NDArray[Any]]] = defaultdict(list)
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
        slices["image"].append(case.image[plane].half().numpy())
        slices["clean"].append(case.label[plane].numpy())
        slices["noisy"].append(case.noisy[plane].numpy())
        slices["marginal"].append(marginal[plane].half().numpy())
        slices["probability"].append(probabilities[plane].half().numpy())
    with replacing(folder / "slices.npz") as file:
        np.savez_compressed(file, **{key: np.stack(planes) for key, planes in slices.items()})
    with replacing(folder / "model.pt") as file:
        model = {"features": list(config.features), "state": trained.model.state_dict()}
        torch.save(model, file)
    result = {
        **asdict(run),
        "seconds": sum(e.seconds for e in trained.epochs) + time.monotonic() - started,
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "cases": scores,
    }
    write_text(folder / "result.json", json.dumps(result) + "\n")
    checkpoint.unlink(missing_ok=True)


def execute_all(
    tasks: Sequence[Task], report: Callable[[Outcome], None], *, workers: int, threads: int
) -> None:
    """Execute tasks and report as they go; a run that fails does not stop the others.

    An exception here, Ctrl-C among them, ends the processes; what was under way goes on from its
    checkpoints the next time.

    Args:
        tasks: In the order in which they are begun.
        report: Called in this process, with every outcome as it comes.
        workers: Processes; 1: this process does it all.
        threads: That torch uses in each of several processes.

    """
    if workers == 1:
        for task in tasks:
            _perform(task, report)
        return
    waiting = list(reversed(tasks))
    crew: list[_Worker] = []
    try:
        for _ in range(min(workers, len(tasks))):
            crew.append(_Worker(threads))
        while True:
            for worker in crew:
                if worker.task is None and waiting:
                    worker.give(waiting.pop())
            busy = [worker for worker in crew if worker.task is not None]
            if not busy:
                return
            ready = multiprocessing.connection.wait([worker.connection for worker in busy])
            for worker in busy:
                if worker.connection not in ready:
                    continue
                outcome = worker.outcome()
                if not worker.alive:
                    crew[crew.index(worker)] = _Worker(threads)
                report(outcome)
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process that executes the tasks it is given, one at a time."""

    def __init__(self, threads: int) -> None:
        # Forking a process that has used torch's threads can hang in the child.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.alive = True

    def give(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # a dead process is found when its answer is read
            self.connection.send(task)

    def outcome(self) -> Outcome:
        assert self.task is not None
        try:
            outcome: Outcome = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            self.alive = False
            code = self.process.exitcode
            how = signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"
            message = f"the process ended unexpectedly ({how})"
            outcome = Outcome(self.task.run, "failed", error=message, details=message)
        if outcome.kind in ("finished", "failed"):
            self.task = None
        return outcome

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _work(connection: Connection, threads: int) -> None:
    # Ctrl-C reaches the whole process group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    # A closed connection says that the parent is gone.
    with contextlib.suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            _perform(task, connection.send)


def _perform(task: Task, send: Callable[[Outcome], None]) -> None:
    send(Outcome(task.run, "started"))
    try:
        execute(task, lambda epoch: send(Outcome(task.run, "epoch", epoch)))
    except (BrokenPipeError, ConnectionError):
        raise
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())
        send(Outcome(task.run, "failed", error=message, details=traceback.format_exc()))
    else:
        send(Outcome(task.run, "finished"))


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


# A study goes through structures and noise levels in order: the last one serves the next runs.
_last_loaded: tuple[tuple[Any, ...], list[_LoadedCase]] | None = None


def _loaded(dataset: Dataset, std: float, config: StudyConfig) -> list[_LoadedCase]:
    """Return all cases in memory with their noisy labels."""
    global _last_loaded  # noqa: PLW0603
    names = getattr(dataset.cases, "files", id(dataset))
    key = (dataset.structure, names, std, config.length_scale, config.seed)
    if _last_loaded is None or _last_loaded[0] != key:
        noise = GaussianFieldNoise(std, config.length_scale)
        cases = []
        for case in dataset.cases:
            label = torch.from_numpy(np.array(case.label))
            noisy = noisy_label(
                label, noise, seed=config.seed, structure=dataset.structure, name=case.name
            )
            image = torch.from_numpy(np.array(case.image))
            cases.append(_LoadedCase(case.name, image, label, noisy, case.spacing))
        _last_loaded = key, cases
    return _last_loaded[1]
