"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

#: How the names of temporary files begin; a killed process may leave one.
LEFTOVER: Final = ".unfinished-"


@contextmanager
def replacing(path: Path, *, fsync: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing; it takes that name when all went well.

    This is the one way in which the package writes files. Any number of threads and processes may
    write the same path at once: the last one's file is kept.

    Args:
        path: The file's name. Its folder is there; an existing file is replaced. Where it is a
            link, the link itself is replaced: resolve it first to keep it.
        fsync: Whether to wait until the content is on the disk. A process that is killed leaves
            its writes to the system, but a machine that loses power could keep the new name and
            not the content. Without it, writing is faster: right for what can be made again.

    Raises:
        OSError: The file cannot be written; then nothing is left behind, and what stood under
            ``path`` stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a") as file:
        ...         _ = file.write(b"whole")
        ...     (Path(folder) / "a").read_bytes()
        b'whole'

    """
    # The path's own name is no part of the temporary one, which could get too long for a file.
    temporary = path.with_name(f"{LEFTOVER}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            yield file
            if fsync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        told: BaseException | None = error
        while told is not None:  # torch raises an error of its own, in whose context the disk's is
            if isinstance(told, OSError) and told.filename in (None, str(temporary)):
                # The name that the caller knows: a disk that is full names no file at all.
                told.filename = str(path)
            told = told.__context__
        with suppress(OSError):
            temporary.unlink()
        raise


def refuse_circle(path: Path) -> None:
    """Refuse to write where a link leads round in a circle.

    Raises:
        OSError: It does; the error names the path.

    """
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left in ``folder``; nobody else may be writing there."""
    for path in folder.glob(f"{LEFTOVER}*"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())
