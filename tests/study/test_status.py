"""How far a study is, from its folder alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from marginseg.cli import app
from marginseg.files import locks
from marginseg.files.records import write_json
from marginseg.study import Progress, run_study
from marginseg.study import run as one_run
from marginseg.study.configuration import StudyConfig
from marginseg.study.status import StudyStatus, study_status
from marginseg.training.state import Epoch

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = StudyConfig(
    structures=("tube", "kidney"),
    std=(0.0, 0.06),
    losses=("soft_dice",),
    folds=2,
    patch_shape=(8, 8, 8),
    phantom_cases=2,
    features=(2, 4),
    epochs=3,
    learning_rate=1e-2,
    workers=1,
)


def shown(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["study", *map(str, arguments)])


def made_up(folder: Path, config: StudyConfig, workers: int = 2) -> list[Path]:
    """Make a study's folder without its runs; return their folders."""
    write_json(folder / "config.json", config.to_dict())
    write_json(folder / "environment.json", {"workers": workers})
    write_json(folder / "failed.json", [])
    (folder / "runs.jsonl").touch()
    folders = [folder / "runs" / config.folder_of(run) for run in config.runs()]
    for path in folders:
        path.mkdir(parents=True)
    return folders


def write_epochs(folder: Path, count: int, seconds: float, loss: float = 0.5) -> None:
    epochs = [Epoch(n + 1, loss, -loss, 1e-3, seconds) for n in range(count)]
    lines = (json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in epochs)
    (folder / "log.jsonl").write_text("".join(lines))


