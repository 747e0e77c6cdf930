"""Where tables of text and numbers are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: A file or a pipe has no width: rich would take 80 columns, and fold or cut what is wider.
WIDTH = 10_000


def console() -> Console:
    """Return stdout as a console: as wide as a terminal, or as what is printed."""
    import sys

    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH
    return Console(highlight=False, markup=False, width=width)
