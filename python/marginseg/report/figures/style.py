"""What all figures have in common: colours, markers and line styles of the methods; writing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from marginseg.files.atomic import replacing

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


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 130) -> Path:
    """Write a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    target = Path(path)
    with replacing(target) as file:
        figure.savefig(
            file, format="png", dpi=dpi, facecolor="white", bbox_inches="tight", pad_inches=0.12
        )
    return target
