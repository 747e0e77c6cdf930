"""Numbers of another study, or of a publication, to print beside a study's own."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marginseg.files.names import printable
from marginseg.files.numbers import parse_number
from marginseg.report.summary import REFERENCES

#: What no mean of a study comes near; those of Dice lie within 0 and 1.
LARGEST = 1_000_000

#: Table 1 of Nordström, Hult and Maki (arXiv 2304.04116v3): mean Dice against the noisy test label
#: over five folds of 400 TotalSegmentator cases.
TABLE_1 = Path(__file__).with_name("table1.csv")

_REQUIRED = ("structure", "std", "method", "mean")


@dataclass(frozen=True)
class Comparison:
    """Means of another table.

    Attributes:
        name: The file's, with its folder's, for the reader.
        means: By structure, std (as ``%g`` writes it), method and reference.

    """

    name: str
    means: Mapping[tuple[str, str, str, str], float]

    def mean(self, row: Mapping[str, Any]) -> float | None:
        """Return the other table's mean for a row of a summary table, or None."""
        return self.means.get(_key(row["structure"], row["std"], row["method"], row["reference"]))

    def rows(self, table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the numbers that both have, with ``difference`` = ours less theirs."""
        found = []
        for row in table:
            other = self.mean(row)
            if other is not None:
                names = ("structure", "std", "method", "reference")
                found.append(
                    {
                        **{name: row[name] for name in names},
                        "ours": row["mean"],
                        "theirs": other,
                        "difference": row["mean"] - other,
                    }
                )
        return found

    def unmatched(self, table: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the rows that a summary table has no counterpart of, as words."""
        ours = {_key(r["structure"], r["std"], r["method"], r["reference"]) for r in table}
        return [
            f"{structure}, std {std}, {method}, {reference}"
            for structure, std, method, reference in self.means
            if (structure, std, method, reference) not in ours
        ]


def published_table(data: str, structures: Sequence[str], std: Sequence[float]) -> Path | None:
    """Return the paper's Table 1 for a study on what it is about, else None.

    Args:
        data: The kind of data.
        structures: What is segmented.
        std: Noise levels.

    Example:
        >>> published_table("totalsegmentator", ["aorta"], [0.02]).name
        'table1.csv'
        >>> published_table("totalsegmentator", ["aorta"], [0.05])
        >>> published_table("phantom", ["tube"], [0.02])

    """
    if data != "totalsegmentator":
        return None
    known = {(structure, level) for structure, level, *_ in read_comparison(TABLE_1).means}
    ours = {(structure, f"{level:g}") for structure in structures for level in std}
    return TABLE_1 if known & ours else None


def read_comparison(compare: str | os.PathLike[str]) -> Comparison:
    r"""Read a table to compare with.

    Args:
        compare: A CSV file in the format of a study's ``table.csv``. The columns ``structure``,
            ``std``, ``method`` and ``mean`` are needed; ``reference`` is ``noisy`` where it is
            missing or empty; others are ignored, and so are rows without a mean.

    Raises:
        OSError: The file can't be read.
        ValueError: It isn't such a table; the message says where.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "theirs.csv"
        ...     _ = path.write_text("structure,std,method,mean\ntube,0.02,CE(0),0.8\n")
        ...     read_comparison(path).means
        {('tube', '0.02', 'CE(0)', 'noisy'): 0.8}

    """
    path = Path(compare)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = reader.fieldnames or ()
            missing = [name for name in _REQUIRED if name not in columns]
            if missing:
                raise ValueError(
                    f"compare: expected the columns {', '.join(_REQUIRED)} in {path}, "
                    f"{', '.join(missing)} missing"
                )
            lines = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError:
        raise ValueError(f"compare: expected a CSV file in UTF-8, {path} is none") from None
    except csv.Error as error:
        raise ValueError(f"compare: {path}: {error}") from None
    means: dict[tuple[str, str, str, str], float] = {}
    for number, row in lines:
        where = f"compare: line {number} of {path}"
        cells = {name: (row.get(name) or "").strip() for name in (*_REQUIRED, "reference")}
        if not cells["mean"]:
            continue
        for name in ("structure", "method"):
            if not cells[name]:
                raise ValueError(f"{where}: expected a {name}, got none")
        std = _number(cells["std"], f"{where}: std")
        mean = _number(cells["mean"], f"{where}: mean")
        key = _key(cells["structure"], std, cells["method"], cells["reference"] or "noisy")
        low, high = (0, 1) if key[3] in REFERENCES else (-LARGEST, LARGEST)
        if not low <= mean <= high:
            raise ValueError(f"{where}: mean: expected {low} to {high}, got {cells['mean']}")
        if key in means:
            raise ValueError(
                f"{where}: expected each row once, got {printable(', '.join(key))} again"
            )
        means[key] = mean
    if not means:
        raise ValueError(f"compare: expected rows with a mean in {path}, got none")
    parent = path.absolute().parent.name
    return Comparison(f"{parent}/{path.name}" if parent else path.name, means)


def _key(structure: str, std: float, method: str, reference: str) -> tuple[str, str, str, str]:
    # As a table has it, which a study writes with what is unseen escaped.
    return printable(structure).strip(), f"{std:g}", method, reference


def _number(text: str, where: str) -> float:
    try:
        number = parse_number(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: expected a number, got {text!r}")
    return number
