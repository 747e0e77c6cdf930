"""Runs side by side in threads: on a GPU by streams; here the same bookkeeping on the CPU."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest

from marginseg.study import Progress, StudyConfig, run_study
from marginseg.study.executors import ProcessExecutor
from marginseg.study.executors.threads import ThreadExecutor
from studies import without_times

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = StudyConfig(
    structures=("tube",),
    std=(0.0, 0.06),
    folds=2,
    patch_shape=(16, 16, 16),
    phantom_cases=4,
    features=(2, 4),
    epochs=2,
    learning_rate=1e-2,
    device="cpu",
)


def test_threads_give_the_bits_of_one_run_after_another(tmp_path: Path) -> None:
    alone = run_study(TINY, tmp_path / "alone", executor=ProcessExecutor(workers=1))
    seen: list[Progress] = []
    before = threading.active_count()
    together = run_study(
        TINY, tmp_path / "together", executor=ThreadExecutor(3), progress=seen.append
    )
    assert threading.active_count() == before
    assert together.failed == []
    assert without_times(together.runs) == without_times(alone.runs)
    assert [event.kind for event in seen].count("finished") == 8
    environment = json.loads((tmp_path / "together" / "environment.json").read_text())
    assert (environment["executor"], environment["workers"]) == ("threads", 3)


def test_an_interrupted_study_leaves_no_thread_and_goes_on(tmp_path: Path) -> None:
    def stop(event: Progress) -> None:
        if event.kind == "epoch":
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_study(TINY, tmp_path / "study", executor=ThreadExecutor(2), progress=stop)
    assert threading.active_count() == before
    again = run_study(TINY, tmp_path / "study", executor=ThreadExecutor(2))
    alone = run_study(TINY, tmp_path / "alone", executor=ProcessExecutor(workers=1))
    assert without_times(again.runs) == without_times(alone.runs)


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, std=(0.06,), epochs=1)
    broken = config.runs()[1]
    place = tmp_path / "study" / "runs" / config.folder_of(broken)
    place.parent.mkdir(parents=True)
    place.write_text("a file in the folder's place")
    result = run_study(config, tmp_path / "study", executor=ThreadExecutor(2))
    assert [failed.run for failed in result.failed] == [broken.id]
    assert len(result.runs) == 3


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="^workers: "):
        ThreadExecutor(0)
