"""JSON files that are read as far as they can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from marginseg.files.records import read_json, read_records, write_json


def test_what_was_written_is_read(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None], "ω": "x"}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\0" * 9, b"\xff\xfe", b'{"a": 1} x', b"[" * 100_000]
)
def test_a_damaged_file_is_none(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(damage)
    assert read_json(tmp_path / "a.json") is None
    assert read_records(tmp_path / "a.json", ["a"]) == []
    assert read_json(tmp_path / "none.json") is None
    assert read_json(tmp_path) is None  # a folder


@pytest.mark.parametrize("content", [{}, 3, "text", None])
def test_what_is_no_list_has_no_records(content: object, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", content)
    assert read_records(tmp_path / "a.json", []) == []
