"""Names that come from files, of labels, cases and folders, are data, whatever stands in them.

What a medium takes for an instruction is escaped where it is written for that medium: figures by
:func:`marginseg.report.figures.style.drawn_name`, LaTeX by :func:`marginseg.report.latex.escape`,
HTML by the page's template; Rich gets :class:`rich.text.Text`. What no medium shows is escaped
here.
"""

from __future__ import annotations

import re

#: Control characters, marks that turn the direction of writing, and half characters (surrogates),
#: which stand for bytes of a file's name that are no text.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff0-\uffff]"
)


def printable(text: str) -> str:
    r"""Return a text of one line in which everything is seen, and that every encoding of text has.

    Example:
        >>> print(printable("a\tb\x1b[2J"))
        a\tb\x1b[2J

    """
    return _UNSEEN.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """Return what :func:`printable` does, but with the ends of lines left as they are."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: str, most: int) -> str:
    """Return a text of so many characters at most; the middle of a longer one is left out.

    Example:
        >>> shortened("inferior_vena_cava", 9)
        'infe…cava'

    """
    if len(text) <= most:
        return text
    kept = most - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def as_file_name(text: str, most: int = 120) -> str:
    """Return the text as a part of a file's name, which may have 255 bytes in all.

    Args:
        text: Any.
        most: So many bytes are kept.

    Example:
        >>> as_file_name("left kidney/2")
        'left_kidney_2'

    """
    name = re.sub(r"[^\w.-]+", "_", text)
    return name.encode()[:most].decode(errors="ignore")


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
