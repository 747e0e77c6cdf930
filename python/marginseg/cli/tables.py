"""Tables of text and numbers: how they look, and how they are printed whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table

#: A column of text is folded to this width, if it must be, and no further.
TEXT = 9


def table(*columns: str, left: Sequence[str] = ()) -> Table:
    """Return an empty table.

    Args:
        columns: The headings.
        left: Those of columns of text, which may be folded; the others hold numbers.

    Example:
        >>> found = table("structure", "std", left=["structure"])
        >>> found.add_row("tube", "0.03")
        >>> show(found)
        structure   std
        tube       0.03

    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        if name in left:
            made.add_column(name, overflow="fold")
        else:
            made.add_column(name, justify="right", no_wrap=True)
    return made


def show(table: Table, *, file: TextIO | None = None) -> None:
    """Print a table without borders, and no number of it cut.

    A file or a pipe gets it as wide as it is. In a terminal that is narrower, columns of text are
    folded; where that is not enough, the lines are longer than the terminal.

    Args:
        table: Columns that may be folded are those without ``no_wrap``.
        file: Where to; None is stdout.

    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.segment import Segment, Segments

    file = sys.stdout if file is None else file
    # Of a console's width and the one that it is asked for, print() takes the smaller; what is no
    # terminal has 80 columns. And where numbers do not fit, it cuts them. So the table tells.
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    endless = console.options.update(width=sys.maxsize)
    whole = least = (len(table.columns) - 1) * (table.padding[1] + table.padding[3])
    for column in table.columns:
        cells = (column.header, *column.cells)
        width = max(Measurement.get(console, endless, cell).maximum for cell in cells)
        whole += width
        least += width if column.no_wrap else min(width, TEXT)
    console.width = max(least, min(whole, _columns(file) or whole))
    for line in console.render_lines(table, console.options, pad=False):
        # The last column is filled up to its width.
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
        console.print(Segments([*line, Segment.line()]), crop=False)


def _columns(file: TextIO) -> int:
    """Return how wide a terminal is; 0 if it does not say, and of what is none."""
    return os.get_terminal_size(file.fileno()).columns if file.isatty() else 0
