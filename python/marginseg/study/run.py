"""One run, from its data to its result: train a network, test it, write what it gave."""

from __future__ import annotations

import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from marginseg.data.patches import largest_plane
from marginseg.noise import GaussianFieldNoise
from marginseg.study.cases import LoadedCase, loaded_cases
from marginseg.study.evaluation import evaluate
from marginseg.study.task import Outcome, Task, failure, one_line
from marginseg.training.device import computing_device
from marginseg.training.state import Epoch
from marginseg.training.train import predict, train

#: Seconds that a run waits for another process to leave its folder. Workers whose study was killed
#: end at once; Ray takes some seconds to end those of a driver that is gone.
PATIENCE = 30.0


def execute(task: Task, on_epoch: Callable[[Epoch], None]) -> None:
    """Train, test, and write all files of a run, see :class:`marginseg.study.run_folder.RunFolder`.

    A run that was under way goes on from its checkpoint; one that is finished stays as it is.

    Raises:
        LockedError: Another process works on this run.
        Exception: Whatever goes wrong in a run.

    """
    folder = task.folder
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.locked(patience=PATIENCE):
        # The process that held the lock may have finished it meanwhile.
        if folder.finished_result(task.config, task.run) is None:
            folder.clear()
            _train_and_test(task, on_epoch)
        folder.checkpoint.unlink(missing_ok=True)


def _train_and_test(task: Task, on_epoch: Callable[[Epoch], None]) -> None:
    run, config, folder = task.run, task.config, task.folder
    device = computing_device(config.device)
    cases = loaded_cases(task.dataset, run.std, run.repeat, config, device)

    def log(epochs: list[Epoch]) -> None:
        folder.write_epochs(epochs)
        on_epoch(epochs[-1])

    chosen = [cases[number] for number in task.train_cases]
    trained = train(
        [case.image for case in chosen],
        [case.noisy for case in chosen],
        config.training_settings(run),
        spacings=[case.spacing for case in chosen],
        checkpoint=folder.checkpoint,
        on_epoch=log,
        device=device,
    )
    # After the last checkpoint, a process may have been killed before it wrote the log.
    folder.write_epochs(trained.epochs)
    started = time.monotonic()
    scores, slices = _test(task, trained.model, [cases[number] for number in task.test_cases])
    folder.write_slices({name: torch.stack(p).cpu().numpy() for name, p in slices.items()})
    folder.write_model(config.features, trained.model.cpu().state_dict())
    seconds = sum(epoch.seconds for epoch in trained.epochs) + time.monotonic() - started
    folder.write_result(
        run,
        seconds=seconds,
        epochs=trained.epochs,
        trained_on=trained.trained_on,
        cases=scores,
    )


def _test(
    task: Task, model: nn.Module, cases: Sequence[LoadedCase]
) -> tuple[list[dict[str, Any]], dict[str, list[Tensor]]]:
    """Return the scores of every case, and the plane of each where its structure is largest."""
    scores: list[dict[str, Any]] = []
    slices: dict[str, list[Tensor]] = defaultdict(list)
    for case in cases:
        axes = case.label.ndim
        noise = GaussianFieldNoise(task.run.std, task.config.length_scale, spatial_dims=axes)
        marginal = noise.marginals(case.label)
        probabilities = predict(model, case.image, precision=task.config.precision)
        found = evaluate(
            probabilities, task.run.loss, clean=case.label, noisy=case.noisy, marginal=marginal
        )
        scores.append({"name": case.name, "fold": task.run.fold, **found})
        plane = ... if case.label.ndim == 2 else (..., largest_plane(case.label.numpy(force=True)))
        slices["image"].append(case.image[plane].half())
        slices["clean"].append(case.label[plane])
        slices["noisy"].append(case.noisy[plane])
        slices["marginal"].append(marginal[plane].half())
        slices["probability"].append(probabilities[plane].half())
    return scores, slices


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
