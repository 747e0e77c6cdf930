"""What is told of a run that failed."""

from __future__ import annotations

import errno

from marginseg.study.run import one_line


def test_a_full_disk_is_named_behind_torchs_error() -> None:
    error = RuntimeError("unexpected pos 64 vs 0")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device", "checkpoint.pt")
    assert one_line(error) == "OSError: [Errno 28] No space left on device: 'checkpoint.pt'"
