"""Names from files may hold anything, and no medium of a report takes them for instructions."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from rich.console import Console

from made_up_study import write_study
from marginseg.cli.tables import show
from marginseg.files.names import as_file_name, printable, printable_lines, shortened
from marginseg.report import rich_table, write_report
from marginseg.report.comparison import read_comparison
from marginseg.report.figures.style import drawn_name, save
from marginseg.report.latex import escape
from marginseg.report.summary import summary_table

NASTY = (
    "[bold red]x[/nope]",
    r"$\undefinedcmd{x}$",
    "$x$ costs $",
    "<script>alert(1)</script>&amp;",
    "100 %_\\ {x} ^ ~ # & \"'`",
    "two\nlines\r\nand\ttabs",
    "\x1b[2J\x1b]0;title\x07\x00",
    "ends \ud800 half, \udcff byte",
    "\u202eturned\u200b",
    "[*]:smile: [link=http://x]y[/link]",
    '=HYPERLINK(1),"a"',
    "器官 \U0001f9e0",
    "*",
    "long " * 2000,
)


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def rename(folder: Path, case: str) -> None:
    """Give the first case of every run another name."""
    for path in folder.glob("runs/*/result.json"):
        result = json.loads(path.read_text())
        result["cases"][0]["name"] = case
        path.write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("names", "draw"),
    [(NASTY[:7], False), (NASTY[7:], False), pytest.param(NASTY, True, marks=pytest.mark.slow)],
    ids=["first", "second", "drawn"],
)
def test_a_whole_report_of_nasty_names(
    tmp_path: Path, names: Sequence[str], draw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    write_study(study, structures=names, std=(0.05,), cases=2)
    for name in names:
        rename(study, name)
    if not draw:
        monkeypatch.setattr("marginseg.report.writing._draw", lambda *_: {})
    page = write_report(study, embed=False)
    found = Page(page.read_text(encoding="utf-8"))
    write_study(tmp_path / "plain", structures=["a", "b"], std=(0.05,), cases=2)
    other = Page(write_report(tmp_path / "plain", embed=False).read_text(encoding="utf-8"))
    assert found.tags == other.tags
    for name in names:
        assert printable_lines(name).replace("_", " ").strip() in found.text
    with (study / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["structure"] for row in rows} == {printable(name) for name in names}
    table = summary_table(study)
    assert {row["structure"] for row in table} == set(names)
    assert read_comparison(study / "table.csv").unmatched(table) == []
    latex = (study / "table.tex").read_text(encoding="utf-8")
    assert latex.count("\n\\midrule\n") == len(names)
    assert not re.search(r"(\\\\|rule)\s*[\[*]", latex)


@given(name=st.text(st.characters(), max_size=60))
@example("[/nope]")
@example(r"$\undefinedcmd{x}$")
@example("\\$")
def test_every_name_is_shown_as_it_is(name: str) -> None:
    shown = printable(name)
    assert "\n" not in shown
    shown.encode()  # no half characters
    assert printable(shown) == shown
    assert printable_lines(f"{name}\n") == f"{printable_lines(name)}\n"
    assert len(as_file_name(name * 50).encode()) <= 120
    assert "/" not in as_file_name(name)
    # Matplotlib says of what it would set as mathematics that it does, and returns what it draws.
    text = Figure().text(0, 0, drawn_name(name))
    drawn, is_mathematics = text._preprocess_math(text.get_text())
    assert not is_mathematics
    assert drawn == shortened(printable(name.replace("_", " ")), 36)
    # No brace is left open, and nothing begins a command but the escapes.
    latex = escape(name)
    assert len(re.findall(r"(?<!\\)\{", latex)) == len(re.findall(r"(?<!\\)\}", latex))
    assert not re.search(r"(?<!\\)[$&#%_]", latex)


@pytest.mark.parametrize("name", NASTY)
def test_in_the_terminal_a_name_is_text(tmp_path: Path, name: str) -> None:
    write_study(tmp_path / "study", structures=[name], std=(0.05,), cases=2)
    for print_table in (
        lambda table, file: show(table, file=file),
        lambda table, file: Console(file=file, width=20_000, force_terminal=False).print(table),
    ):
        file = io.StringIO()
        print_table(rich_table(tmp_path / "study"), file)
        assert printable(name).strip() in file.getvalue()
        assert "\x1b" not in file.getvalue()


def test_a_figure_draws_nasty_names(tmp_path: Path) -> None:
    """With the real renderer, in every format."""
    figure = Figure()
    for place, name in enumerate(NASTY):
        figure.text(0, place / len(NASTY), drawn_name(name))
    for suffix in ("png", "pdf", "svg"):
        assert save(figure, tmp_path / f"a.{suffix}").stat().st_size > 1000
