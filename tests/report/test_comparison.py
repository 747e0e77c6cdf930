from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from made_up_study import write_study
from marginseg.cli import app
from marginseg.report import write_report
from marginseg.report.comparison import TABLE_1, published_table, read_comparison
from marginseg.report.summary import summary_table
from marginseg.report.terminal import comparison_table

HEAD = "structure,std,method,mean\n"


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "theirs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_only_four_columns_are_needed(tmp_path: Path) -> None:
    path = _written(tmp_path, "\ufeffmethod, mean, std, structure\nCE(0), 0.5, 6e-2, tube\n")
    found = read_comparison(path)
    assert found.means == {("tube", "0.06", "CE(0)", "noisy"): 0.5}
    assert found.name == f"{tmp_path.name}/theirs.csv"


def test_reference_and_rows_without_a_mean(tmp_path: Path) -> None:
    head = "structure,std,method,mean,reference,note\n"
    path = _written(tmp_path, head + "a,0,CE(0),0.5,clean,x\na,0,CE(0),0.6,,\na,0,SD(0),,,\n")
    assert read_comparison(path).means == {
        ("a", "0", "CE(0)", "clean"): 0.5,
        ("a", "0", "CE(0)", "noisy"): 0.6,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "structure, std, method, mean missing"),
        ("structure,std,mean\na,0,1\n", "method missing"),
        (HEAD, "rows with a mean"),
        (HEAD + "a,0,CE(0),high\n", "line 2 .*mean: expected a number, got 'high'"),
        (HEAD + "a,0,CE(0),nan\n", "mean: expected a number"),
        (HEAD + "a,0,CE(0),1e400\n", "mean: expected a number"),
        (HEAD + "a,0,CE(0),0_5\n", "mean: expected a number, got '0_5'"),
        (HEAD + "a,0_1,CE(0),0.5\n", "std: expected a number, got '0_1'"),
        (HEAD + "a,0,CE(0),1e308\n", "line 2 .*mean: expected 0 to 1, got 1e308"),
        (HEAD + "a,0,CE(0),85.2\n", "line 2 .*mean: expected 0 to 1, got 85.2"),
        (HEAD + "a,0,CE(0),-0.1\n", "line 2 .*mean: expected 0 to 1, got -0.1"),
        (f"{HEAD[:-1]},reference\na,0,CE(0),1e308,volume_ratio\n", "expected -1000000 to 1000000"),
        (HEAD + "[" * 200_000 + ",0,CE(0),0.5\n", "field larger than field limit"),
        (HEAD + "a,,CE(0),0.5\n", "line 2 .*std: expected a number, got ''"),
        (HEAD + ",0,CE(0),0.5\n", "line 2 .*expected a structure"),
        (HEAD + "a,0,,0.5\n", "line 2 .*expected a method"),
        (HEAD + "a,0,CE(0),0.5\na,0.0,CE(0),0.6\n", "line 3 .*once, got a, 0, CE.0., noisy"),
        (HEAD + 'a,0,"x\ny",0.5\n' * 2, r"line 5 .*once, got a, 0, x\\ny, noisy again$"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^compare: .*{problem}"):
        read_comparison(_written(tmp_path, text))


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_bytes(b"\xff\xfe\x00\x80" * 40)
    with pytest.raises(ValueError, match="^compare: "):
        read_comparison(path)
    with pytest.raises(FileNotFoundError):
        read_comparison(tmp_path / "none.csv")


def test_a_study_compares_with_its_own_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marginseg.report.writing._draw", lambda *_: {})
    write_study(tmp_path / "study")
    write_report(tmp_path / "study")
    table = summary_table(tmp_path / "study")
    found = read_comparison(tmp_path / "study" / "table.csv")
    assert found.unmatched(table) == []
    rows = found.rows(table)
    assert len(rows) == len(table)
    assert all(abs(row["difference"]) < 1e-6 for row in rows)
    assert len(found.unmatched(table[1:])) == 1


def test_the_command_refuses_a_malformed_table_before_it_begins(tmp_path: Path) -> None:
    command = ["study", "-o", str(tmp_path / "study"), "--compare"]
    result = CliRunner().invoke(app, [*command, str(_written(tmp_path, "a,b\n1,2\n"))])
    assert result.exit_code == 2
    assert "compare: expected the columns" in result.output
    result = CliRunner().invoke(app, [*command, str(tmp_path / "none.csv")])
    assert result.exit_code == 2
    assert "none.csv: No such file" in result.output
    assert not (tmp_path / "study").exists()


def test_the_terminal_shows_what_both_tables_have(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    row = next(r for r in summary_table(tmp_path / "study") if r["method"] == "CE(0)")
    key = f"{row['structure']},{row['std']},CE(0)"
    theirs = f"{key},{row['mean'] - 0.125},\nheart,0,CE(0),0.5,\n{key},0.5,clean\n"
    head = "structure,std,method,mean,reference\n"
    table = comparison_table(tmp_path / "study", _written(tmp_path, head + theirs))
    assert table.row_count == 1
    cells = [str(next(iter(column.cells))) for column in table.columns]
    assert cells[:3] == [row["structure"], f"{row['std']:g}", "CE(0)"]
    assert cells[3:] == [f"{row['mean']:.3f}", f"{row['mean'] - 0.125:.3f}", "+0.125"]
    same = f"{key},{row['mean'] + 1e-9},\n"
    table = comparison_table(tmp_path / "study", _written(tmp_path, head + same))
    assert [list(column.cells) for column in table.columns][-1] == ["+0.000"]


def test_the_papers_table_bears_out_its_claims() -> None:
    means = read_comparison(TABLE_1).means
    assert {key[0] for key in means} == {"kidney_right", "aorta", "esophagus"}
    assert len(means) == 3 * 4 * 3
    for structure, std in {key[:2] for key in means}:
        ce, sd, best = (means[structure, std, m, "noisy"] for m in ("CE(0)", "SD(0)", "CE(*)"))
        assert best > ce or std == "0"
        assert best >= sd - 0.005


def test_the_papers_table_stands_beside_its_own_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published_table("totalsegmentator", ["liver"], [0.01]) is None
    assert published_table("decathlon", ["aorta"], [0.01]) is None
    compared: list[Path | None] = []

    def report(_: Path, *, compare: Path | None) -> Path:
        compared.append(compare)
        raise KeyboardInterrupt

    monkeypatch.setattr("marginseg.study.grid.run_study", lambda *_, **__: None)
    monkeypatch.setattr("marginseg.report.write_report", report)
    masks = tmp_path / "scans" / "s0001" / "segmentations"
    masks.mkdir(parents=True)
    for path in (masks.parent / "ct.nii.gz", masks / "aorta.nii.gz"):
        path.touch()
    scans = str(tmp_path / "scans")
    organs = ["--data", "totalsegmentator", "--dir", scans, "--structure", "aorta"]
    theirs = _written(tmp_path, HEAD + "aorta,0,CE(0),0.5\n")
    for options in (
        ["--preset", "paper", *organs],
        ["--preset", "paper", *organs, "--compare", str(theirs)],
        ["--preset", "quick", *organs],
        ["--preset", "paper", *organs, "--std", "0.05"],
        ["--preset", "paper"],
    ):
        CliRunner().invoke(app, ["study", *options, "-o", str(tmp_path / "study")])
    assert compared == [TABLE_1, theirs, None, None, None]
