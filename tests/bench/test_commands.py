"""What the benchmark of the commands runs, and what it sees of a process's memory."""

from __future__ import annotations

import json
import math

import pytest

from bench import commands, record


def test_every_command_has_a_row():
    rows = list(commands.measure(edge=16, turns=1))
    assert [row.command.split()[0] for row in rows] == [
        "noise",
        "threshold",
        "threshold",
        "marginals",
        "marginals",
    ]
    for row in rows:
        assert row.seconds > 0
        assert row.peer_seconds > 0
        assert math.isfinite(row.ratio)
        assert len(commands.cells(record.plain(row))) == len(commands.HEADINGS)
    assert rows[2].peer.startswith("decompression by ")


def test_the_page_is_what_the_numbers_make():
    stored = json.loads((record.FOLDER / "commands.json").read_text())
    assert (record.FOLDER / "commands.md").read_text() == commands.markdown(stored)


def test_memory_is_seen():
    idle = commands.run("import time; time.sleep(0.1)")
    held = commands.run("import time; a = bytearray(b'1') * 60_000_000; time.sleep(0.1); print(7)")
    assert held.output == "7\n"
    assert held.seconds > 0.1
    assert 55e6 < held.anonymous_bytes - idle.anonymous_bytes < 70e6
    assert 55e6 < held.peak_bytes - idle.peak_bytes < 70e6


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no such thing"):
        commands.run("raise SystemExit('no such thing')")
