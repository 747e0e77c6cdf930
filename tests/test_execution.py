"""What a run leaves behind, whatever happens to it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from marginseg.data import phantom
from marginseg.files import locks
from marginseg.files.atomic import LEFTOVER
from marginseg.study import Progress, Run, StudyConfig, run_study
from marginseg.study import run as execution
from marginseg.study.executors import ProcessExecutor, RayExecutor, processes
from marginseg.study.run import Outcome, Task, finished_result, one_line, perform, read_epochs

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


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
    assert len(read_epochs(folder)) == CONFIG.epochs


def test_a_log_that_was_not_written_after_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run killed between its last checkpoint and its log has no epoch left to do."""
    written = execution.write_text

    def kill(path: Path, text: str) -> None:
        if path.name == "log.jsonl" and text.count("\n") == CONFIG.epochs:
            raise KeyboardInterrupt
        written(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(execution, "write_text", kill)
        with pytest.raises(KeyboardInterrupt):
            run_study(CONFIG, tmp_path)
    folder = tmp_path / "runs" / CONFIG.folder_of(FIRST)
    assert len(read_epochs(folder)) == CONFIG.epochs - 1
    run_study(CONFIG, tmp_path)
    assert len(read_epochs(folder)) == CONFIG.epochs


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
        patched.setattr(execution, "train", fail)
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
from marginseg.study import run as execution
from marginseg.cli import main

execute = execution._execute

def full(task, on_epoch):
    first = (task.run.fold, task.run.loss) == (0, "cross_entropy")
    limit = ROOM if first else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        execute(task, on_epoch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

execution._execute = full
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


def test_a_full_disk_is_named_behind_torchs_error() -> None:
    error = RuntimeError("unexpected pos 64 vs 0")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device", "checkpoint.pt")
    assert one_line(error) == "OSError: [Errno 28] No space left on device: 'checkpoint.pt'"


# two processes


def test_two_processes_do_not_share_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "PATIENCE", 0.2)
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


def test_a_lock_that_outlives_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SILENCE", 0.3)
    with locks.locked(tmp_path, patience=0):  # its time is renewed after 5 seconds
        before = time.monotonic()
        with locks.locked(tmp_path, patience=0, take_over=True):
            assert time.monotonic() - before >= 0.3
        with pytest.raises(locks.LockedError), locks.locked(tmp_path, patience=1):
            pass


def test_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not locks.is_locked(tmp_path / "none")
    assert not locks.is_locked(tmp_path)
    with locks.locked(tmp_path, patience=0):
        assert locks.is_locked(tmp_path)
    assert not locks.is_locked(tmp_path)
    # Of another machine's lock only the time may be seen.
    lock = tmp_path / locks.LOCK
    lock.write_text("another machine")
    assert locks.is_locked(tmp_path)
    os.utime(lock, (time.time() - 2 * locks.SILENCE,) * 2)
    assert not locks.is_locked(tmp_path)
    # Of this machine's, the lock says it: the process was killed.
    lock.write_text(locks.socket.gethostname())
    assert not locks.is_locked(tmp_path)


def test_a_finished_run_is_not_done_again_by_who_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(CONFIG, tmp_path)
    folder = tmp_path / "runs" / CONFIG.folder_of(FIRST)
    assert finished_result(folder, CONFIG, FIRST) is not None
    monkeypatch.setattr(execution, "train", None)
    outcomes: list[Outcome] = []
    perform(Task(FIRST, CONFIG, None, (0,), (1,), folder), outcomes.append)  # type: ignore[arg-type]
    assert [outcome.kind for outcome in outcomes] == ["started", "finished"]


# processes


class _Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("stays here")


def test_what_cannot_be_sent_fails_its_run_only(tmp_path: Path) -> None:
    run = Run("tube", 0.06, 0, "soft_dice")
    tasks = [
        Task(run, CONFIG, _Unpicklable(), (0,), (1,), tmp_path / name)  # type: ignore[arg-type]
        for name in "abc"
    ]
    outcomes: list[Outcome] = []
    ProcessExecutor(2, 1)(tasks, outcomes.append)
    assert [outcome.kind for outcome in outcomes] == ["failed"] * 3
    assert all("stays here" in outcome.error for outcome in outcomes)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_changes_nothing(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=40)
    expected = run_study(config, tmp_path / "one").runs
    killed: list[Run] = []

    def kill(event: Progress) -> None:
        if event.kind == "epoch" and not killed and event.epoch is not None:
            assert event.run is not None
            killed.append(event.run)
            children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
            found = [pid for path in children for pid in path.read_text().split()]
            spawned = [p for p in found if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]
            for process in spawned:
                os.kill(int(process), signal.SIGKILL)

    seen: list[Progress] = []

    def progress(event: Progress) -> None:
        seen.append(event)
        kill(event)

    executor = ProcessExecutor(2, threads=1)
    result = run_study(config, tmp_path / "two", executor=executor, progress=progress)
    lost = [event for event in seen if event.kind == "lost"]
    assert {event.run for event in lost} >= set(killed)
    assert all("SIGKILL" in event.error for event in lost)
    assert result.failed == []
    for one, other in zip(result.runs, expected, strict=True):
        assert one["cases"] == other["cases"]
        assert [e["loss"] for e in one["epochs"]] == [e["loss"] for e in other["epochs"]]


def test_threads_do_not_depend_on_the_runs_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They decide the last bits of a result."""
    begun: list[int] = []

    def begin(threads: int) -> None:
        begun.append(threads)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setattr(processes, "_Worker", begin)
    config = dataclasses.replace(CONFIG, folds=2, losses=("cross_entropy", "soft_dice"), workers=4)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_study(config, tmp_path)
        environment = json.loads((tmp_path / "environment.json").read_text())
        assert (environment["workers"], environment["threads"]) == (4, 2)
        # All but one are done the second time.
        for run in config.runs()[1:]:
            folder = tmp_path / "runs" / config.folder_of(run)
            perform(_task(config, run, tmp_path), lambda _: None)
            assert finished_result(folder, config, run) is not None
    assert begun == [2, 2]


def _task(config: StudyConfig, run: Run, folder: Path) -> Task:
    cases = phantom("tube", cases=2, patch_shape=config.patch_shape, cache_dir=folder / "cache")
    return Task(run, config, cases, (0,), (1,), folder / "runs" / config.folder_of(run))


def test_wrong_numbers_of_workers() -> None:
    for wrong in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected at least 1"):
            ProcessExecutor(**wrong)


def test_a_missing_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginseg.study.executors.ray.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"^executor: Ray is not installed.*marginseg\[ray\]"):
        RayExecutor()
