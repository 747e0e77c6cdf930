"""Tables are printed whole: into files and pipes, and in terminals that are too narrow."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
from contextlib import suppress

import pytest
from rich.table import Table

from marginseg.cli.tables import show, table


def in_terminal(shown: Table, columns: int) -> list[str]:
    """Return the lines that a terminal gets, without its colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with os.fdopen(slave, "w") as file:
        show(shown, file=file)
    parts = []
    # The other end is closed; reading beyond what it wrote is an error.
    with suppress(OSError):
        while True:
            parts.append(os.read(master, 4096))
    os.close(master)
    return re.sub(r"\x1b\[[\d;]*m", "", b"".join(parts).decode()).split("\r\n")[:-1]


def in_file(shown: Table) -> list[str]:
    file = io.StringIO()
    show(shown, file=file)
    return file.getvalue().split("\n")[:-1]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("environment", [{}, {"COLUMNS": "40"}, {"FORCE_COLOR": "1"}])
def test_a_file_gets_it_whole(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    headings = [f"a heading of number {n:02d}" for n in range(9)]
    shown = table("name", *headings, left=["name"])
    rows = [[f"{'label ' * 5}{n}", *(f"{n}.{k:08d}" for k in range(9))] for n in range(31)]
    for row in rows:
        shown.add_row(*row)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in in_file(shown)]
    assert len(lines) == 32
    assert len(lines[0]) > 200
    assert re.split(" {2,}", lines[0]) == ["name", *headings]
    assert [re.split(" {2,}", line) for line in lines[1:]] == rows
    assert {len(line) for line in lines} == {len(lines[0])}


@pytest.mark.parametrize("columns", [5, 20, 40, 60, 200])
def test_a_terminal_gets_every_number_and_folded_names(columns: int) -> None:
    shown = table("structure", "std", "voxels", "Dice", left=["structure"])
    names = ["inferior_vena_cava", "autochthon_right"]
    for name in names:
        shown.add_row(name, "0.0625", "123456789", "0.8765")
    lines = in_terminal(shown, columns)
    assert "…" not in "".join(lines)
    for line in lines:
        assert len(line) <= max(columns, 9 + 3 * 2 + 6 + 9 + 6)
        assert line == line.rstrip()
    numbers = [re.findall(r"\d[\d.]*", line) for line in lines]
    assert [found for found in numbers if found] == [["0.0625", "123456789", "0.8765"]] * 2
    # The pieces of a folded name, one below the other, make the whole.
    pieces = "".join(line.split(" ")[0] for line in lines)
    assert pieces == "structure" + "".join(names)


def test_columns_of_text_alone_end_where_their_text_ends() -> None:
    shown = table("class", "name", left=["class", "name"])
    shown.add_row("1", "a long name")
    shown.add_row("2", "b")
    assert in_file(shown) == ["class  name", "1      a long name", "2      b"]
    assert in_terminal(shown, 80) == in_file(shown)


def test_brackets_are_text() -> None:
    shown = table("Dice")
    shown.add_row("0.9 [bold]")
    assert in_file(shown)[1] == "0.9 [bold]"
