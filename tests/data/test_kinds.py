"""Which source reads a folder is told by what lies in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from marginseg.data import kind_of


def test_kinds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="directory: expected dataset.json, or folders with"):
        kind_of(tmp_path)
    with pytest.raises(ValueError, match="got neither"):
        kind_of(tmp_path / "missing")
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="got neither"):
        kind_of(tmp_path)
    scan = tmp_path / "s0001" / "ct.nii.gz"
    scan.parent.mkdir()
    scan.touch()
    assert kind_of(tmp_path) == "totalsegmentator"
    # A description says more than what a folder is called.
    (tmp_path / "dataset.json").touch()
    assert kind_of(str(tmp_path)) == "decathlon"


def test_real_folders(hippocampus_dir: Path, totalsegmentator_dir: Path) -> None:
    assert kind_of(hippocampus_dir) == "decathlon"
    assert kind_of(totalsegmentator_dir) == "totalsegmentator"
