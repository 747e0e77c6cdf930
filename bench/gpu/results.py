"""The file of each GPU's results, and its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.gpu.comparison import DeviceRow
from bench.record import file_name, plain
from bench.timing import duration
from marginseg.files.atomic import write_text

HEADINGS = (
    "op",
    "input",
    "size",
    "held against",
    "ours",
    "theirs",
    "ratio",
    "target",
    "over bytes",
)


def _cells(row: dict[str, Any]) -> list[str]:
    head = [row["op"], row["setting"], row["size"], row["rival"]]
    if row["left_out"]:
        return [*head, "–", "–", "–", row["target"], f"left out: {row['left_out']}"]
    times = [duration(row[key]["median"]) if row[key] else "" for key in ("ours", "theirs")]
    ratio = f"{row['ratio']:.3g} ×" if row["ratio"] else ""
    met = {None: "", True: ": met", False: ": **missed**"}[row["met"]]
    over = f"{row['over_bytes']:.2f}" if row["over_bytes"] else ""
    return [*head, *times, ratio, row["target"] + met, over]


def line(row: DeviceRow) -> str:
    """Return a row as text."""
    return " | ".join(_cells(plain(row)))


def table(rows: list[DeviceRow] | list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    lines += [f"| {' | '.join(_cells(plain(row)))} |" for row in rows]
    return "\n".join(lines)


def write(folder: Path, machine: dict[str, Any], rows: list[DeviceRow]) -> Path:
    """Write ``gpu-<name>.json``, a line for each row; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"gpu-{file_name(machine['gpu'])}.json"
    described = json.dumps(plain(machine), ensure_ascii=False, indent=1)
    measured = ",\n".join(json.dumps(plain(row), ensure_ascii=False) for row in rows)
    write_text(path, f'{{"machine": {described},\n"rows": [\n{measured}\n]}}\n')
    return path


def markdown(folder: Path) -> str:
    """Return the tables of all GPUs that were measured."""
    tables = []
    for path in sorted(folder.glob("gpu-*.json")):
        stored = json.loads(path.read_text())
        machine = stored["machine"]
        packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        made = f"commit {machine['commit']}, {machine['date']}"
        copies = f"copies at {machine['copy_gb_per_s']} GB/s"
        tables += [f"{machine['gpu']}, {copies}; {made}. {packages}.", ""]
        tables += [table(stored["rows"]), ""]
    return "\n".join(tables) or "Unmeasured: no GPU has been at hand."


def present(folder: Path) -> None:
    """Print the tables; once there are any, write them as a page too."""
    tables = markdown(folder)
    print(tables)
    if any(folder.glob("gpu-*.json")):
        source = "Written by `python -m bench.gpu`; [what is measured](../README.md#on-a-gpu)."
        write_text(folder / "gpu.md", f"# Results on a GPU\n\n{source}\n\n{tables}")
