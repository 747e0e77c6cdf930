"""What ``python -m bench`` writes, and that what is committed is what it would write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from bench import record, table, training
from bench.__main__ import COMPARED, NAMES, main
from bench.gpu import results as gpu_results

ROOT = Path(__file__).resolve().parents[2]

app = Typer()
app.command()(main)


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


TINY = ("--sizes", "8", "--threads", "1", "--seconds", "0")


def test_a_part_replaces_only_its_own_results(tmp_path):
    for name in ("warp", "gaussian_field", "overhead"):
        result = _run(*TINY, "--only", name, "--output", tmp_path)
        assert result.exit_code == 0, result.output
    stored = json.loads((tmp_path / "cpu.json").read_text())
    # In the order of all, whatever ran first.
    assert list(stored["results"]) == ["gaussian_field", "warp", "overhead"]
    peers = {row["peer"] for row in stored["results"]["gaussian_field"]["rows"]}
    assert peers == {"SciPy, Listing 2", "GSTools SRF", "plain torch"}
    assert set(stored["machine"]["packages"]) >= {"torch", "gstools"}
    page = (tmp_path / "cpu.md").read_text()
    assert page == table.markdown(stored)
    assert "| exact, std 0.03 | 8³ | 1 | plain torch |" in page


def test_tables_and_charts_are_made_again_of_what_is_stored(tmp_path):
    (tmp_path / "cpu.json").write_bytes((record.FOLDER / "cpu.json").read_bytes())
    result = _run("--markdown", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "cpu.md").read_bytes() == (record.FOLDER / "cpu.md").read_bytes()
    for name in ("cpu.png", "scaling.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_without_results_the_page_says_so(tmp_path):
    assert _run("--markdown", "--output", tmp_path).exit_code == 0
    assert "Unmeasured." in (tmp_path / "cpu.md").read_text()


def test_an_unknown_part_is_refused():
    result = _run("--only", "marginals")
    assert result.exit_code == 2
    assert "unknown marginals" in result.output


def test_the_committed_pages_are_those_of_the_committed_numbers():
    assert (record.FOLDER / "cpu.md").read_text() == table.markdown(record.read(record.FOLDER))
    assert (record.FOLDER / "training.md").read_text() == training.markdown(record.FOLDER)
    assert (record.FOLDER / "gpu.md").is_file() == any(record.FOLDER.glob("gpu-*.json"))


def test_the_committed_results_have_the_names_that_a_run_gives():
    stored = record.read(record.FOLDER)["results"]
    assert set(stored) <= set(NAMES)
    assert {row["op"] for row in stored["gaussian_filter"]["rows"]} == {
        "gaussian_filter",
        "marginals",
    }


def test_a_page_of_a_gpu_is_written_once_there_is_one(tmp_path, capsys):
    gpu_results.present(tmp_path)
    assert capsys.readouterr().out.startswith("Unmeasured")
    assert not list(tmp_path.iterdir())
    machine = {"gpu": "A", "copy_gb_per_s": 1, "commit": "c", "date": "d", "packages": {}}
    gpu_results.write(tmp_path, machine, [])
    gpu_results.present(tmp_path)
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# Results on a GPU\n")
    assert "A, copies at 1 GB/s" in page


README = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_what_each_op_must_do():
    section = README.partition("## What each op must do")[2].partition("\n## ")[0]
    for op in COMPARED:
        assert f"| `{op}`" in section


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)[^)]*\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / "bench" / link).exists()
