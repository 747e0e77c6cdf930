"""What the README shows runs, and its numbers are those of the results."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import documents

RESULTS = documents.ROOT / "docs" / "results"


def test_has_at_most_120_lines():
    assert len(documents.read(documents.README).splitlines()) <= 120


def test_snippets_run(capsys):
    assert documents.run_snippets(documents.README) == 1
    assert "cut at 0." in capsys.readouterr().out


def test_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents.make_inputs()
    assert documents.run_commands(documents.README) == 6
    assert len(list(Path("samples").glob("*.nii.gz"))) == 5
    for name in ("M.nii.gz", "SEG.nii.gz"):
        assert Path(name).stat().st_size > 0


def test_shows_a_command_of_the_study():
    assert "study" in [arguments[0] for arguments in documents.commands(documents.README)]


@pytest.mark.parametrize(
    ("page", "study", "std", "places"),
    [
        ("README.md", "phantoms", "0.06", 3),
        ("docs/results.md", "phantoms", None, 9),
        ("docs/results.md", "hippocampus", None, 3),
    ],
)
def test_table_has_the_numbers_of_the_results(page, study, std, places):
    """Of all noise levels, or of one."""

    def rows(file):
        with (RESULTS / study / file).open(encoding="utf-8") as content:
            return [row for row in csv.DictReader(content) if row["reference"] == "noisy"]

    means = {(r["structure"], r["std"], r["method"]): float(r["mean"]) for r in rows("table.csv")}
    pairs = {(r["structure"], r["std"], r["baseline"]): r for r in rows("differences.csv")}
    several = len({structure for structure, _, _ in means}) > 1
    expected = []
    for place in dict.fromkeys(key[:2] for key in means if std in (None, key[1])):
        structure, level = place
        cells = [structure.replace("_", " "), level] if several else [level]
        cells += [f"{means[*place, m]:.3f}" for m in ("CE(0)", "SD(0)", "CE(*)", "sup D")]
        for baseline in ("CE(0)", "SD(0)"):
            mean, low, high = (float(pairs[*place, baseline][k]) for k in ("mean", "low", "high"))
            cells.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−"))
        expected.append(f"| {' | '.join(cells)} |")
    shown = documents.read(documents.ROOT / page).splitlines()
    assert len(expected) == places
    assert [line for line in expected if line not in shown] == []
