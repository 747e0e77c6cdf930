"""Figures as a page holds them."""

from __future__ import annotations

import base64
from pathlib import Path

from PIL import Image

from marginseg.files.atomic import replacing
from marginseg.report.figures.style import DPI

#: What a page makes of an inch of a figure.
PIXELS_PER_INCH = 88


def slim(path: Path) -> Path:
    """Write a PNG file again in 256 colours: a third of the size, and no eye sees it."""
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
        fewer = rgb.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with replacing(path) as file:
        fewer.save(file, format="PNG", optimize=True)
    return path


def embedded(path: Path) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def width(path: Path) -> int:
    """Return how wide a page shows a figure, in pixels, so that all have letters of one size."""
    with Image.open(path) as picture:
        return round(picture.width * PIXELS_PER_INCH / DPI)
