"""A study's folder: every file in it is named, written and read here, and nowhere else.

==================  ================================================================================
``config.json``     the settings; where this file is, a study has begun
``environment.json``  versions, the device, and who executes the runs
``skipped.json``    the cases that could not be used, each with the reason
``noise.json``      what the noise does to the volume of each structure
``runs.jsonl``      the results of the finished runs, a line each
``failed.json``     the runs that failed, with their tracebacks
``cache/``          the prepared cases, unless they are kept elsewhere
``runs/RUN/``       a folder for each run, see :class:`marginseg.study.run_folder.RunFolder`
``report.html`` …   the report, see :class:`ReportFile`, and its figures as ``NAME.png``
==================  ================================================================================

Files appear whole or not at all. Even so a folder may have been copied in part, or damaged by its
disk, so whoever reads gets nothing from a damaged file, as from one that is not there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from marginseg.files.atomic import remove_leftovers, write_text
from marginseg.files.locks import LOCK, is_locked, locked
from marginseg.files.numbers import is_number
from marginseg.files.records import read_json, read_records, write_json
from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.run_folder import RunFolder

#: Stands for the name of a case where a structure has no case at all.
ALL_CASES: Final = "all cases"

#: Fields of a record in ``noise.json``.
NOISE_FIELDS: Final = ("structure", "std", "folded_share", "volume_loss")


class ReportFile(StrEnum):
    """The files of a study's report, other than its figures."""

    page = "report.html"
    numbers = "report.json"
    table = "table.csv"
    differences = "differences.csv"
    cases = "cases.csv"
    latex = "table.tex"


class SkippedCase(NamedTuple):
    """A case that could not be used; of a structure without cases, ``ALL_CASES``."""

    structure: str
    name: str
    reason: str


