"""What `marginseg study` prints when the runs are done, without running them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from command_line import run
from made_up_study import write_study
from marginseg.cli import app
from marginseg.report.summary import summary_table
from marginseg.study import StudyConfig, StudyResult


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a study that the command takes for its own, with a short report."""
    folder = tmp_path / "study"

    def run_study(config: StudyConfig, output: Path, **_: Any) -> StudyResult:
        write_study(output, structures=["tube", "inferior_vena_cava"], cases=4)
        return StudyResult(output, config)

    def write_report(output: Path, **_: Any) -> Path:
        return output / "report.html"

    monkeypatch.setattr("marginseg.study.grid.run_study", run_study)
    monkeypatch.setattr("marginseg.report.write_report", write_report)
    return folder


def test_the_table_is_whole_in_a_pipe(study: Path) -> None:
    result = run("study", "-o", study)
    assert result.exit_code == 0, result.output
    assert result.stderr == "writing the report\n"
    lines = result.stdout.splitlines()
    assert lines[-1] == str(study / "report.html")
    assert [line for line in lines if line != line.rstrip()] == []
    assert "…" not in result.stdout
    # No name is folded.
    assert sum(line.startswith("inferior_vena_cava ") for line in lines) == 2


def test_options_are_settings_of_the_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[StudyConfig] = []

    def run_study(config: StudyConfig, output: Path, **_: Any) -> StudyResult:
        seen.append(config)
        write_study(output, structures=["tube"], cases=4)
        return StudyResult(output, config)

    monkeypatch.setattr("marginseg.study.grid.run_study", run_study)
    options = ["--precision", "float32", "--patch", "64x48", "--spacing", "2", "--device", "cpu"]
    result = run("study", *options, "--repeats", 3, "-o", study)
    assert result.exit_code == 0, result.output
    (config,) = seen
    assert (config.precision, config.device, config.repeats) == ("float32", "cpu", 3)
    assert (config.patch_shape, config.spacing) == ((64, 48), (2.0,))


def test_a_terminal_that_has_only_ascii_gets_the_nearest_letters(study: Path) -> None:
    result = CliRunner(charset="ascii").invoke(app, ["study", "-o", str(study)])
    assert result.exit_code == 0, result.output
    assert result.stdout.isascii()
    assert "CE(*) >= SD(0) - 0.005: " in result.stdout


def test_the_numbers_of_another_table_stand_beside(study: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "same", structures=["tube", "inferior_vena_cava"], cases=4)
    row = next(r for r in summary_table(tmp_path / "same") if r["method"] == "SD(0)")
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(f"structure,std,method,mean\ntube,{row['std']},SD(0),0.25\n")
    result = run("study", "-o", study, "--compare", theirs)
    assert result.exit_code == 0, result.output
    assert result.stderr == "writing the report\n"
    shown = [line.split() for line in result.stdout.splitlines()]
    assert ["structure", "std", "method", "ours", "theirs", "difference"] in shown
    numbers = [f"{row['mean']:.3f}", "0.250", f"{row['mean'] - 0.25:+.3f}"]
    assert ["tube", "0", "SD(0)", *numbers] in shown


def test_a_table_without_a_common_row_gets_a_line(study: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.csv"
    theirs.write_text("structure,std,method,mean\nheart,0,CE(0),0.5\n")
    result = run("study", "-o", study, "--compare", theirs)
    assert result.exit_code == 0, result.output
    said = result.stderr.splitlines()
    assert said[0] == "writing the report"
    assert said[1].startswith(f"marginseg: --compare: no row of {theirs} has a structure,")
    assert len(said) == 2
    assert "theirs" not in result.stdout


def test_nobody_asked_for_the_papers_table(study: Path, tmp_path: Path) -> None:
    """Where a study has no row of it, nothing is said of an option that was not given."""
    masks = tmp_path / "scans" / "s0001" / "segmentations"
    masks.mkdir(parents=True)
    for path in (masks.parent / "ct.nii.gz", masks / "aorta.nii.gz"):
        path.touch()
    organs = ["--data", "totalsegmentator", "--dir", masks.parent.parent, "--structure", "aorta"]
    result = run("study", "--preset", "paper", *organs, "-o", study)
    assert result.exit_code == 0, result.output
    assert result.stderr == "writing the report\n"
