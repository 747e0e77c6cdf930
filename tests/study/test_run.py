"""What a run leaves behind, whatever happens to it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from marginseg.files import locks
from marginseg.files.atomic import LEFTOVER
from marginseg.study import Progress, StudyConfig, run_folder, run_study
from marginseg.study import run as one_run
from marginseg.study.folder import StudyFolder
from marginseg.study.run import perform
from marginseg.study.run_folder import RunFolder
from marginseg.study.task import Outcome, Task
from volume_files import sorted_scan

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = StudyConfig(
    structures=("tube",),
    std=(0.06,),
    losses=("soft_dice",),
    folds=2,
    patch_shape=(8, 8, 8),
    phantom_cases=2,
    features=(2, 4),
    epochs=2,
    learning_rate=1e-2,
    workers=1,
)
FIRST = CONFIG.runs()[0]


def results(folder: Path) -> list[Any]:
    found = []
    for run in CONFIG.runs():
        result = json.loads((folder / "runs" / CONFIG.folder_of(run) / "result.json").read_text())
        result.pop("seconds")
        for epoch in result["epochs"]:
            epoch.pop("seconds")
        found.append(result)
    return found


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "result empty": lambda run: cut(run / "result.json", 0),
    "result cut": lambda run: cut(run / "result.json", 0.5),
    "result of zeros": lambda run: (run / "result.json").write_bytes(b"\0" * 2000),
    "result of no dictionary": lambda run: (run / "result.json").write_text("[1]"),
    "result of another run": lambda run: (run / "result.json").write_text(
        (run / "result.json").read_text().replace('"fold": 0', '"fold": 1')
    ),
    "slices cut": lambda run: cut(run / "slices.npz", 0.5),
    "slices missing": lambda run: (run / "slices.npz").unlink(),
    "model cut": lambda run: cut(run / "model.pt", 0.9),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_done_again(damage: str, tmp_path: Path) -> None:
    run_study(CONFIG, tmp_path)
    expected = results(tmp_path)
    DAMAGES[damage](tmp_path / "runs" / CONFIG.folder_of(FIRST))
    seen: list[Progress] = []
    run_study(CONFIG, tmp_path, progress=seen.append)
    assert [event.run for event in seen if event.kind == "finished"] == [FIRST]
    assert results(tmp_path) == expected


def test_a_model_may_be_removed_to_save_space(tmp_path: Path) -> None:
    run_study(CONFIG, tmp_path)
    (tmp_path / "runs" / CONFIG.folder_of(FIRST) / "model.pt").unlink()
    seen: list[Progress] = []
    run_study(CONFIG, tmp_path, progress=seen.append)
    assert [event.kind for event in seen if event.run is not None] == []


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_leftovers_and_a_damaged_checkpoint(share: float, tmp_path: Path) -> None:
    run_study(CONFIG, tmp_path / "whole")

    def stop(event: Progress) -> None:
        if event.kind == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(CONFIG, tmp_path / "study", progress=stop)
    folder = tmp_path / "study" / "runs" / CONFIG.folder_of(FIRST)
    cut(folder / "checkpoint.pt", share)
    cut(folder / "log.jsonl", share)
    (folder / f"{LEFTOVER}checkpoint.pt-x").write_text("half")
    (tmp_path / "study" / f"{LEFTOVER}runs.jsonl-x").write_text("half")
    run_study(CONFIG, tmp_path / "study")
    assert results(tmp_path / "study") == results(tmp_path / "whole")
    assert list((tmp_path / "study").rglob(f"{LEFTOVER}*")) == []
    assert len(RunFolder(folder).read_epochs()) == CONFIG.epochs


def test_a_log_that_was_not_written_after_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run killed between its last checkpoint and its log has no epoch left to do."""
    written = run_folder.write_text

    def kill(path: Path, text: str) -> None:
        if path.name == "log.jsonl" and text.count("\n") == CONFIG.epochs:
            raise KeyboardInterrupt
        written(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "write_text", kill)
        with pytest.raises(KeyboardInterrupt):
            run_study(CONFIG, tmp_path)
    folder = tmp_path / "runs" / CONFIG.folder_of(FIRST)
    assert len(RunFolder(folder).read_epochs()) == CONFIG.epochs - 1
    run_study(CONFIG, tmp_path)
    assert len(RunFolder(folder).read_epochs()) == CONFIG.epochs


def test_a_checkpoint_left_by_a_kill_after_the_result_is_removed(tmp_path: Path) -> None:
    run_study(CONFIG, tmp_path)
    checkpoint = tmp_path / "runs" / CONFIG.folder_of(FIRST) / "checkpoint.pt"
    checkpoint.write_text("left")
    run_study(CONFIG, tmp_path)
    assert not checkpoint.exists()


# failures


