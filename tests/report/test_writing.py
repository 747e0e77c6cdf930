from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_up_study import write_study
from marginseg.report import rich_table, write_report
from marginseg.report.summary import differences_table, summary_table
from marginseg.report.writing import FIGURES

pytestmark = pytest.mark.usefixtures("small_figure1")

TABLES = ("table.csv", "differences.csv", "cases.csv", "table.tex", "report.json")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A finished study, in a folder with a space in its name."""
    return _study(tmp_path / "a study")


@pytest.fixture(scope="module")
def reported(small_figure1: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its report, for those who only read."""
    folder = _study(tmp_path_factory.mktemp("reported") / "a study")
    write_report(folder)
    return folder


def _study(folder: Path) -> Path:
    write_study(folder)
    skipped = [
        {"structure": "kidney", "name": "s7", "reason": "the structure is <empty>"},
        *({"structure": "kidney", "name": f"t{i}", "reason": f"too big: {i}"} for i in range(3)),
    ]
    (folder / "skipped.json").write_text(json.dumps(skipped))
    return folder


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_report_is_one_page_that_needs_nothing_else(reported: Path) -> None:
    page = (reported / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == len(FIGURES)
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "thin &lt;tube&gt; &amp; co" in page
    assert "thin <tube>" not in page
    assert "the structure is &lt;empty&gt;" in page
    assert "too big: 3 cases" in page
    assert "missing" not in page
    for name in (*TABLES, *(f"{figure}.png" for figure in FIGURES)):
        assert (reported / name).stat().st_size > 100
    assert not list(reported.glob(".*"))


def test_pictures_stay_moderate(reported: Path) -> None:
    for name in FIGURES:
        assert (reported / f"{name}.png").stat().st_size < 200_000
        with Image.open(reported / f"{name}.png") as picture:
            assert min(picture.size) > 200
            assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.usefixtures("undrawn")
def test_pictures_may_stay_outside(study: Path) -> None:
    page = write_report(study, embed=False)
    assert page.stat().st_size < 100_000
    linked = re.findall(r'src="([^"]+)"', page.read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(f"{name}.png" for name in FIGURES)


def test_tables_are_those_of_the_study(reported: Path) -> None:
    rows = summary_table(reported)
    lines = _lines(reported / "table.csv")
    assert len(lines) == len(rows)
    columns = ["structure", "std", "method", "reference", "mean", "sd", "low", "high", "n"]
    assert list(lines[0]) == [*columns, "networks", "covers"]
    for line, row in zip(lines, rows, strict=True):
        assert line["structure"] == row["structure"]
        assert float(line["mean"]) == pytest.approx(row["mean"], abs=1e-6)
        assert float(line["low"]) == pytest.approx(row["low"], abs=1e-6)
    pairs = _lines(reported / "differences.csv")
    assert len(pairs) == len(differences_table(reported))
    assert {(line["method"], line["baseline"]) for line in pairs} == {
        ("CE(*)", "CE(0)"),
        ("CE(*)", "SD(0)"),
    }
    cases = _lines(reported / "cases.csv")
    assert len(cases) == 2 * 2 * 7 * 4
    assert {line["method"] for line in cases} == {"CE(0)", "CE(*)", "SD(0)", "SD(*)"}


def test_json_has_the_numbers_and_where_they_come_from(reported: Path) -> None:
    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads((reported / "report.json").read_text(), parse_constant=refused)
    assert content["configuration"]["seed"] == 0
    assert content["environment"]["marginseg"] == "1.2.3"
    assert content["statistics"]["resamples"] == 10_000
    assert (content["finished"], content["expected"]) == (16, 16)
    assert content["time"]["by_loss"]["soft_dice"] == {"runs": 8, "mean": 1.5, "seconds": 12.0}
    assert len(content["table"]) == len(summary_table(reported))
    assert len(content["findings"]) == 2 * 2 * 2
    assert {row["verdict"] for row in content["findings"]} <= {
        "holds",
        "fails",
        "undecided",
        "nothing to expect",
    }


@pytest.mark.usefixtures("undrawn")
def test_other_numbers_stand_beside_ours(study: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(
        "structure,std,method,mean\nkidney,0.06,CE(0),0.123\nliver,0.06,CE(0),0.987\n"
    )
    page = write_report(study, compare=theirs).read_text(encoding="utf-8")
    (row,) = (
        r
        for r in summary_table(study)
        if (r["structure"], r["std"], r["method"], r["reference"])
        == ("kidney", 0.06, "CE(0)", "noisy")
    )
    difference = f"{row['mean'] - 0.123:+.3f}"
    assert f"0.123 ({difference})".replace("-", "−") in page
    assert "liver, std 0.06, CE(0), noisy" in page
    assert f"0.123 (${difference}$)" in (study / "table.tex").read_text()
    content = json.loads((study / "report.json").read_text())["compare"]
    assert content["unmatched"] == ["liver, std 0.06, CE(0), noisy"]
    (found,) = content["rows"]
    assert found["difference"] == pytest.approx(row["mean"] - 0.123)


def test_a_malformed_table_is_refused_before_anything_is_written(
    study: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.csv"
    theirs.write_text("structure,mean\nkidney,0.5\n")
    with pytest.raises(ValueError, match="^compare: "):
        write_report(study, compare=theirs)
    assert not (study / "table.csv").exists()


@pytest.mark.usefixtures("undrawn")
def test_unfinished_study_says_what_is_missing(study: Path) -> None:
    write_report(study)
    for path in (study / "runs").glob("*soft_dice*/result.json"):
        path.unlink()
    damaged = next((study / "runs").glob("*cross_entropy*/result.json"))
    damaged.write_text('{"structure": "ki')
    for number, path in enumerate((study / "runs").glob("*/slices.npz")):
        path.write_bytes(b"no archive" if number % 2 else b"PK\x03\x04 half of one")
    failed = [
        {
            "run": "kidney-std0-fold0-soft_dice",
            "error": "ValueError: no",
            "details": 'Traceback:\n  File "/home/somebody/site-packages/torch/nn.py", line 1\n'
            '  File "/secret/place/Task00_None/x.nii.gz"',
        },
        {"nothing": "whole"},
    ]
    (study / "failed.json").write_text(json.dumps(failed))
    page = write_report(study).read_text(encoding="utf-8")
    assert "9 trainings are missing" in page
    assert f"Damaged: {damaged.parent.name[:-9]}." in page.replace("&lt;", "<")
    assert "kidney-std0-fold0-soft_dice" in page
    assert "<details><summary>Traceback</summary>" in page
    assert "torch/nn.py" in page
    for name in (*TABLES, "report.html"):
        text = (study / name).read_text(encoding="utf-8")
        assert "somebody" not in text
        assert "/secret" not in text
    assert "CE(*) ≥ SD(0) − 0.005: no case has been tested with both methods" in page
    assert not (study / "cases.png").exists()
    assert not (study / "figure2.png").exists()


def _deleted(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in (folder / "runs").glob(f"{pattern}/result.json"):
            path.unlink()


def _said(page: Path) -> str:
    """The page's text, without its markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8")).split())


@pytest.mark.usefixtures("undrawn")
def test_a_missing_training_makes_no_interval_narrower(tmp_path: Path) -> None:
    """Another fold still tells what training changes; no cell turns to the cases alone."""
    folder = tmp_path / "study"
    write_study(folder, structures=("kidney",), cases=12, repeats=2)
    assert {row["covers"] for row in differences_table(folder)} == {"cases, trainings"}
    _deleted(folder, "*std0.06-fold1-soft_dice-repeat1-*")
    rows = [*summary_table(folder), *differences_table(folder)]
    assert {row["covers"] for row in rows} == {"cases, trainings"}
    said = _said(write_report(folder))
    assert "over test cases and trainings, the folds kept" in said
    assert "--repeats 3" not in said


@pytest.mark.usefixtures("undrawn")
def test_places_whose_intervals_know_no_training_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder, cases=12, repeats=2)
    _deleted(folder, "kidney-std0.06-*-soft_dice-repeat1-*")
    page = _said(write_report(folder))
    assert "At kidney at a = 0.06 (SD(0), SD(*), CE(*) − SD(0)): over test cases alone" in page
    assert "CE(*) ≥ SD(0) − 0.005" in page
    assert page.count("Judged by test cases alone: kidney at a = 0.06.") == 1
    content = json.loads((folder / "report.json").read_text())
    assert [part["covers"] for part in content["statistics"]["interval"]] == [
        "cases, trainings",
        "cases",
    ]
    once = {
        (line["std"], line["method"], line["baseline"])
        for line in _lines(folder / "differences.csv")
        if line["covers"] == "cases"
    }
    assert once == {("0.06", "CE(*)", "SD(0)")}


@pytest.mark.usefixtures("undrawn")
def test_soft_dice_alone_is_reported(study: Path) -> None:
    for path in (study / "runs").glob("*cross_entropy*/result.json"):
        path.unlink()
    page = write_report(study).read_text(encoding="utf-8")
    assert "8 trainings are missing" in page
    assert (study / "cases.png").exists()
    assert not (study / "differences.png").exists()


def test_nothing_finished_is_still_a_report(study: Path) -> None:
    for path in (study / "runs").glob("*/result.json"):
        path.unlink()
    for name in ("environment.json", "skipped.json"):
        (study / name).write_text("{damaged")
    assert "No run has finished yet" in write_report(study).read_text(encoding="utf-8")
    assert rich_table(study).row_count == 0
    assert _lines(study / "table.csv") == []


@pytest.mark.usefixtures("undrawn")
def test_a_structure_without_cases_is_not_expected(study: Path) -> None:
    skipped = [{"structure": "kidney", "name": "all cases", "reason": "kidney: there is none"}]
    (study / "skipped.json").write_text(json.dumps(skipped))
    for path in (study / "runs").glob("kidney*/result.json"):
        path.unlink()
    page = write_report(study).read_text(encoding="utf-8")
    assert "8 of 8 trainings" in page
    assert "there is none" in page


def test_one_case_has_no_interval(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder, structures=("tube",), std=(0.06,), cases=2)
    for path in (folder / "runs").glob("*fold1*/result.json"):
        path.unlink()
    write_report(folder)
    lines = _lines(folder / "table.csv")
    assert {line["n"] for line in lines} == {"1"}
    assert {line["low"] for line in lines} == {""}
    content = json.loads((folder / "report.json").read_text())
    assert {row["low"] for row in content["table"]} == {None}
    assert {row["verdict"] for row in content["findings"]} == {"too few cases"}


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a study's folder, got one without config.json"):
        write_report(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_what_intervals_leave_out_is_said(tmp_path: Path) -> None:
    """Of two folds nothing tells what folds change; of three, but not what they share."""
    said = {}
    for folds in (2, 3):
        folder = tmp_path / str(folds)
        write_study(folder, structures=("kidney",), std=(0.06,), cases=12, folds=folds)
        said[folds] = _said(write_report(folder))
    assert "over test cases alone" in said[2]
    assert "not on what another training, or other training cases, would have given" in said[2]
    assert "over test cases, trainings and folds" in said[3]
    assert "is told together with what other training cases change" in said[3]
    assert "Left out is what all folds share: training cases that any two of them have" in said[3]
