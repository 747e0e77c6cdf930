"""The cache: prepared cases, made once, in parallel, and found again by what they were made from.

The name of an entry ends in a hash of everything that the case depends on, so a changed source or
another parameter is another file, and a stale one is never read. A damaged entry is made again. A
case whose files say that it cannot be used leaves a file with the reason, so that it costs nothing
the next time. Whatever stops the work, what is there is whole and is used when it goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from marginseg.data.dataset import (
    Case,
    CaseProgress,
    Dataset,
    EmptyDatasetError,
    RejectedCaseError,
    UnusableCaseError,
)
from marginseg.data.entries import CachedCases, is_intact, write_entry
from marginseg.data.manifest import FoundFile, Prepared, write_manifest
from marginseg.files.atomic import remove_leftovers, replacing
from marginseg.files.names import as_file_name

#: Part of every key. Raise it when the preparation of a case changes its arrays or its reasons.
FORMAT = 3


@dataclass(frozen=True)
class Source:
    """A case that can be made.

    Attributes:
        name: The case's name.
        files: What it is read from; their paths, sizes and times are part of the key.
        parameters: Everything else it depends on, as JSON.
        make: Makes it, or raises :class:`~marginseg.data.dataset.UnusableCaseError`.

    """

    name: str
    files: tuple[Path, ...]
    parameters: Mapping[str, object]
    make: Callable[[], Case]

    def found(self) -> tuple[FoundFile, ...]:
        """Look up the files as they are now.

        Raises:
            UnusableCaseError: One is missing.

        """
        found = []
        for path in self.files:
            try:
                status = path.stat()
            except (OSError, ValueError) as error:  # ValueError: no file can have this name
                reason = getattr(error, "strerror", None) or error
                raise UnusableCaseError("a file is missing", f"{path.name} ({reason})") from error
            found.append(FoundFile(path, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def key(self, found: Sequence[FoundFile]) -> str:
        """Return the hash of files and parameters that the entry's name ends in.

        Args:
            found: The files, from :meth:`found`.

        Returns:
            24 hexadecimal digits.

        """
        files = [[str(file.path.resolve()), file.size, file.mtime_ns] for file in found]
        facts = {"format": FORMAT, "name": self.name, "files": files, **self.parameters}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def default_cache_dir() -> Path:
    """Return ``$MARGINSEG_CACHE``, or ``marginseg`` under ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, MARGINSEG_CACHE="/scratch/prepared"):
        ...     str(default_cache_dir())
        '/scratch/prepared'

    """
    chosen = os.environ.get("MARGINSEG_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marginseg"


def prepare(
    structure: str,
    sources: Sequence[Source],
    *,
    patch_shape: tuple[int, ...],
    spacing: tuple[float, ...] | None,
    max_cases: int | None,
    cache_dir: str | os.PathLike[str] | None,
    root: Path | None = None,
    parameters: Mapping[str, object] | None = None,
    rule: str = "",
    progress: CaseProgress | None = None,
) -> Dataset:
    """Return the data set of the first usable sources, and write its manifest.

    Entries that the cache holds intact are taken from it, others are made and written, on all
    processors that this process may use. The cases are those that one after the other would give,
    and no source after the last of them is looked at.

    Args:
        structure: What the cases show.
        sources: In the order in which they are wanted.
        patch_shape: Voxels of every case.
        spacing: Millimetres a voxel of every case, or None where each has its own.
        max_cases: How many usable ones are wanted, >= 1; None: all.
        cache_dir: Where entries and manifest are kept; None is :func:`default_cache_dir`.
        root: The data set's folder, which the manifest names files relative to.
        parameters: What is the same for all sources, for the manifest.
        rule: Which cases are kept, in words, for the manifest.
        progress: Called in this thread with each source in turn.

    Raises:
        ValueError: ``max_cases`` is below 1, or ``cache_dir`` cannot be written.
        EmptyDatasetError: No source can be used.

    """
    if max_cases is not None and max_cases < 1:
        raise ValueError(f"max_cases: expected at least 1, or None, got {max_cases}")
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"cache_dir: cannot make the folder {folder} ({reason})") from error
    wanted = len(sources) if max_cases is None else min(max_cases, len(sources))
    prepared: list[Prepared] = []
    skipped: list[tuple[str, str]] = []

    def fetch(source: Source) -> Prepared | UnusableCaseError:
        try:
            return _fetch(source, structure, folder, patch_shape)
        except UnusableCaseError as reason:
            return reason

    with _at_work(folder):
        with closing(_in_turn(fetch, sources, wanted, folder)) as outcomes:
            for source, outcome in outcomes:
                if isinstance(outcome, UnusableCaseError):
                    skipped.append((source.name, str(outcome)))
                else:
                    prepared.append(outcome)
                if progress is not None:
                    progress(len(prepared) + len(skipped), len(prepared), wanted)
        if not prepared:
            raise EmptyDatasetError(f"structure {structure!r}: {_why_empty(skipped)}", skipped)
        facts = {
            **(parameters or {}),
            "patch_shape": patch_shape,
            "spacing": spacing,
            "max_cases": max_cases,
        }
        with _blaming(folder):
            manifest = write_manifest(folder, structure, facts, rule, prepared, skipped, root)
    cases = CachedCases([case.name for case in prepared], [case.file for case in prepared])
    return Dataset(structure, cases, skipped, patch_shape, spacing, manifest)


def _fetch(source: Source, structure: str, folder: Path, patch_shape: tuple[int, ...]) -> Prepared:
    """Return the entry of one source, made if it has to be, or raise an UnusableCaseError."""
    found = source.found()
    path = folder / f"{as_file_name(f'{source.name}-{structure}')}-{source.key(found)}.npy"
    if not is_intact(path, patch_shape):
        rejection = path.with_suffix(".rejected")
        with suppress(OSError, ValueError):
            what, details = rejection.read_text(encoding="utf-8").split(": ", 1)
            raise RejectedCaseError(what, details)
        try:
            case = source.make()
        except RejectedCaseError as reason:
            with replacing(rejection, fsync=False) as file:
                file.write(str(reason).encode())
            raise
        write_entry(path, case)
    return Prepared.read(source.name, path, found)


def _in_turn(
    fetch: Callable[[Source], Prepared | UnusableCaseError],
    sources: Sequence[Source],
    wanted: int,
    folder: Path,
) -> Generator[tuple[Source, Prepared | UnusableCaseError], None, None]:
    """Yield what comes of each source, in order, until as many are usable as are wanted.

    Threads serve better than processes: decompression and array operations run without the
    interpreter's lock, nothing has to be started or sent, and a kill leaves no orphan behind. No
    more are at work than are still wanted, so none is looked at in vain.
    """
    threads = len(os.sched_getaffinity(0))
    waiting = iter(sources)
    pending: deque[tuple[Source, Future[Prepared | UnusableCaseError]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        while wanted:
            for source in islice(waiting, max(0, min(2 * threads, wanted) - len(pending))):
                pending.append((source, pool.submit(fetch, source)))
            if not pending:
                break
            source, future = pending.popleft()
            with _blaming(folder):
                outcome = future.result()
            wanted -= isinstance(outcome, Prepared)
            yield source, outcome
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _at_work(folder: Path) -> Iterator[None]:
    """Remove what killed processes left half-written, unless others are at work in the folder.

    The folder's lock is shared by those at work; the system frees it however a process ends.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # Others are at work, or the file system has no locks.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_leftovers(folder)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _blaming(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line that names the cache."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"cache_dir: cannot write in {folder} ({reason})") from error


def _why_empty(skipped: Sequence[tuple[str, str]]) -> str:
    if not skipped:
        return "there are no cases"
    name, reason = skipped[0]
    others = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"no usable case is left ({name}: {reason}{others})"
