"""One file or many: which they are, who works on them, and what becomes of each."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from marginseg.cli.errors import FAILED, named_by_option

if TYPE_CHECKING:
    from marginseg.cli.rows import Rows

#: What the outcome of each file stands in, in the folder of the outputs.
RECORD: Final = "finished.json"

#: What the input or the disk is to blame for.
BLAMED: Final = (OSError, ValueError, TypeError, MemoryError)

#: One row of numbers for each class, label or sample.
Row = Sequence[str]


@dataclass(frozen=True)
class Sources:
    """The volumes that a command was given.

    Attributes:
        paths: Each file, those of a folder in the order of their names.
        several: Whether they were given as more than one, or as a folder.

    """

    paths: list[Path]
    several: bool

    @classmethod
    def of(cls, given: Sequence[Path]) -> Sources:
        """Look into folders."""
        from marginseg.files.nifti import SUFFIXES

        paths: list[Path] = []
        for path in given:
            if not path.is_dir():
                paths.append(path)
                continue
            found = sorted(
                p
                for p in path.iterdir()
                if p.name.endswith(SUFFIXES) and not p.name.startswith(".") and p.is_file()
            )
            if not found:
                raise ValueError(f"{path}: expected .nii or .nii.gz files in this folder")
            paths += found
        return cls(paths, len(given) > 1 or given[0].is_dir())

    def targets(self, output: Path) -> list[Path]:
        """Return where the output of each goes: ``output``, or a file of its name in there.

        Raises:
            ValueError: Two outputs would have one name, or one would replace its input.
            OSError: ``output`` cannot be written to.

        """
        from marginseg.files.nifti import SUFFIXES, check_output

        if not self.several and not output.is_dir():
            targets = [check_output(output)]
        else:
            if not output.is_dir() and output.name.endswith(SUFFIXES):
                raise ValueError(f"--output: expected a folder for several files, got {output}")
            self.make_folder(output)
            targets = [output / path.name for path in self.paths]
        for source, target in zip(self.paths, targets, strict=True):
            if source.exists() and target.exists() and target.samefile(source):
                raise ValueError(f"--output: {target} is the input; it would be replaced")
        return targets

    def names(self, heading: str) -> tuple[str, list[str]] | None:
        """Return what a table names the files by; one file needs no name."""
        return (heading, [path.name for path in self.paths]) if self.several else None

    def make_folder(self, output: Path) -> None:
        """Make the folder of the outputs, which have the names of the inputs.

        Raises:
            ValueError: Two inputs have one name.

        """
        counts = Counter(stem(path) for path in self.paths)
        for name, count in counts.items():
            if count > 1:
                raise ValueError(f"expected files of different names, got {name} twice")
        output.mkdir(parents=True, exist_ok=True)


def stem(path: Path) -> str:
    """Return a file's name without ``.nii`` or ``.nii.gz``."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


@dataclass(frozen=True)
class Task:
    """What is to be done with one file.

    Attributes:
        source: The file, or the folder of its parts; what it is named by.
        outputs: The files that will be written.
        beside: The other files that the outputs depend on.

    """

    source: Path
    outputs: list[Path]
    beside: tuple[Path, ...] = ()

    @property
    def inputs(self) -> list[Path]:
        """All files that the outputs depend on."""
        return [self.source, *self.beside]


@dataclass(frozen=True)
class Command:
    """What a command does with a file.

    Attributes:
        work: Does a task, and yields rows.
        need: The bytes that a source takes, about; called before any work.
        options: All that the outputs depend on, but for the sources.

    """

    work: Callable[[Task], Iterable[Row]]
    need: Callable[[Path], int]
    options: dict[str, Any]


def run(command: Command, tasks: Sequence[Task], rows: Rows, folder: Path | None) -> None:
    """Do all tasks, and print the rows of each.

    Args:
        command: What is done.
        tasks: One for each file.
        rows: Where they are printed.
        folder: Of several files: the outputs' folder, which remembers what is done. A file that was
            done with the same options is not done again, if neither it nor its outputs have changed
            since.

    Raises:
        typer.Exit: With status 1, when a file of several failed; each has its line on stderr.

    """
    if folder is None:
        _run_one(command, tasks[0], rows)
        return
    failed = 0
    with _progress(len(tasks)) as advance:
        for task, outcome in _outcomes(command, tasks, folder):
            if isinstance(outcome, BaseException):
                failed += 1
                text = " ".join(_message(outcome, task.source).split())
                typer.echo(f"marginseg: {text}", err=True)
            else:
                for row in outcome:
                    rows.add(row, task.source.name)
            advance()
    if failed:
        typer.echo(f"marginseg: {failed} of {len(tasks)} files failed", err=True)
        raise typer.Exit(FAILED)


