"""The formats that figures are written in: a file's suffix tells which."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: By suffix, as Matplotlib calls them.
FORMATS: Final = {".png": "png", ".pdf": "pdf", ".svg": "svg"}


def format_of(path: Path) -> str:
    """Return the format of a picture.

    Raises:
        ValueError: No figure is written in it.

    Example:
        >>> format_of(Path("figure.PDF"))
        'pdf'

    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(FORMATS)
        raise ValueError(f"{path}: expected a name that ends in {known}") from None
