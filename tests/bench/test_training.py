"""The benchmark of training, on a network of two channels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import training

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_each_way_takes_the_same_steps(tmp_path: Path) -> None:
    command = ["--device", "cpu", "--settings", "2-4-6:8x8x8", "--steps", "2", "--rounds", "2"]
    result = subprocess.run(
        [sys.executable, "-m", "bench.training", *command, "--counts", "2", "--output", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    stored = json.loads((tmp_path / "training-cpu.json").read_text())
    rows = {row["way"]: row for row in stored["rows"]}
    assert {"marginseg, 2 at once", "eager float32 loop"} <= set(rows)
    for row in rows.values():
        if row["left_out"]:
            # With so few channels MONAI's network is not of the same size either.
            assert row["way"].startswith("MONAI")
            continue
        seconds = row["milliseconds_a_step"] / 1e3 / row["networks"]
        # 100 epochs of 320 cases.
        assert row["trainings_an_hour"] == pytest.approx(3600 / (32_000 * seconds), rel=2e-3)
    assert rows["marginseg, 2 at once"]["over_ours"] == 1.0
    assert "| 2-4-6, 8×8×8 | eager float32 loop |" in result.stdout


def test_what_was_measured_is_kept_after_each_round(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that is out of time, or stopped, has not measured in vain."""
    row = training.Row("2-4, 8×8×8", "marginseg, 1 at once", 1, None, 1.5, 2.5, 1.0)

    def rows(*_: object) -> Iterator[list[training.Row]]:
        yield [row]
        raise KeyboardInterrupt

    command = ["bench.training", "--device", "cpu", "--settings", "2-4:8x8x8"]
    monkeypatch.setattr(sys, "argv", [*command, "--output", str(tmp_path)])
    monkeypatch.setattr(training, "rows", rows)
    monkeypatch.setattr(training.machine, "description", lambda _: {"cpu": "one", "cores": 1})
    with pytest.raises(KeyboardInterrupt):
        training.main()
    (stored,) = json.loads((tmp_path / "training-cpu.json").read_text())["rows"]
    assert stored["way"] == row.way
