"""The benchmark of the quick study, on the smallest one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import study
from bench.machine import BusyElsewhere

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = "--structure tube --std 0.06 --patch 8x8x8 --features 2-4 --epochs 1 --max-cases 2"


@pytest.mark.slow
def test_the_whole_command_is_timed(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench.study", "--options", SMALLEST, "--output", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (file,) = tmp_path.glob("study-*.json")
    stored = json.loads(file.read_text())
    assert stored["cores"] == len(os.sched_getaffinity(0))
    assert stored["rows"][-1]["precision"] == "float32"
    assert [row["trainings"] for row in stored["rows"]] == [4] * len(stored["rows"])
    # No study is shorter than the import of torch, and none that small takes minutes.
    assert all(1 < row["seconds"] < 300 for row in stored["rows"])
    assert "| float32 | 4 |" in (tmp_path / "study.md").read_text()


def test_the_table_compares_with_the_targets() -> None:
    machine = {"cpu": "one", "cores": 16, "commit": "c", "date": "d", "packages": {"torch": "2"}}
    rows = [
        {"precision": "bfloat16", "seconds": 100.0, "trainings": 24, "busy_elsewhere": 0.0},
        {"precision": "float32", "seconds": 310.0, "trainings": 24, "busy_elsewhere": 1.2},
    ]
    text = "\n".join(study.table({"machine": machine, "cores": 2, "rows": rows}))
    assert "one, 2 of its 16 cores; commit c, d." in text
    assert "| bfloat16 | 24 | 100 s | at most 180 s: met |" in text
    assert "1.2 cores were busy with other work" in text
    assert "at most 300 s: **missed**" in text
    assert "float32 over bfloat16: 3.10; at most 2.5: **missed**." in text


def test_the_work_of_a_process_that_we_started_is_ours() -> None:
    code = "import time\nwhile time.process_time() < 1.5: pass"
    before = BusyElsewhere._now()[-1]
    subprocess.run([sys.executable, "-c", code], check=True)
    assert BusyElsewhere._now()[-1] - before >= 1.4
