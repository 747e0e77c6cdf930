"""Runs on a Ray cluster: the same bits as in processes, whatever dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from marginseg.study import Progress, run_study
from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.executors import ProcessExecutor, RayExecutor
from marginseg.study.run_folder import RunFolder
from marginseg.study.task import Outcome, Task
from studies import without_times

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'marginseg[ray]'")

CONFIG = StudyConfig(
    structures=("tube",),
    std=(0.06,),
    folds=2,
    patch_shape=(16, 16, 16),
    phantom_cases=4,
    features=(2, 4),
    epochs=40,
    learning_rate=1e-2,
)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray of this machine alone, with two CPUs, that the executor finds connected."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def holder(folder: Path) -> int | None:
    """Return the process that holds the lock of a run's folder, if one does."""
    inode = (folder / ".lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) == inode:
            return int(fields[4])
    return None


def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    expected = run_study(CONFIG, tmp_path / "processes", executor=ProcessExecutor(2, threads=1))
    assert expected.failed == []
    victim = tmp_path / "ray" / "runs" / CONFIG.folder_of(CONFIG.runs()[0])
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        """Kill the process of the first run when it has done a few of its epochs."""
        while not killed and not over.is_set():
            log = victim / "log.jsonl"
            if log.exists() and 5 <= len(log.read_text().splitlines()) < CONFIG.epochs - 5:
                process = holder(victim)
                if process is not None:
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    seen: list[Progress] = []
    try:
        result = run_study(CONFIG, tmp_path / "ray", executor=RayExecutor(), progress=seen.append)
    finally:
        over.set()
        thread.join()
    assert len(killed) == 1
    assert killed[0] != os.getpid()
    assert result.failed == []
    assert without_times(result.runs) == without_times(expected.runs)
    for run in CONFIG.runs():
        states = [
            torch.load(tmp_path / name / "runs" / CONFIG.folder_of(run) / "model.pt")["state"]
            for name in ("ray", "processes")
        ]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert [event.done for event in seen] == sorted(event.done for event in seen)
    kinds = [event.kind for event in seen]
    assert kinds.count("finished") == 4
    assert kinds.count("epoch") >= 4
    assert ray.is_initialized()  # it was connected before


def test_a_run_that_fails_is_reported_and_not_tried_again(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=1)
    broken = config.runs()[1]
    folder = tmp_path / "runs" / config.folder_of(broken)
    folder.parent.mkdir()
    folder.write_text("a file in the folder's place")
    seen: list[Progress] = []
    result = run_study(config, tmp_path, executor=RayExecutor(), progress=seen.append)
    assert [failed.run for failed in result.failed] == [broken.id]
    assert "FileExistsError" in result.failed[0].error
    assert len(result.runs) == 3
    assert [event.kind for event in seen].count("failed") == 1
    folder.unlink()
    assert run_study(config, tmp_path, executor=RayExecutor()).failed == []


class _Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("stays here")


class _Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


@pytest.mark.parametrize(
    ("dataset", "words"), [(_Unpicklable(), "stays here"), (_Unreadable(), "no number")]
)
def test_what_cannot_be_sent_fails_its_run_only(dataset: Any, words: str, tmp_path: Path) -> None:
    run = Run("tube", 0.06, 0, "soft_dice")
    folders = [RunFolder(tmp_path / "runs" / name) for name in "ab"]
    tasks = [Task(run, CONFIG, dataset, (0,), (1,), folder) for folder in folders]
    outcomes: list[Outcome] = []
    RayExecutor()(tasks, outcomes.append)
    assert [outcome.kind for outcome in outcomes] == ["failed"] * 2
    assert all(words in outcome.error for outcome in outcomes)
    assert all("\n" not in outcome.error for outcome in outcomes)


def test_an_interruption_cancels_what_is_under_way(tmp_path: Path) -> None:
    def stop(event: Progress) -> None:
        if event.kind == "epoch":
            raise KeyboardInterrupt

    config = dataclasses.replace(CONFIG, epochs=3000)
    with pytest.raises(KeyboardInterrupt):
        run_study(config, tmp_path, executor=RayExecutor(), progress=stop)
    folders = [tmp_path / "runs" / config.folder_of(run) for run in config.runs()]
    begun = [folder for folder in folders if (folder / ".lock").exists()]
    assert begun
    deadline = time.monotonic() + 20
    while any(map(holder, begun)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(holder, begun))


def test_what_the_cluster_cannot_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^gpu_share: the cluster has 0 GPUs"):
        run_study(CONFIG, tmp_path / "study", executor=RayExecutor(gpu_share=0.5))
    with pytest.raises(ValueError, match="^threads: no machine"):
        run_study(CONFIG, tmp_path / "study", executor=RayExecutor(threads=3))
    assert not (tmp_path / "study").exists()
    for wrong in ({"gpu_share": -1.0}, {"gpu_share": 1.5}, {"threads": 0}, {"workers": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
            RayExecutor(**wrong)  # type: ignore[arg-type]
