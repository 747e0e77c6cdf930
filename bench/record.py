"""The results' file: each op's results stay until that op runs again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from marginseg.files.atomic import write_text

FOLDER = Path(__file__).parent / "results"


def file_name(text: str) -> str:
    """Return a device's name as a part of a file's.

    >>> file_name("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def plain(value: Any) -> Any:
    """Turn dataclasses and named tuples into what JSON holds, with four significant digits."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(getattr(value, key)) for key in asdict(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: plain(entry) for key, entry in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def read(folder: Path) -> dict[str, Any]:
    """Return the results, or none."""
    try:
        results: dict[str, Any] = json.loads((folder / "cpu.json").read_text())
    except FileNotFoundError:
        return {"machine": {}, "results": {}}
    return results


def write(
    folder: Path, machine: dict[str, Any], name: str, rows: list[Any], order: Sequence[str]
) -> dict[str, Any]:
    """Put an op's new rows in the place of its old ones; return all results, in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    merged = read(folder)
    merged["machine"] = machine
    merged["results"][name] = {
        "commit": machine["commit"],
        "date": machine["date"],
        "rows": plain(rows),
    }
    stored = merged["results"]
    merged["results"] = {key: stored[key] for key in order if key in stored}
    write_text(folder / "cpu.json", _text(merged))
    return merged


def _text(results: dict[str, Any]) -> str:
    """Return JSON with a line for each row, so that a new run reads well as a difference."""

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    sections = []
    for name, section in results["results"].items():
        rows = ",\n".join(compact(row) for row in section["rows"])
        head = f'"commit": {compact(section["commit"])}, "date": {compact(section["date"])}'
        sections.append(f'{compact(name)}: {{{head}, "rows": [\n{rows}\n]}}')
    machine = json.dumps(results["machine"], ensure_ascii=False, indent=1)
    everything = ",\n".join(sections)
    return f'{{"machine": {machine},\n"results": {{\n{everything}\n}}}}\n'
