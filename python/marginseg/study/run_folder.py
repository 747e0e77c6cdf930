"""The folder of one run: every file in it is named, written and read here, and nowhere else."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from marginseg.files.atomic import remove_leftovers, replacing, write_text
from marginseg.files.locks import LOCK, is_locked, locked
from marginseg.files.numbers import is_number
from marginseg.files.records import parse_json, read_json
from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.evaluation import is_whole_score
from marginseg.training.device import COMPUTING_PRECISIONS, UNKNOWN, TrainedOn
from marginseg.training.state import Epoch

#: Seconds that no run takes: thirty thousand years.
LONGEST: Final = 1e12

#: Letters that no device's name has more of.
LONGEST_NAME: Final = 200

#: Bytes of all planes of a run, decompressed: 500 cases of 512 by 512 have no more.
LARGEST_SLICES: Final = 1 << 30

#: Arrays of ``slices.npz``.
SLICES: Final = ("image", "clean", "noisy", "marginal", "probability")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    ==================  ============================================================================
    ``log.jsonl``       the epochs so far, a line each
    ``checkpoint.pt``   all that the training needs to go on; gone when the run is done
    ``slices.npz``      a plane of every test case, for pictures
    ``model.pt``        the network
    ``result.json``     the scores of every test case; written last: where it is, the run is done
    ``error.log``       why the run failed, until it is tried again
    ==================  ============================================================================

    Attributes:
        path: Where it is; it need not be there yet. Its name ends in a hash of all that the run is.

    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Where the training keeps its state."""
        return self.path / "checkpoint.pt"

    @property
    def error_log(self) -> Path:
        """Where the traceback of a failed run is."""
        return self.path / "error.log"

    @property
    def _log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def _slices(self) -> Path:
        return self.path / "slices.npz"

    @property
    def _model(self) -> Path:
        return self.path / "model.pt"

    @property
    def _result(self) -> Path:
        return self.path / "result.json"

    # who works here

    def locked(self, *, patience: float) -> AbstractContextManager[None]:
        """Hold the folder for this process; a machine that died does not hold it for ever.

        Raises:
            LockedError: Another process works on this run, for longer than ``patience`` seconds.

        """
        return locked(self.path, patience=patience, take_over=True)

    @property
    def is_locked(self) -> bool:
        """Whether a process works on this run, as far as this machine can tell."""
        return is_locked(self.path)

    def times(self) -> tuple[int | None, int | None]:
        """Return when the lock was renewed and the log written, in ns; None where they are not."""
        return _time(self.path / LOCK), _time(self._log)

    @property
    def has_epochs(self) -> bool:
        """Whether an epoch has been trained here."""
        return any(path.exists() for path in (self.checkpoint, self._log, self._result))

    # while it is under way

    def clear(self) -> None:
        """Remove what an earlier try has left behind, other than its checkpoint and log."""
        self.error_log.unlink(missing_ok=True)
        remove_leftovers(self.path)

    def write_epochs(self, epochs: Iterable[Epoch]) -> None:
        """Write the epochs so far."""
        write_text(self._log, "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs))

    def read_epochs(self) -> list[Epoch]:
        """Return the epochs that the log tells of, as far as it can be read."""
        epochs: list[Epoch] = []
        with suppress(OSError, ValueError, TypeError):
            for line in self._log.read_text(encoding="utf-8").splitlines():
                epochs.append(_epoch(parse_json(line), len(epochs) + 1))
        return epochs

    def write_error(self, details: str) -> Path | None:
        """Write why the run failed; None where that cannot be: it may be the very reason."""
        try:
            write_text(self.error_log, details.rstrip() + "\n")
        except OSError:
            return None
        return self.error_log

    def last_error(self) -> str:
        """Return the last line that says why the run failed; nothing where it has not."""
        try:
            lines = self.error_log.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    # what it gives

    def write_slices(self, slices: Mapping[str, NDArray[Any]]) -> None:
        """Write a plane of every test case: arrays named by ``SLICES``, each (cases, *plane)."""
        arrays: dict[str, Any] = {name: slices[name] for name in SLICES}
        with replacing(self._slices) as file:
            np.savez_compressed(file, **arrays)

    def read_slices(self, cases: int) -> dict[str, NDArray[Any]] | None:
        """Return the planes of so many cases; None where they are missing or damaged."""
        try:
            with zipfile.ZipFile(self._slices) as archive:
                if sum(member.file_size for member in archive.infolist()) > LARGEST_SLICES:
                    return None
            with np.load(self._slices) as content:
                arrays = {name: np.asarray(content[name]) for name in SLICES}
        except Exception:  # each way of compression, and NumPy's tokenizer, has errors of its own
            return None
        shape = arrays["image"].shape
        whole = len(shape) == 3 and shape[0] == cases and min(shape) > 0
        numbers = all(array.dtype.kind in "buif" for array in arrays.values())
        alike = all(array.shape == shape for array in arrays.values())
        return arrays if whole and numbers and alike else None

    def write_model(self, features: Sequence[int], state: Mapping[str, torch.Tensor]) -> None:
        """Write the network: the channels of its levels, and its parameters on the CPU."""
        with replacing(self._model) as file:
            torch.save({"features": list(features), "state": state}, file)

    def write_result(
        self,
        run: Run,
        *,
        seconds: float,
        epochs: Iterable[Epoch],
        trained_on: Iterable[TrainedOn],
        cases: list[dict[str, Any]],
    ) -> None:
        """Write what the run gave, after all its other files.

        Args:
            run: Which; its fields stand in the result.
            seconds: Spent on training and testing.
            epochs: Of the training.
            trained_on: What computed them.
            cases: For each test case ``name``, ``fold``, and what
                :func:`marginseg.study.evaluation.evaluate` says of it.

        """
        content = {
            **asdict(run),
            "seconds": seconds,
            "epochs": [asdict(epoch) for epoch in epochs],
            "trained_on": [asdict(place) for place in trained_on],
            "cases": cases,
        }
        write_text(self._result, json.dumps(content) + "\n")

    @property
    def has_result(self) -> bool:
        """Whether there is a result, whole or not."""
        return self._result.exists()

    def read_result(self, run: Run) -> dict[str, Any] | None:
        """Return what :meth:`write_result` wrote of this run, if it is all there.

        Results of earlier versions, which do not say what computed them, are whole without it.
        """
        result = read_json(self._result)
        try:
            cases, epochs = result["cases"], result["epochs"]
            whole = (
                all(result[key] == value for key, value in asdict(run).items())
                and is_number(result["seconds"], 0, LONGEST)
                and isinstance(epochs, list)
                and all(_epoch(epoch, place) for place, epoch in enumerate(epochs, start=1))
                and ("trained_on" not in result or bool(trained_on(result)))
                and isinstance(cases, list)
                and all(is_whole_score(case, run.loss) for case in cases)
                and 0 < len({case["name"] for case in cases}) == len(cases)
            )
        except (KeyError, TypeError, ValueError):
            return None
        return result if whole else None

    def finished_result(self, config: StudyConfig, run: Run) -> dict[str, Any] | None:
        """Return the result of a run that need not be done again, else None.

        All its epochs are done, and its other files are whole too. ``model.pt`` may be missing: it
        is large, and nothing of the study reads it again.
        """
        result = self.read_result(run)
        archives = [self._slices, *([self._model] if self._model.exists() else [])]
        done = result is not None and len(result["epochs"]) == config.epochs
        return result if done and all(map(zipfile.is_zipfile, archives)) else None


def trained_on(result: Mapping[str, Any]) -> tuple[TrainedOn, ...]:
    """Return what computed the training of a result.

    Raises:
        TypeError: There stands anything else.
        ValueError: A name is too long, or a precision is none.

    Example:
        >>> trained_on({})
        (TrainedOn(device='unknown', precision='unknown'),)

    """
    if "trained_on" not in result:
        return (TrainedOn(UNKNOWN, UNKNOWN),)
    found = tuple(TrainedOn(**record) for record in result["trained_on"])
    for place in found:
        if not (isinstance(place.device, str) and 0 < len(place.device) <= LONGEST_NAME):
            raise ValueError(f"expected the name of a device, got {place}")
        if place.precision not in (*COMPUTING_PRECISIONS, UNKNOWN):
            raise ValueError(f"expected a precision, got {place}")
    return found


def _epoch(record: Any, number: int) -> Epoch:
    """Return the epoch of that number, as it was read from a file.

    Raises:
        TypeError: It has not the fields of one.
        ValueError: A field is of the wrong type or out of its range, or the number is another.

    """
    epoch = Epoch(**record)
    numbers = (epoch.loss, epoch.metric, epoch.learning_rate)
    if not (
        is_number(epoch.epoch, number, number)
        and is_number(epoch.seconds, 0, LONGEST)
        and all(is_number(n, -sys.float_info.max, sys.float_info.max) for n in numbers)
    ):
        raise ValueError(f"expected epoch {number}, got {record}")
    return epoch


def _time(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