def test_a_failed_run_has_a_log_until_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("two\nlines")

    with monkeypatch.context() as patched:
        patched.setattr(one_run, "train", fail)
        result = run_study(CONFIG, tmp_path)
    assert [failed.error for failed in result.failed] == ["ValueError: two lines"] * 2
    for failed, run in zip(result.failed, CONFIG.runs(), strict=True):
        log = tmp_path / "runs" / CONFIG.folder_of(run) / "error.log"
        assert failed.log == log
        assert log.read_text().startswith("Traceback")
        assert "ValueError: two\nlines" in log.read_text()
    recorded = json.loads((tmp_path / "failed.json").read_text())
    assert [entry["folder"] for entry in recorded] == [*map(CONFIG.folder_of, CONFIG.runs())]
    assert run_study(CONFIG, tmp_path).failed == []
    assert list(tmp_path.rglob("error.log")) == []


def test_an_error_in_the_progress_is_no_failure_of_the_run(tmp_path: Path) -> None:
    def wrong(event: Progress) -> None:
        if event.kind == "epoch":
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        run_study(CONFIG, tmp_path, progress=wrong)
    assert list(tmp_path.rglob("error.log")) == []


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from marginseg.cli import main
from marginseg.study import run as one_run

train_and_test = one_run._train_and_test

def full(task, on_epoch):
    first = (task.run.fold, task.run.loss) == (0, "cross_entropy")
    limit = ROOM if first else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        train_and_test(task, on_epoch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

one_run._train_and_test = full
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("room", [50, 20_000])
def test_no_space_for_one_run(room: int, tmp_path: Path) -> None:
    """No file of one run may have more bytes than its checkpoint needs."""
    options = (
        "--structure tube --std 0.06 --folds 2 --patch 8x8x8 --features 2-4 --epochs 1 "
        "--max-cases 2 --workers 1"
    )
    output = ("-o", str(tmp_path / "study"))
    script = FULL.replace("ROOM", str(room))
    command = [sys.executable, "-c", script, "study", *options.split(), *output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("marginseg: ")]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1
    assert "OSError: [Errno 27] File too large" in lines[0]
    assert "error.log" in lines[0]
    assert len(list(tmp_path.glob("study/runs/*/result.json"))) == 3


# what it tells


def test_a_run_is_judged_by_the_marginals_of_the_clean_label(tmp_path: Path) -> None:
    run_study(CONFIG, tmp_path)
    cases = CONFIG.dataset("tube", cache_dir=tmp_path / "cache").cases
    labels = {case.name: np.asarray(case.label, np.float64) for case in cases}
    # P(ω + X lies in voxel j) along an axis of 8 voxels, X ~ N(0, a²).
    steps = np.arange(8)[None] - np.arange(8)[:, None]
    deviation = FIRST.std * 8
    moved = norm.cdf((steps + 0.5) / deviation) - norm.cdf((steps - 0.5) / deviation)
    tested = [case for result in results(tmp_path) for case in result["cases"]]
    assert len(tested) == CONFIG.phantom_cases
    for case in tested:
        marginal = np.einsum("ai,bj,ck,ijk", moved, moved, moved, labels[case["name"]])
        best, _ = sorted_scan(marginal)
        assert case["sup_dice"] == pytest.approx(best, abs=1e-5)


# two processes


def test_two_processes_do_not_share_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_run, "PATIENCE", 0.2)
    monkeypatch.setattr(locks, "BEAT", 0.05)
    folder = tmp_path / "runs" / CONFIG.folder_of(FIRST)
    folder.mkdir(parents=True)
    with locks.locked(folder, patience=0):
        result = run_study(CONFIG, tmp_path)
        assert [failed.run for failed in result.failed] == [FIRST.id]
        assert "another process works in" in result.failed[0].error
        assert len(result.runs) == 1
    assert run_study(CONFIG, tmp_path).failed == []


def test_a_run_waits_for_another_process_to_end(tmp_path: Path) -> None:
    """An orphan may live for a moment after the study that began it was killed."""
    folder = tmp_path / "runs" / CONFIG.folder_of(FIRST)
    folder.mkdir(parents=True)
    held = threading.Event()

    def hold() -> None:
        with locks.locked(folder, patience=0):
            held.set()
            time.sleep(1)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    result = run_study(CONFIG, tmp_path)
    thread.join()
    assert result.failed == []


def test_a_finished_run_is_not_done_again_by_who_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(CONFIG, tmp_path)
    folder = StudyFolder(tmp_path).run(CONFIG, FIRST)
    assert folder.finished_result(CONFIG, FIRST) is not None
    monkeypatch.setattr(one_run, "train", None)
    outcomes: list[Outcome] = []
    perform(Task(FIRST, CONFIG, None, (0,), (1,), folder), outcomes.append)  # type: ignore[arg-type]
    assert [outcome.kind for outcome in outcomes] == ["started", "finished"]


# processes
