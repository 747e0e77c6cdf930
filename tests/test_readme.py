"""What the README shows runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from marginseg.cli import app

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("    marginseg ")
    for line in README.splitlines()
    # Studies and their data have tests of their own.
    if line.startswith("    marginseg ") and line.split()[1] not in ("study", "prepare")
]


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_snippets_run(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert "cut at 0." in capsys.readouterr().out


def test_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    label = np.zeros((20, 24, 28), np.uint8)
    label[6:14, 8:16, 10:18] = 1
    nibabel.save(nibabel.Nifti1Image(label, np.diag([1.5, 1.5, 2, 1])), "LABEL.nii.gz")
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == 0, result.output
    assert len(list(Path("samples").iterdir())) == 5
    for name in ("M.nii.gz", "SEG.nii.gz", "figure1.png"):
        assert Path(name).stat().st_size > 0


def test_pictures_are_there():
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (Path(__file__).resolve().parents[1] / name).is_file()
