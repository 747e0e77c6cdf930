"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing; it takes that name when all went well.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a") as file:
        ...         _ = file.write(b"whole")
        ...     (Path(folder) / "a").read_bytes()
        b'whole'

    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{LEFTOVER}{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        # mkstemp lets nobody else read.
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


#: How the names of temporary files begin; a killed process may leave one.
LEFTOVER = ".unfinished-"


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left in ``folder``."""
    for path in folder.glob(f"{LEFTOVER}*"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())
