"""Rows of a table that is printed while it is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import typer

#: The widest number that stands in a column: a count of voxels beyond a billion.
NUMBER = 12


class Rows:
    """A table whose rows appear as they come, whole in a terminal, a file or a pipe.

    Args:
        columns: The headings, each above numbers.
        names: The heading of a first column, and the texts that will stand there; None for none.

    """

    def __init__(self, columns: Sequence[str], names: tuple[str, Iterable[str]] | None) -> None:
        self._columns = list(columns)
        self._name = names and names[0]
        self._name_width = max(map(len, [names[0], *names[1]])) if names else 0
        self._begun = False

    def add(self, cells: Sequence[str], name: str = "") -> None:
        """Print a row, the headings before the first."""
        if not self._begun:
            self._begun = True
            self._print(self._columns, self._name or "")
        self._print(cells, name)

    def _print(self, cells: Sequence[str], name: str) -> None:
        numbers = "  ".join(
            cell.rjust(max(len(column), _WIDTHS.get(column, 0)))
            for cell, column in zip(cells, self._columns, strict=True)
        )
        typer.echo(f"{name.ljust(self._name_width)}  {numbers}" if self._name else numbers)


#: Columns whose numbers can be wider than their heading.
_WIDTHS = {"voxels": NUMBER, "ml": NUMBER, "label": 5, "class": 5, "Dice": 6, "folded": 7}
