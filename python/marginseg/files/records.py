"""JSON files: written whole, and read as far as they can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marginseg.files.atomic import write_text


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def parse_json(text: str) -> Any:
    """Return what a text in JSON says.

    Raises:
        ValueError: It is none, or nested more deeply than anything that means something.

    Example:
        >>> parse_json('{"a": [1]}')
        {'a': [1]}

    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path) -> Any:
    """Return the content; None where there is no such file, or it is damaged."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_records(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Return the records of a list of them, those that have all of these fields.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "records.json"
        ...     write_json(path, [{"name": "a", "size": 1}, {"name": "b"}, "c"])
        ...     read_records(path, ["name", "size"])
        [{'name': 'a', 'size': 1}]

    """
    content = read_json(path)
    return [
        record
        for record in (content if isinstance(content, list) else [])
        if isinstance(record, dict) and all(field in record for field in fields)
    ]
