"""Ceilings in numbers, files and a figure."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from marginseg.report import ceilings_table, summarise_ceilings, write_ceilings
from marginseg.report.figures import ceilings as module
from marginseg.report.figures.ceilings import ceilings_figure
from marginseg.study import CaseCeiling, Ceiling

STRUCTURES = ("kidney", "thin [bold]tube[/] & $x$")
LEVELS = (0.0, 0.03, 0.06)
SETTINGS = {"data": "phantom", "units": "extent"}


def made_up(cases: int = 9, structures: tuple[str, ...] = STRUCTURES) -> list[CaseCeiling]:
    rng = np.random.default_rng(0)
    rows = []
    for structure in structures:
        for case in range(cases):
            for std in LEVELS:
                sup, half = 1 - std * rng.uniform(3, 6), 1 - std * rng.uniform(6, 9)
                ceiling = Ceiling(sup, sup / 2, *rng.uniform(0.5, 1.2, 1), half, half, 0.99)
                rows.append(CaseCeiling(structure, std, f"case_{case}", 100 + case, ceiling))
    return rows


def test_means_and_spreads_are_those_of_the_cases() -> None:
    found = made_up()
    table = summarise_ceilings(found)
    assert [(row["structure"], row["std"], row["n"]) for row in table] == [
        (structure, std, 9) for structure in STRUCTURES for std in LEVELS
    ]
    for row in table:
        here = [r.ceiling for r in found if (r.structure, r.std) == (row["structure"], row["std"])]
        values = {name: [getattr(c, name) for c in here] for name in Ceiling._fields}
        values["gain"] = [c.sup_dice - c.dice_at_half for c in here]
        for name, numbers in values.items():
            assert row[name] == pytest.approx(
                {
                    "mean": np.mean(numbers),
                    "sd": np.std(numbers, ddof=1),
                    "low": np.percentile(numbers, 5),
                    "high": np.percentile(numbers, 95),
                }
            )


def test_every_case_is_in_the_csv_file(tmp_path: Path) -> None:
    found = made_up()
    table, record, picture = write_ceilings(
        tmp_path / "new", found, settings=SETTINGS, skipped=[("kidney", "s7", "it is empty: s7")]
    )
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found)
    for row, case in zip(rows, found, strict=True):
        assert (row["structure"], row["name"]) == (case.structure, case.name)
        assert (float(row["std"]), int(row["voxels"])) == (case.std, case.voxels)
        for name, value in case.ceiling._asdict().items():
            assert float(row[name]) == pytest.approx(value, abs=5.1e-7)
        gain = case.ceiling.sup_dice - case.ceiling.dice_at_half
        assert float(row["gain"]) == pytest.approx(gain, abs=5.1e-7)
    content = json.loads(record.read_text(encoding="utf-8"))
    assert content["settings"] == SETTINGS
    assert content["table"] == summarise_ceilings(found)
    assert content["skipped"] == [
        {"structure": "kidney", "name": "s7", "reason": "it is empty: s7"}
    ]
    with Image.open(picture) as image:
        assert min(image.size) > 400
    assert sorted(path.name for path in table.parent.iterdir()) == [
        "ceilings.csv",
        "ceilings.json",
        "ceilings.png",
    ]


def test_one_case_has_no_spread(tmp_path: Path) -> None:
    found = made_up(cases=1)
    _, record, _ = write_ceilings(tmp_path, found, settings=SETTINGS)
    row = json.loads(record.read_text(encoding="utf-8"))["table"][1]
    assert row["threshold"]["sd"] is None
    assert row["threshold"]["low"] == row["threshold"]["mean"] == found[1].ceiling.threshold


def test_a_figure_in_another_format_takes_the_place_of_the_first(tmp_path: Path) -> None:
    found = made_up(structures=("kidney",))
    for suffix, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        picture = write_ceilings(tmp_path, found, settings=SETTINGS, suffix=suffix)[-1]
        assert picture.read_bytes().startswith(start)
        assert [path.suffix for path in tmp_path.glob("ceilings.*") if "j" not in path.suffix] in (
            [".csv", suffix],
            [suffix, ".csv"],
        )


def drawn(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, units: str) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure) or path)
    ceilings_figure("f.png", rows, units=units)
    return figures[0]


def test_the_figure_draws_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "b", "c", "d")
    rows = summarise_ceilings(made_up(structures=names))
    shuffled = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    shuffled.sort(key=lambda row: row["structure"])
    figure = drawn(shuffled, monkeypatch, "mm")
    axes = np.reshape(figure.axes, (4, 3))
    for place, name in enumerate(names):
        upper, lower = axes[2 * (place // 3)][place % 3], axes[2 * (place // 3) + 1][place % 3]
        here = [row for row in rows if row["structure"] == name]
        assert upper.get_title() == name
        assert lower.get_xlabel() == "noise level a (mm)"
        lines = [*upper.lines, lower.lines[0]]
        for line, measure in zip(lines, ("sup_dice", "dice_at_half", "threshold"), strict=True):
            assert list(line.get_xdata()) == list(LEVELS)
            assert list(line.get_ydata()) == [row[measure]["mean"] for row in here]
        # Nothing of a band is cut off.
        for axis, measures in ((upper, ("sup_dice", "dice_at_half")), (lower, ("threshold",))):
            bottom, top = axis.get_ylim()
            assert bottom <= min(row[measure]["low"] for row in here for measure in measures)
            assert top >= max(row[measure]["high"] for row in here for measure in measures)
    assert [axis.get_visible() for axis in axes.flat] == [True] * 7 + [False] * 2 + [True] + [
        False
    ] * 2


def test_one_level_is_drawn_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for std in (0.0, 0.03):
        found = [row for row in made_up() if row.std == std]
        path = ceilings_figure(tmp_path / "f.png", summarise_ceilings(found))
        assert path.stat().st_size > 1000


def test_the_table_fits_and_says_where_a_threshold_is_worth_it() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(ceilings_table(summarise_ceilings(made_up())))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    assert "thin [bold]tube[/] & $x$: std 0.03, 0.06" in text
    flat = [row._replace(ceiling=row.ceiling._replace(dice_at_half=1.0)) for row in made_up()]
    console = Console(file=io.StringIO(), width=80)
    console.print(ceilings_table(summarise_ceilings(flat)))
    assert "kidney: at no std here" in console.file.getvalue()  # type: ignore[attr-defined]
