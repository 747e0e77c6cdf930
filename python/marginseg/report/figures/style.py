"""What all figures have in common: colours, markers and line styles of the methods; writing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from marginseg.files.atomic import replacing
from marginseg.files.names import printable, shortened
from marginseg.files.pictures import format_of

#: Okabe and Ito's colours, which colour-blind readers can tell apart, each with a marker.
STYLES: Mapping[str, tuple[str, str, str]] = {
    "CE(0)": ("#D55E00", "o", "cross-entropy, cut at ½"),
    "SD(0)": ("#0072B2", "s", "soft-Dice, cut at ½"),
    "CE(*)": ("#009E73", "^", "cross-entropy, cut at t*"),
    "SD(*)": ("#CC79A7", "D", "soft-Dice, cut at t*"),
}

#: Line styles tell the methods apart also where colours and markers do not.
LINES: Mapping[str, Any] = {
    "CE(0)": "dashed",
    "SD(0)": "dashdot",
    "CE(*)": "solid",
    "SD(*)": (0, (4, 1, 1, 1, 1, 1)),
}


#: Without the time of writing the same figure gives the same bytes.
TIMELESS: Mapping[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}

#: Pixels of an inch.
DPI = 130

#: The most letters of a name that a figure has room for.
LETTERS = 36


def drawn_name(text: str) -> str:
    r"""Return the name of a structure or a case as Matplotlib draws it: no mathematics, no markup.

    Example:
        >>> print(drawn_name(r"$\alpha$"), drawn_name("thin_tube"))
        \$\alpha\$ thin tube

    """
    return shortened(printable(text.replace("_", " ")), LETTERS).replace("$", r"\$")


def finish(axis: Any, structure: str) -> None:
    """Give a panel of a structure its title, and no more lines than it needs."""
    axis.set_title(drawn_name(structure), fontsize=11)
    axis.grid(axis="y", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = DPI) -> Path:
    """Write a figure in the format that the path's suffix tells, whole or not at all.

    Raises:
        OSError: The file cannot be written.
        ValueError: The suffix is none of a picture's.

    """
    target = Path(path)
    kind = format_of(target)
    FigureCanvasAgg(figure)
    # A name may have letters that the font lacks: they are drawn as boxes.
    with warnings.catch_warnings(), replacing(target) as file:
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(
            file,
            format=kind,
            dpi=dpi,
            facecolor="white",
            bbox_inches="tight",
            pad_inches=0.12,
            metadata=TIMELESS.get(kind),
        )
    return target