class RecordedFailure(NamedTuple):
    """What ``failed.json`` tells of a run: its id, its folder's name, one line, the traceback."""

    run: str
    folder: str
    error: str
    details: str


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study.

    Attributes:
        path: Where it is; it need not be there yet.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as path:
        ...     folder = StudyFolder(Path(path))
        ...     before = folder.read_config()
        ...     folder.write_config(StudyConfig(folds=2))
        ...     before, folder.read_config() == StudyConfig(folds=2)
        (None, True)

    """

    path: Path

    @property
    def cache(self) -> Path:
        """Where the prepared cases are kept, unless elsewhere."""
        return self.path / "cache"

    @property
    def lock(self) -> Path:
        """The file that whoever works here holds locked."""
        return self.path / LOCK

    @property
    def skipped_file(self) -> Path:
        """The file that lists the cases that could not be used, for who wants to look at it."""
        return self.path / "skipped.json"

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    @property
    def _environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def _noise(self) -> Path:
        return self.path / "noise.json"

    @property
    def _runs(self) -> Path:
        return self.path / "runs.jsonl"

    @property
    def _failed(self) -> Path:
        return self.path / "failed.json"

    def run(self, config: StudyConfig, run: Run) -> RunFolder:
        """Return the folder of one run."""
        return RunFolder(self.path / "runs" / config.folder_of(run))

    # who works here

    @contextmanager
    def locked(self, *, patience: float) -> Iterator[None]:
        """Hold the folder for this process, without what a killed one has left half-written.

        Raises:
            LockedError: Another process works here, for longer than ``patience`` seconds.

        """
        with locked(self.path, patience=patience):
            remove_leftovers(self.path)
            yield

    @property
    def is_locked(self) -> bool:
        """Whether a process works here, as far as this machine can tell."""
        return is_locked(self.path)

    # the settings

    @property
    def has_begun(self) -> bool:
        """Whether there is a study here."""
        return self._config.exists()

    @property
    def has_epochs(self) -> bool:
        """Whether a network has been trained here, were it for one epoch."""
        return any(RunFolder(path).has_epochs for path in self.path.glob("runs/*"))

    def write_config(self, config: StudyConfig) -> None:
        """Write the settings: from then on there is a study here."""
        write_json(self._config, config.to_dict())

    def remove_config(self) -> None:
        """Take the settings back, where the study could not begin."""
        self._config.unlink(missing_ok=True)

    def remove_records(self) -> None:
        """Remove what is known of a study with other settings."""
        for path in (self.skipped_file, self._environment, self._noise, self._runs, self._failed):
            path.unlink(missing_ok=True)

    def read_config(self) -> StudyConfig | None:
        """Return the settings, None where there are none or the file is damaged.

        Raises:
            ValueError: They are not those of a study; the message says why.

        """
        content = read_json(self._config)
        if not isinstance(content, dict):
            return None
        try:
            return StudyConfig.from_dict(content)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self._config}: {error}") from error

    def config(self) -> StudyConfig:
        """Return the settings of the study that is here.

        Raises:
            ValueError: There is none, or its settings cannot be read.

        """
        config = self.read_config()
        if config is not None:
            return config
        if not self.path.is_dir():
            found = "a file" if self.path.exists() else "no such folder"
        elif not self.has_begun:
            found = "one without config.json"
        else:
            found = "a damaged config.json, which the study's command writes anew"
        raise ValueError(f"{self.path}: expected a study's folder, got {found}")

    # what is known before the first run

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write versions, the device, and who executes the runs."""
        write_json(self._environment, facts)

    def read_environment(self) -> dict[str, Any]:
        """Return what :meth:`write_environment` wrote."""
        content = read_json(self._environment)
        return content if isinstance(content, dict) else {}

    def write_skipped(self, skipped: Iterable[SkippedCase]) -> None:
        """Write the cases that could not be used."""
        write_json(self.skipped_file, [case._asdict() for case in skipped])

    def read_skipped(self) -> list[SkippedCase]:
        """Return the cases that could not be used."""
        return [
            SkippedCase(*(str(record[name]) for name in SkippedCase._fields))
            for record in read_records(self.skipped_file, SkippedCase._fields)
        ]

    def structures_without_cases(self) -> set[str]:
        """Return the structures of which no case can be used: they have no runs."""
        return {case.structure for case in self.read_skipped() if case.name == ALL_CASES}

    def write_noise(self, statistics: Sequence[Mapping[str, Any]]) -> None:
        """Write what the noise does to the structures, records of ``NOISE_FIELDS``."""
        write_json(self._noise, statistics)

    def read_noise(self) -> list[dict[str, Any]]:
        """Return the records that :meth:`write_noise` wrote, those that are whole."""
        return [
            record
            for record in read_records(self._noise, NOISE_FIELDS)
            if isinstance(record["structure"], str)
            and all(is_number(record[name], 0, sys.float_info.max) for name in NOISE_FIELDS[1:])
        ]

    # what became of the runs

    @property
    def is_prepared(self) -> bool:
        """Whether the cases are ready, and the runs have begun."""
        return self._runs.exists()

    def write_finished(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Write the results of the finished runs, a line each."""
        write_text(self._runs, "".join(json.dumps(result) + "\n" for result in results))

    def write_failed(self, failures: Iterable[RecordedFailure]) -> None:
        """Write which runs failed, and why."""
        write_json(self._failed, [failure._asdict() for failure in failures])

    def read_failed(self) -> list[RecordedFailure]:
        """Return the runs that failed."""
        return [
            RecordedFailure(*(str(record.get(name, "")) for name in RecordedFailure._fields))
            for record in read_records(self._failed, ("run", "error"))
        ]

    # the report

    def report_file(self, file: ReportFile) -> Path:
        """Return where a file of the report is."""
        return self.path / file

    def write_report_file(self, file: ReportFile, text: str) -> None:
        """Write a file of the report."""
        write_text(self.report_file(file), text)

    def figure(self, name: str) -> Path:
        """Return where a figure of the report is."""
        return self.path / f"{name}.png"
