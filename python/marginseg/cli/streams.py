"""Terminals and pipes that can't print every letter get what stands nearest, and never an error."""

from __future__ import annotations

import codecs
import sys
from typing import Final

#: What a letter becomes where the encoding lacks it; others become what Python writes for them.
NEAREST: Final = {
    "–": "-",
    "−": "-",
    "—": "-",
    "━": "-",
    "…": "...",
    "≥": ">=",
    "≤": "<=",
    "½": "1/2",
    "±": "+-",
    "×": "x",
    "³": "^3",
    "ω": "omega",
}


def allow_every_letter() -> None:
    """Let stdout and stderr replace what their encoding lacks."""
    codecs.register_error("marginseg.nearest", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="marginseg.nearest")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    plain = [NEAREST.get(letter) or letter.encode("unicode_escape").decode() for letter in letters]
    return "".join(plain), error.end
