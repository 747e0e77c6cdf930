"""Colours, markers and lines of the methods, and how a figure is written."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from marginseg.report.figures.style import LINES, STYLES, save
from marginseg.study.evaluation import METHOD_ORDER, METHODS


def test_every_method_has_a_style_of_its_own() -> None:
    assert set(STYLES) == set(LINES) == set(METHOD_ORDER)
    assert set(METHOD_ORDER) == {method for pair in METHODS.values() for method in pair}
    for place in range(3):
        assert len({style[place] for style in STYLES.values()}) == 4
    assert len({str(line) for line in LINES.values()}) == 4


#: What a dichromat sees: linear RGB onto linear RGB, by Viénot, Brettel and Mollon 1999, for red-
#: and green-blindness.
BLINDNESS = {
    "protanopia": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deuteranopia": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colour_blind_readers_tell_the_methods_apart(blindness: str) -> None:
    def seen(colour: str) -> list[float]:
        linear = [value**2.2 for value in to_rgb(colour)]
        return [
            max(0.0, sum(w * v for w, v in zip(row, linear, strict=True))) ** (1 / 2.2)
            for row in BLINDNESS[blindness]
        ]

    colours = {method: seen(style[0]) for method, style in STYLES.items()}
    for one, other in combinations(colours, 2):
        apart = max(abs(a - b) for a, b in zip(colours[one], colours[other], strict=True))
        assert apart > 0.1, (one, other)


@pytest.mark.parametrize(
    ("name", "begins"),
    [("a.png", b"\x89PNG"), ("a.PNG", b"\x89PNG"), ("a.pdf", b"%PDF-"), ("a.svg", b"<?xml")],
)
def test_the_suffix_tells_the_format(tmp_path: Path, name: str, begins: bytes) -> None:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    assert save(figure, tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.png.txt", ".png"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a name that ends in \.png, \.pdf, \.svg$"):
        save(Figure(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_is_written_whole(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    path = save(figure, tmp_path / "a figure.png", dpi=50)
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a figure.png"]
    with pytest.raises(FileNotFoundError):
        save(figure, tmp_path / "none" / "a.png")
