"""The ceilings of data sets: means over cases, and the files that tell them."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from marginseg.files.atomic import write_text
from marginseg.files.pictures import FORMATS
from marginseg.files.records import write_json
from marginseg.report.columns import csv_text
from marginseg.report.content import finite
from marginseg.report.figures.ceilings import ceilings_figure
from marginseg.study.ceiling import CaseCeiling, Ceiling

#: The version of the layout of the JSON record.
FORMAT = 1

#: What the files are called, before their suffix.
NAME = "ceilings"

#: What t* gains over a cut at ½: the difference of two fields of a ceiling.
GAIN = "gain"

#: What is told of each case, and what means are taken of.
MEASURES = (*Ceiling._fields, GAIN)

#: The columns of the CSV file.
COLUMNS = ("structure", "std", "name", "voxels", *MEASURES)

#: The shares of the cases below the lower and the upper end of a spread.
SPREAD = (0.05, 0.95)

#: From which gain on t* is called worth it: the Dice that is told in two decimals changes.
WORTH = 0.01


def summarise_ceilings(found: Iterable[CaseCeiling]) -> list[dict[str, Any]]:
    """Return how the ceilings are distributed over cases.

    Returns:
        One row for each structure and std, in the order in which they come: ``structure``, ``std``,
        ``n`` (cases) and for each of `MEASURES` the ``mean``, ``sd`` (of the cases; NaN for one),
        and the ``low`` and ``high`` ends of the spread, the 5th and 95th percentile.

    """
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in map(_flat, found):
        groups[row["structure"], row["std"]].append(row)
    return [
        {
            "structure": structure,
            "std": std,
            "n": len(rows),
            **{measure: _distribution([row[measure] for row in rows]) for measure in MEASURES},
        }
        for (structure, std), rows in groups.items()
    ]


def levels_worth_it(
    rows: Iterable[Mapping[str, Any]], least: float = WORTH
) -> dict[str, list[float]]:
    """Return of each structure the noise levels at which t* gains so much on average.

    Args:
        rows: As from :func:`summarise_ceilings`.
        least: The smallest gain in Dice that counts.

    Returns:
        The levels, in ascending order, by structure.

    Example:
        >>> rows = [
        ...     {"structure": "tube", "std": std, "gain": {"mean": mean}}
        ...     for std, mean in ((0.06, 0.2), (0, 0.0), (0.03, 0.02))
        ... ]
        >>> levels_worth_it(rows)
        {'tube': [0.03, 0.06]}

    """
    levels: dict[str, list[float]] = {}
    for row in rows:
        here = levels.setdefault(row["structure"], [])
        # Judged by the three decimals that a reader sees.
        if round(row[GAIN]["mean"], 3) >= least:
            here.append(row["std"])
    return {structure: sorted(here) for structure, here in levels.items()}


def write_ceilings(
    output_dir: str | os.PathLike[str],
    found: Sequence[CaseCeiling],
    *,
    settings: Mapping[str, Any],
    skipped: Sequence[tuple[str, str, str]] = (),
    suffix: str = ".png",
) -> list[Path]:
    """Write the ceilings of data sets into a folder, each file whole or not at all.

    ``ceilings.csv`` has every case, ``ceilings.json`` settings, means and the cases that were left
    out, and a figure shows them. A figure in another format, of an earlier call, is removed.

    Args:
        output_dir: Made if it is new.
        found: The ceilings of all structures.
        settings: What they depend on, as JSON has it; ``units`` are those of the noise levels.
        skipped: ``(structure, name, reason)`` of every case that was left out.
        suffix: Of the figure: ``".png"``, ``".pdf"`` or ``".svg"``.

    Returns:
        The paths of the three files.

    Raises:
        OSError: A file can't be written.

    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = summarise_ceilings(found)
    table, record, picture = (folder / f"{NAME}{end}" for end in (".csv", ".json", suffix))
    write_text(table, csv_text([*map(_flat, found)], COLUMNS))
    content = {
        "format": FORMAT,
        "marginseg": version("marginseg"),
        "settings": settings,
        "spread": {"low": SPREAD[0], "high": SPREAD[1]},
        "table": rows,
        "skipped": [
            dict(zip(("structure", "name", "reason"), case, strict=True)) for case in skipped
        ],
    }
    write_json(record, finite(content))
    ceilings_figure(picture, rows, units=settings["units"])
    for other in FORMATS:
        if other != suffix:
            (folder / f"{NAME}{other}").unlink(missing_ok=True)
    return [table, record, picture]


def _flat(row: CaseCeiling) -> dict[str, Any]:
    ceiling = row.ceiling._asdict()
    # Where both cuts are one, rounding could leave less than nothing.
    gain = max(0.0, row.ceiling.sup_dice - row.ceiling.dice_at_half)
    return {
        "structure": row.structure,
        "std": float(row.std),
        "name": row.name,
        "voxels": row.voxels,
        **ceiling,
        GAIN: gain,
    }


def _distribution(values: Sequence[float]) -> dict[str, float]:
    low, high = np.quantile(values, SPREAD).tolist()
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else float("nan"),
        "low": low,
        "high": high,
    }
