"""A disk that becomes full, for the tests of what writes: in this process, at the n-th write."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NEVER = 10**9


class Disk:
    """Counts what needs room, and has none after so many times: then it stays full."""

    def __init__(self, room: int) -> None:
        self.room, self.asked = room, 0

    @property
    def is_full(self) -> bool:
        return self.asked > self.room

    def ask(self, path: object = None) -> None:
        self.asked += 1
        if self.is_full:
            reason = os.strerror(errno.ENOSPC)
            # A call that is given a path tells it, and one that is given a descriptor cannot.
            raise OSError(errno.ENOSPC, reason, *([str(path)] if path else []))


@contextmanager
def disk_of(room: int) -> Iterator[Disk]:
    """Fail what makes, fills, names or syncs files after so many times, in all threads."""
    disk = Disk(room)

    class Raw(io.FileIO):
        def write(self, content: Any) -> int:
            disk.ask()
            return super().write(content)

        def truncate(self, size: int | None = None) -> int:
            if size:  # holes take room when they are filled; what is emptied needs none
                disk.ask()
            return super().truncate(size)

    plain_open = Path.open

    def opened(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wxa+"):
            return plain_open(self, mode, *arguments, **options)
        if not self.exists():
            disk.ask(self)
        buffered = io.BufferedWriter(Raw(self, mode.replace("b", "")))
        return buffered if "b" in mode else io.TextIOWrapper(buffered)

    def asking(call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(self: Any, *arguments: Any, **options: Any) -> Any:
            if not (isinstance(self, Path) and call is Path.mkdir and self.exists()):
                disk.ask(self if isinstance(self, Path) else None)
            return call(self, *arguments, **options)

        return asked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", asking(Path.mkdir))
        patch.setattr(Path, "replace", asking(Path.replace))
        patch.setattr(os, "fsync", asking(os.fsync))
        patch.setattr(os, "write", asking(os.write))
        patch.setattr(Path, "open", opened)
        yield disk
