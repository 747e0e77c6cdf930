"""Locks on folders, and what is seen of them from elsewhere."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from full_disk import disk_of
from marginseg.files import locks


def test_a_lock_that_outlives_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SILENCE", 0.3)
    with locks.locked(tmp_path, patience=0):  # its time is renewed after 5 seconds
        before = time.monotonic()
        with locks.locked(tmp_path, patience=0, take_over=True):
            assert time.monotonic() - before >= 0.3
        with pytest.raises(locks.LockedError), locks.locked(tmp_path, patience=1):
            pass


def test_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not locks.is_locked(tmp_path / "none")
    assert not locks.is_locked(tmp_path)
    with locks.locked(tmp_path, patience=0):
        assert locks.is_locked(tmp_path)
    assert not locks.is_locked(tmp_path)
    # Of another machine's lock only the time may be seen.
    lock = tmp_path / locks.LOCK
    lock.write_text("another machine")
    assert locks.is_locked(tmp_path)
    os.utime(lock, (time.time() - 2 * locks.SILENCE,) * 2)
    assert not locks.is_locked(tmp_path)
    # Of this machine's, the lock says it: the process was killed.
    lock.write_text(locks.socket.gethostname())
    assert not locks.is_locked(tmp_path)


def test_a_lock_that_cannot_be_signed_is_named(tmp_path: Path) -> None:
    with locks.locked(tmp_path, patience=0):
        pass
    with (
        pytest.raises(OSError, match="No space left") as caught,
        disk_of(0),
        locks.locked(tmp_path, patience=0),
    ):
        pytest.fail("the lock is not held")
    assert caught.value.filename == str(tmp_path / ".lock")
    with locks.locked(tmp_path, patience=0):
        assert locks.is_locked(tmp_path)
