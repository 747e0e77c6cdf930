"""Prepared cases on disk: one file a case, written whole, mapped into memory when read.

A file is a NumPy array of one record (image, label, spacing, checksum). Its name ends in a hash of
everything that the case depends on, so a changed source or another parameter is another file, and
a stale one is never read. The checksum finds an entry that was damaged; it is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from marginseg.data.dataset import Case, Dataset, EmptyDatasetError, UnusableCaseError

FORMAT = 1
"""Part of every key. Raise it when the preparation of a case changes its arrays."""

THREADS = min(4, os.cpu_count() or 1)
"""Cases prepared at a time: decompression runs without the interpreter's lock."""


@dataclass(frozen=True)
class Source:
    """A case that can be made.

    Attributes:
        name: the case's name.
        files: what it is read from; their paths, sizes and times are part of the key.
        parameters: everything else it depends on, as JSON.
        make: makes it, or raises `UnusableCaseError`.

    """

    name: str
    files: tuple[Path, ...]
    parameters: Mapping[str, object]
    make: Callable[[], Case]

    def key(self) -> str:
        """Hash of files and parameters. Raises `UnusableCaseError` where a file is missing."""
        files = []
        for path in self.files:
            try:
                status = path.stat()
            except OSError as error:
                raise UnusableCaseError(f"{path.name}: {error.strerror or error}") from error
            files.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
        facts = {"format": FORMAT, "name": self.name, "files": files, **self.parameters}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


class CachedCases(Sequence[Case]):
    """Cases in the cache. Arrays are mapped copy-on-write: writing to them leaves the file alone.

    Every access opens the file anew, and the arrays keep it open while they live.
    """

    def __init__(self, names: Sequence[str], files: Sequence[Path]) -> None:
        self.names = tuple(names)
        self.files = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> CachedCases: ...
    def __getitem__(self, index: int | slice) -> Case | CachedCases:
        if isinstance(index, slice):
            return CachedCases(self.names[index], self.files[index])
        return read_entry(self.files[index], self.names[index])


def default_cache_dir() -> Path:
    """``$MARGINSEG_CACHE``, or ``marginseg`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get("MARGINSEG_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marginseg"


def write_entry(path: Path, case: Case) -> None:
    """Write one case under a temporary name beside ``path``, then rename it."""
    shape = case.image.shape
    entry = np.zeros(
        1,
        dtype=[
            ("image", "<f4", shape),
            ("label", "u1", shape),
            ("spacing", "<f8", len(shape)),
            ("checksum", "<u4"),
        ],
    )
    entry["image"], entry["label"], entry["spacing"] = case.image, case.label, case.spacing
    entry["checksum"] = _checksum(entry)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, entry)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_entry(path: Path, name: str) -> Case:
    """Map one entry. Raises ValueError or OSError where the file is not a whole entry."""
    entry = _map(path)
    spacing = tuple(float(s) for s in entry["spacing"][0])
    return Case(name, entry["image"][0], entry["label"][0], spacing)


def is_intact(path: Path, patch_shape: Sequence[int]) -> bool:
    """Whether the entry is there, has the shape it should have, and is what was written."""
    try:
        entry = _map(path)
        return entry["image"].shape[1:] == tuple(patch_shape) and bool(
            entry["checksum"][0] == _checksum(entry)
        )
    except Exception:  # a damaged header raises whatever Python's tokenizer and parser raise
        return False


def _map(path: Path) -> NDArray[np.void]:
    entry: NDArray[np.void] = np.load(path, mmap_mode="c", allow_pickle=False)
    return entry


def _checksum(entry: NDArray[np.void]) -> int:
    total = 0
    for field in ("image", "label", "spacing"):
        total = zlib.crc32(np.ascontiguousarray(entry[field]).data, total)
    return total


def prepare(
    structure: str,
    sources: Sequence[Source],
    *,
    patch_shape: tuple[int, ...],
    spacing: tuple[float, ...] | None,
    max_cases: int | None,
    cache_dir: str | os.PathLike[str] | None,
) -> Dataset:
    """The data set of the first ``max_cases`` usable sources (None: of all).

    Entries that the cache holds intact are taken from it, others are made and written.

    Raises:
        ValueError: ``max_cases`` is below 1, or ``cache_dir`` cannot be written.
        EmptyDatasetError: no source can be used.

    """
    if max_cases is not None and max_cases < 1:
        raise ValueError(f"max_cases must be at least 1 or None, got {max_cases}")
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cache_dir: cannot make the folder {folder} ({error.strerror})"
        ) from error

    def fetch(source: Source) -> Path | UnusableCaseError:
        try:
            stem = re.sub(r"[^\w.-]+", "_", f"{source.name}-{structure}")
            path = folder / f"{stem}-{source.key()}.npy"
            if not is_intact(path, patch_shape):
                write_entry(path, source.make())
            return path
        except UnusableCaseError as rejection:
            return rejection

    names: list[str] = []
    files: list[Path] = []
    skipped: list[tuple[str, str]] = []
    wanted = len(sources) if max_cases is None else max_cases
    remaining = list(sources)
    with ThreadPoolExecutor(THREADS) as pool:
        while remaining and len(files) < wanted:
            batch = remaining[: max(1, min(wanted - len(files), 8 * THREADS))]
            remaining = remaining[len(batch) :]
            try:
                outcomes = list(pool.map(fetch, batch))
            except OSError as error:
                reason = error.strerror or error
                raise ValueError(f"cache_dir: cannot write in {folder} ({reason})") from error
            for source, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, UnusableCaseError):
                    skipped.append((source.name, str(outcome)))
                else:
                    names.append(source.name)
                    files.append(outcome)
    if not files:
        raise EmptyDatasetError(f"structure {structure!r}: {_why_empty(skipped)}")
    return Dataset(structure, CachedCases(names, files), skipped, patch_shape, spacing)


def _why_empty(skipped: Sequence[tuple[str, str]]) -> str:
    if not skipped:
        return "there are no cases"
    name, reason = skipped[0]
    others = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"no usable case is left ({name}: {reason}{others})"
