"""Runs in processes of this machine: the same bits, whatever dies."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from marginseg.data import phantom
from marginseg.study import Progress, Run, StudyConfig, run_study
from marginseg.study.executors import ProcessExecutor, processes
from marginseg.study.folder import StudyFolder
from marginseg.study.run import Outcome, Task, perform
from marginseg.study.run_folder import RunFolder
from studies import living

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


class _Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("stays here")


def test_what_cannot_be_sent_fails_its_run_only(tmp_path: Path) -> None:
    run = Run("tube", 0.06, 0, "soft_dice")
    tasks = [
        Task(run, CONFIG, _Unpicklable(), (0,), (1,), RunFolder(tmp_path / name))  # type: ignore[arg-type]
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
            task = _task(config, run, tmp_path)
            perform(task, lambda _: None)
            assert task.folder.finished_result(config, run) is not None
    assert begun == [2, 2]


def _task(config: StudyConfig, run: Run, folder: Path) -> Task:
    cases = phantom("tube", cases=2, patch_shape=config.patch_shape, cache_dir=folder / "cache")
    return Task(run, config, cases, (0,), (1,), StudyFolder(folder).run(config, run))


def test_wrong_numbers_of_workers() -> None:
    for wrong in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected at least 1"):
            ProcessExecutor(**wrong)


class _Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


@pytest.mark.slow
def test_a_dying_process_fails_its_run_only(tmp_path: Path) -> None:
    run = Run("tube", 0.0, 0, "soft_dice")
    deadly = [
        Task(run, CONFIG, _Deadly(), (0,), (1,), RunFolder(tmp_path / str(place)))  # type: ignore[arg-type]
        for place in range(2)
    ]
    outcomes: list[Outcome] = []
    ProcessExecutor(2, 1)(deadly, outcomes.append)
    assert sorted(o.kind for o in outcomes) == ["failed"] * 2 + ["lost"] * 2
    assert all("status 3" in outcome.error for outcome in outcomes)


@pytest.mark.slow
def test_ctrl_c_ends_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import dataclasses, sys\n"
        "from marginseg.study import QUICK, run_study\n"
        "if __name__ == '__main__':\n"
        "    show = lambda e: print(e.kind, flush=True)\n"
        "    config = dataclasses.replace(QUICK, workers=2, structures=('tube',))\n"
        "    run_study(config, sys.argv[1], progress=show)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "study"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert errors.count("KeyboardInterrupt") == 1  # the parent's, and none from a worker
    deadline = time.monotonic() + 10
    while living(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living(process.pid) == []
