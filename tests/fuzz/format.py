"""What a format of files is to those who damage it, and what its readers may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.mutations import Raw


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        seeds: Makes valid small files.
        mutated: Damages one.
        read: Writes it into an empty folder, and has all that read such files read it. Returns
            whether one of them took it; raises what no reader should.

    """

    seeds: Callable[[], list[bytes]]
    mutated: Callable[[Random, bytes, Raw], bytes]
    read: Callable[[bytes, Path], bool]


def taken(
    call: Callable[[], Any], *names: object, kinds: tuple[type[Exception], ...] = (ValueError,)
) -> bool:
    """Tell whether a call took what it was given; a refusal is one line that names the file."""
    try:
        call()
    except (OSError, *kinds) as error:
        where = [getattr(error, "filename", None) or ""]
        text = str(error)
        assert text.strip(), "an error without words"
        assert "\n" not in text, f"more than one line: {text!r}"
        named = any(str(name) in text or str(name) == where[0] for name in names)
        if names and not named:
            raise AssertionError(f"no file is named: {text!r}") from error
        return False
    return True