def _run_one(command: Command, task: Task, rows: Rows) -> None:
    """Do one task; its bar goes on with each output, which the rows' first cell tells."""
    seen = None
    with _progress(len(task.outputs)) as advance:
        for row in command.work(task):
            rows.add(row)
            if row[0] != seen:
                seen = row[0]
                advance()


def _outcomes(
    command: Command, tasks: Sequence[Task], folder: Path
) -> Iterator[tuple[Task, list[Row] | BaseException]]:
    """Yield what becomes of each task, in their order."""
    record = Record(folder / RECORD, command.options)
    known = [record.rows(task) for task in tasks]
    waiting = [task for task, rows in zip(tasks, known, strict=True) if rows is None]

    def work(task: Task) -> list[Row]:
        state = _states(task.inputs)
        rows: list[Row] = [list(row) for row in command.work(task)]
        record.add(task, state, rows)
        return rows

    with _pool(command, waiting, work) as futures:
        for task, rows in zip(tasks, known, strict=True):
            if rows is not None:
                yield task, rows
                continue
            try:
                found = futures.pop(0).result()
            except BLAMED as error:
                yield task, error
            else:
                yield task, found


class Record:
    """What is done in a folder, and how; each file is added when it is done."""

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        from marginseg.files.records import read_records

        self._path = path
        self._options = options
        self._lock = threading.Lock()
        fields = ["source", "state", "options", "written", "rows"]
        self._done = {entry["source"]: entry for entry in read_records(path, fields)}

    def rows(self, task: Task) -> list[Row] | None:
        """Return what was printed of a task, if all that it depends on is as it was."""
        entry = self._done.get(str(task.source.resolve()))
        if (
            entry is None
            or entry["options"] != self._options
            or entry["state"] != _states(task.inputs)
            or entry["written"] != _states(task.outputs)
        ):
            return None
        return list(entry["rows"])

    def add(self, task: Task, state: list[list[int]], rows: list[Row]) -> None:
        """Remember a task that is done, whose inputs were in this state when it was begun."""
        from marginseg.files.records import write_json

        source = str(task.source.resolve())
        entry = {
            "source": source,
            "state": state,
            "options": self._options,
            "written": _states(task.outputs),
            "rows": rows,
        }
        with self._lock:
            self._done[source] = entry
            write_json(self._path, list(self._done.values()))


def _states(paths: Iterable[Path]) -> list[list[int]]:
    """Return of each file what changes when it does; of one that is not there, nothing."""
    return [_state(path) for path in paths]


def _state(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


@contextmanager
def _pool(
    command: Command, tasks: Sequence[Task], work: Callable[[Task], list[Row]]
) -> Iterator[list[Future[list[Row]]]]:
    """Work in as many threads as there are cores, and as memory has room for.

    Decompression, kernels and array operations run without the interpreter's lock. Where files are
    done side by side, each takes one thread of torch's.
    """
    import torch

    def need(task: Task) -> int:
        try:
            return command.need(task.source)
        except BLAMED:
            return 0  # it fails when its turn comes

    def work_in_a_thread(task: Task) -> list[Row]:
        if threads > 1:
            torch.set_num_threads(1)
        return work(task)

    room = available_memory() // 2 // max(1, *map(need, tasks), 0)
    threads = max(1, min(len(os.sched_getaffinity(0)), len(tasks), room))
    pool = ThreadPoolExecutor(threads)
    try:
        yield [pool.submit(work_in_a_thread, task) for task in tasks]
    finally:
        pool.shutdown(cancel_futures=True)


def available_memory() -> int:
    """Return the bytes that this machine can give without swapping, about."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _message(error: BaseException, source: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename or source)}: {error.strerror}"
    text = str(error) or type(error).__name__
    if text.startswith(f"{source}: "):
        return text
    return f"{source}: {named_by_option(text)}"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr, where that is a terminal and there is more than one thing to do."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    # Rows that go to the terminal too are printed above the bar; a file gets them as they are.
    bar = Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