def test_while_a_study_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = CONFIG.runs()[1]
    trained = one_run.train

    def fail(*arguments: object, **options: object) -> object:
        checkpoint = options["checkpoint"]
        if isinstance(checkpoint, Path) and checkpoint.parent.name == CONFIG.folder_of(broken):
            raise RuntimeError("this one never works")
        return trained(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(one_run, "train", fail)
    seen: dict[str, StudyStatus] = {}

    def look(event: Progress) -> None:
        if event.kind in ("preparing", "prepared"):
            seen.setdefault(event.kind, study_status(tmp_path))
        if event.kind == "epoch" and event.run == CONFIG.runs()[3] and event.epoch is not None:
            seen[f"epoch {event.epoch.epoch}"] = study_status(tmp_path)
            seen["text"] = shown("--status", tmp_path)  # type: ignore[assignment]

    run_study(CONFIG, tmp_path, progress=look)
    assert (seen["preparing"].preparing, seen["preparing"].working) == (True, True)
    assert [run.state for run in seen["prepared"].runs] == ["waiting"] * 8
    assert seen["prepared"].seconds_left is None
    second = seen["epoch 2"]
    assert [run.state for run in second.runs] == [
        *("done", "failed", "done", "running", "waiting", "waiting", "waiting", "waiting")
    ]
    assert second.working
    assert [run.epochs for run in second.runs] == [3, 0, 3, 2, 0, 0, 0, 0]
    assert second.runs[1].error == "RuntimeError: this one never works"
    assert second.runs[1].log == tmp_path / "runs" / CONFIG.folder_of(broken) / "error.log"
    assert second.seconds_left is not None
    assert second.seconds_left > 0
    text: Result = seen["text"]  # type: ignore[assignment]
    assert text.exit_code == 0
    assert "8 runs: 2 done, 1 running, 4 waiting, 1 failed" in text.stdout
    assert "a process is working there now" in text.stdout
    assert f"{CONFIG.runs()[3].id}" in text.stdout
    assert "RuntimeError: this one never works" in text.stdout
    assert "error.log" in text.stdout
    after = study_status(tmp_path)
    assert not after.working
    assert after.count("done") == 7
    assert after.seconds_left == 0
    assert "only failed runs are left" in shown("--status", tmp_path).stdout
    monkeypatch.setattr(one_run, "train", trained)
    run_study(CONFIG, tmp_path)
    assert study_status(tmp_path).count("done") == 8
    assert "nothing is left to do" in shown("--status", tmp_path).stdout


def test_time_left(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=10)
    folders = made_up(tmp_path, config, workers=2)
    write_epochs(folders[0], 4, 2.0)  # a tube: 6 epochs of 2 s
    status = study_status(tmp_path)
    assert status.seconds == 8.0
    # 12 s and 7 × 20 s, for two workers: nothing is known of kidneys, so they count as tubes.
    assert status.seconds_left == pytest.approx((12 + 7 * 20) / 2)
    write_epochs(folders[4], 1, 100.0)  # a kidney: 9 of 100 s
    assert study_status(tmp_path).seconds_left == pytest.approx((12 + 60 + 900 + 3000) / 2)
    # The longest run decides, where there are more workers than that.
    write_json(tmp_path / "environment.json", {"workers": 100})
    assert study_status(tmp_path).seconds_left == pytest.approx(1000)


def test_states(tmp_path: Path) -> None:
    folders = made_up(tmp_path, CONFIG)
    write_epochs(folders[1], 1, 1.0)
    (folders[2] / "error.log").write_text("Traceback\n  x\nOSError: [Errno 28] No space left\n\n")
    write_json(
        tmp_path / "failed.json", [{"run": "x", "folder": folders[3].name, "error": "Odd: one"}]
    )
    with locks.locked(folders[0], patience=0), locks.locked(folders[2], patience=0):
        states = [run.state for run in study_status(tmp_path).runs]
        # What runs is tried again, whatever happened before.
        assert states == ["running", "waiting", "running", "failed", *["waiting"] * 4]
    runs = study_status(tmp_path).runs
    assert [run.state for run in runs[:4]] == ["waiting", "waiting", "failed", "failed"]
    assert [run.error for run in runs[2:4]] == ["OSError: [Errno 28] No space left", "Odd: one"]
    assert runs[3].log is None


def test_damaged_folders(tmp_path: Path) -> None:
    folders = made_up(tmp_path, CONFIG)
    (folders[0] / "result.json").write_text('{"structure": "tu')
    (folders[1] / "log.jsonl").write_text('{"epoch": 1, "lo')
    (folders[2] / "log.jsonl").write_text('{"epoch": 1, "surprise": 2}\n[]\n')
    folders[3].rmdir()
    folders[3].write_text("a file")
    for name in ("failed.json", "skipped.json", "environment.json"):
        (tmp_path / name).write_text("[")
    assert study_status(tmp_path).count("waiting") == 8
    assert shown("--status", tmp_path).exit_code == 0
    (tmp_path / "config.json").write_text('{"epochs": 3')
    result = shown("--status", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_structures_without_cases_have_no_runs(tmp_path: Path) -> None:
    made_up(tmp_path, CONFIG)
    empty = {"structure": "kidney", "name": "all cases", "reason": "none"}
    write_json(tmp_path / "skipped.json", [empty])
    assert [run.run.structure for run in study_status(tmp_path).runs] == ["tube"] * 4


def test_many_runs_fit_a_terminal(tmp_path: Path) -> None:
    config = StudyConfig()
    folders = made_up(tmp_path, config.resolved())
    assert len(folders) == 120
    write_epochs(folders[3], 57, 4.1, 0.123456)
    with locks.locked(folders[3], patience=0):
        text = shown("--status", tmp_path).stdout
    lines = text.splitlines()
    assert len(lines) < 30
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "57/100" in line)
    assert "0.1235" in row
    assert "4.1" in row
    assert "2 min 56 s" in row  # 43 × 4.1 s


@pytest.mark.parametrize("options", [["-o", "x"], ["--epochs", "3"], ["--executor", "ray"]])
def test_status_goes_alone(options: list[str], tmp_path: Path) -> None:
    made_up(tmp_path, CONFIG)
    result = shown("--status", tmp_path, *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("marginseg: --status: goes with no other option")
    assert result.stderr.count("\n") == 1


def test_no_study(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        result = shown("--status", folder)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"marginseg: {folder}: ")
        assert result.stderr.count("\n") == 1
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file"):
        study_status(tmp_path / "file")


@pytest.mark.parametrize("option", ["--address", "--gpu-share"])
def test_options_of_ray(option: str, tmp_path: Path) -> None:
    result = shown(option, "1", "-o", tmp_path / "study")
    assert result.exit_code == 2
    assert result.stderr == f"marginseg: {option}: needs --executor ray\n"
