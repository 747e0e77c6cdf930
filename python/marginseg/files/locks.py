"""Who works where: a lock that the system frees, and a heartbeat for those it does not reach.

The lock is the system's (flock): it ends with the process that holds it, however that ends. Some
file systems keep locks within one machine, or have none. So the holder also renews the file's time,
and from another machine a fresh time means that somebody works there.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

#: The name of the lock's file; it stands in the folder that it locks.
LOCK = ".lock"

#: Seconds from one renewal of the file's time to the next.
BEAT = 5.0

#: After so many seconds without a renewal the holder counts as gone.
SILENCE = 60.0


class LockedError(ValueError):
    """Another process works in the folder."""


@contextmanager
def locked(folder: Path, *, patience: float, take_over: bool = False) -> Iterator[None]:
    """Hold a folder's lock.

    Args:
        folder: It is there.
        patience: Seconds to wait for another process to let go.
        take_over: Whether to go on without the lock when its holder has not renewed the file's
            time for ``SILENCE`` seconds: a machine that died can leave a lock on a file server.
            Then a holder that does renew it is needed for a refusal.

    Raises:
        LockedError: Another process holds it.
        OSError: The lock's file cannot be written.

    """
    path = folder / LOCK
    with path.open("a") as file:
        _acquire(file, path, patience, take_over)
        _sign(file, path)
        stop = threading.Event()
        beat = threading.Thread(target=_beat, args=(file.fileno(), stop), daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            with suppress(OSError):
                file.truncate(0)


def is_locked(folder: Path) -> bool:
    """Whether a process works in a folder, as far as this machine can tell.

    A machine that died counts for ``SILENCE`` seconds, where the file system has no locks that
    other machines see.
    """
    try:
        with (folder / LOCK).open() as file:
            here = True
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                here = False
            holder = file.read()
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return False
    if here and holder == socket.gethostname():
        return False
    return bool(holder) and age < SILENCE


def _acquire(file: IO[str], path: Path, patience: float, take_over: bool) -> None:
    started = heard = time.monotonic()
    beat = path.stat().st_mtime_ns
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:
            return  # the file system has no locks
        else:
            return
        now = time.monotonic()
        if path.stat().st_mtime_ns != beat:
            beat, heard = path.stat().st_mtime_ns, now
        if take_over and now - heard > SILENCE:
            return
        if now - started > patience and (heard > started or not take_over):
            raise LockedError(f"another process works in {path.parent}")
        time.sleep(0.05)


def _sign(file: IO[str], path: Path) -> None:
    """Write who holds the lock; past the file's buffer, which would be tried again at its end."""
    try:
        file.truncate(0)
        os.write(file.fileno(), socket.gethostname().encode())
    except OSError as error:
        error.filename = str(path)  # a disk that is full names no file
        raise


def _beat(descriptor: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with suppress(OSError):
            os.utime(descriptor)
