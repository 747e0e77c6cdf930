from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from marginseg.data import EmptyDatasetError
from marginseg.report import differences_table
from marginseg.study import Progress, Run, StudyConfig, run_study
from marginseg.study.executors import ProcessExecutor
from marginseg.study.folder import StudyFolder
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
    workers=1,
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "study"
    run_study(TINY, folder)
    return folder


def test_folder(finished: Path) -> None:
    assert StudyConfig.from_dict(json.loads((finished / "config.json").read_text())) == TINY
    results = lines(finished / "runs.jsonl")
    assert [Run(*(r[k] for k in ("structure", "std", "fold", "loss"))) for r in results] == (
        TINY.runs()
    )
    assert json.loads((finished / "skipped.json").read_text()) == []
    assert json.loads((finished / "failed.json").read_text()) == []
    environment = json.loads((finished / "environment.json").read_text())
    for run, result in zip(TINY.runs(), results, strict=True):
        folder = finished / "runs" / TINY.folder_of(run)
        assert json.loads((folder / "result.json").read_text()) == result
        assert lines(folder / "log.jsonl") == result["epochs"]
        files = {".lock", "log.jsonl", "model.pt", "result.json", "slices.npz"}
        assert {path.name for path in folder.iterdir()} == files
        assert result["trained_on"] == [{"device": "cpu", "precision": environment["precision"]}]
        for case in result["cases"]:
            if run.std == 0:
                assert case["sup_dice"] == 1.0
                for scores in case["methods"].values():
                    assert scores["dice_noisy"] == scores["dice_clean"]
                    assert scores["dice_marginal"] == pytest.approx(scores["dice_clean"])
            for scores in case["methods"].values():
                # Nobody beats sup D_m against the marginals; a map holds float32.
                assert scores["dice_marginal"] <= case["sup_dice"] + 1e-6
    noise = json.loads((finished / "noise.json").read_text())
    assert [entry["std"] for entry in noise] == [0.0, 0.06]
    assert noise[0]["folded_share"] == noise[0]["volume_loss"] == 0.0


def test_more_repeats_go_on_from_those_that_are_there(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished, folder)
    kinds: list[str] = []
    config = dataclasses.replace(TINY, std=(0.0, 0.06), repeats=2)
    result = run_study(config, folder, progress=lambda step: kinds.append(step.kind))
    assert kinds.count("started") == len(TINY.runs())
    assert [r["repeat"] for r in result.runs] == [0, 0, 0, 0, 1, 1, 1, 1] * 2
    of_repeats = {
        repeat: {
            (r["std"], r["loss"], c["name"]): c["sup_dice"]
            for r in result.runs
            if r["repeat"] == repeat
            for c in r["cases"]
        }
        for repeat in (0, 1)
    }
    assert of_repeats[0] == of_repeats[1]  # of the same cases
    # Without noise the labels are the same: what differs is the weights and the cases' order.
    plain = (0.0, 0, "cross_entropy")
    learnt = [r["epochs"] for r in result.runs if (r["std"], r["fold"], r["loss"]) == plain]
    assert len(learnt) == 2
    assert learnt[0][0]["loss"] != learnt[1][0]["loss"]
    rows = [r for r in differences_table(folder) if r["std"] == 0.06]
    assert {(row["n"], row["networks"]) for row in rows} == {(4, 4)}
    with pytest.raises(ValueError, match=r"other settings: repeats \(2 there, 1 now\)"):
        run_study(TINY, folder)


def test_a_study_grows_to_what_it_would_have_been(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    small = dataclasses.replace(TINY, std=(0.06,), losses=("soft_dice",))
    run_study(small, folder)
    kinds: list[str] = []
    result = run_study(TINY, folder, progress=lambda step: kinds.append(step.kind))
    assert kinds.count("started") == len(TINY.runs()) - len(small.runs())
    assert without_times(result.runs) == without_times(lines(finished / "runs.jsonl"))
    # Another structure may come at the same time; what is there may not go.
    with pytest.raises(ValueError, match=r"settings: std \(0.0 0.06 there, 0.06 now\), losses \("):
        run_study(dataclasses.replace(small, structures=("tube", "kidney")), folder)


def test_every_case_is_tested_once_and_losses_see_the_same_noisy_labels(finished: Path) -> None:
    results = lines(finished / "runs.jsonl")
    for std in TINY.std:
        for loss in TINY.losses:
            names = [
                case["name"]
                for result in results
                if (result["std"], result["loss"]) == (std, loss)
                for case in result["cases"]
            ]
            assert len(names) == len(set(names)) == TINY.phantom_cases
        pictures = [
            np.load(finished / "runs" / TINY.folder_of(Run("tube", std, 0, loss)) / "slices.npz")
            for loss in TINY.losses
        ]
        for key in ("image", "clean", "noisy", "marginal"):
            one, other = (arrays[key] for arrays in pictures)
            np.testing.assert_array_equal(one, other)
        assert pictures[0]["clean"].any(axis=(1, 2)).all()
        assert pictures[0]["probability"].shape == (2, 16, 16)


def test_a_finished_study_computes_nothing_again(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.glob("runs/*/*")}
    seen: list[Progress] = []
    result = run_study(TINY, finished, progress=seen.append)
    assert list(dict.fromkeys(event.kind for event in seen)) == ["preparing", "prepared"]
    assert [event.cases for event in seen[:-1]] == [0, 1, 2, 3, 4]
    assert (seen[-1].done, seen[-1].total) == (8, 8)
    assert seen[-1].work == seen[-1].total_work == 16
    assert result.runs == lines(finished / "runs.jsonl")
    assert {p: p.stat().st_mtime_ns for p in finished.glob("runs/*/*")} == before


def test_an_interrupted_study_goes_on_to_the_same_bits(finished: Path, tmp_path: Path) -> None:
    def stop(event: Progress) -> None:
        if event.kind == "epoch" and event.done == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run_study(TINY, folder, progress=stop)
    third = folder / "runs" / TINY.folder_of(TINY.runs()[3])
    assert (third / "checkpoint.pt").is_file()
    seen: list[Progress] = []
    result = run_study(TINY, folder, progress=seen.append)
    epochs = [(e.run, e.epoch.epoch) for e in seen if e.run is not None and e.epoch is not None]
    assert epochs[0] == (TINY.runs()[3], 2)  # from the checkpoint of epoch 1
    assert len([e for e in seen if e.kind == "finished"]) == 5
    assert without_times(result.runs) == without_times(lines(finished / "runs.jsonl"))


def test_several_processes_give_the_same_bits(finished: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, workers=2, std=(0.06,))
    seen: list[Progress] = []
    # A process for each CPU has one thread; where there are more CPUs, hold them to one.
    result = run_study(config, tmp_path / "study", progress=seen.append)
    assert result.failed == []
    assert [event.done for event in seen] == sorted(event.done for event in seen)
    kinds = [event.kind for event in seen]
    assert kinds.count("finished") == kinds.count("started") == 4
    assert seen[-1].done == seen[-1].total == 4
    expected = [r for r in lines(finished / "runs.jsonl") if r["std"] == 0.06]
    for one, other in zip(result.runs, expected, strict=True):
        for mine, theirs in zip(one["cases"], other["cases"], strict=True):
            assert mine["sup_dice"] == theirs["sup_dice"]
        if len(os.sched_getaffinity(0)) <= 3:
            assert without_times([one]) == without_times([other])


def test_another_configuration_is_refused(finished: Path) -> None:
    with pytest.raises(ValueError, match=r"^output_dir: .*epochs \(2 there, 3 now\); name another"):
        run_study(dataclasses.replace(TINY, epochs=3), finished)
    with pytest.raises(ValueError, match=r"std \(0\.0 0\.06 there, 0\.0 now\)"):
        run_study(dataclasses.replace(TINY, std=(0.0,)), finished)
    # How runs are executed is free to change.
    assert len(run_study(dataclasses.replace(TINY, workers=2), finished).runs) == 8


def test_until_an_epoch_is_trained_the_settings_may_change(tmp_path: Path) -> None:
    def stop(kind: str) -> Callable[[Progress], None]:
        def at(event: Progress) -> None:
            if event.kind == kind:
                raise KeyboardInterrupt

        return at

    folder = tmp_path / "study"
    for kind, seed in (("preparing", 1), ("prepared", 2), ("started", 3)):
        with pytest.raises(KeyboardInterrupt):
            run_study(dataclasses.replace(TINY, seed=seed), folder, progress=stop(kind))
        assert json.loads((folder / "config.json").read_text())["seed"] == seed
    # What was known of other settings is not told of these.
    (folder / "skipped.json").write_text('[{"structure": "tube", "name": "a", "reason": "b"}]')
    with pytest.raises(KeyboardInterrupt):
        run_study(TINY, folder, progress=stop("preparing"))
    assert StudyFolder(folder).read_skipped() == []
    assert not StudyFolder(folder).is_prepared
    # Settings that no study can have any more may be replaced, too.
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seed": 10**20}))
    with pytest.raises(KeyboardInterrupt):
        run_study(TINY, folder, progress=stop("epoch"))
    for changed in (dataclasses.replace(TINY, seed=1), dataclasses.replace(TINY, epochs=3)):
        with pytest.raises(ValueError, match="holds a study with other settings"):
            run_study(changed, folder)


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, std=(0.06,), epochs=1)
    broken = config.runs()[1]
    folder = tmp_path / "study" / "runs" / config.folder_of(broken)
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in the folder's place")
    seen: list[Progress] = []
    result = run_study(config, tmp_path / "study", progress=seen.append)
    assert [name for name, _, _ in result.failed] == [broken.id]
    assert "FileExistsError" in result.failed[0][1]
    assert "\n" not in result.failed[0][1]
    assert len(result.runs) == 3
    assert seen[-1].done == seen[-1].total == 4
    recorded = json.loads((tmp_path / "study" / "failed.json").read_text())
    assert [entry["run"] for entry in recorded] == [broken.id]
    assert "Traceback" in recorded[0]["details"]
    folder.unlink()
    again = run_study(config, tmp_path / "study")
    assert again.failed == []
    assert len(again.runs) == 4
    assert json.loads((tmp_path / "study" / "failed.json").read_text()) == []


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "study"

    def again(event: Progress) -> None:
        with pytest.raises(ValueError, match="another process works in"):
            run_study(TINY, folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(TINY, folder, progress=again)


def test_nothing_is_left_of_a_study_that_cannot_begin(tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, data="decathlon", directory=str(tmp_path / "none"), structures=()
    )
    with pytest.raises(ValueError, match="none"):
        run_study(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="^output_dir: "):
        run_study(TINY, tmp_path / "file")


def test_totalsegmentator_sample(totalsegmentator_dir: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY,
        data="totalsegmentator",
        directory=str(totalsegmentator_dir),
        structures=("esophagus",),
    )
    with pytest.raises(EmptyDatasetError, match="esophagus"):
        run_study(config, tmp_path / "study")
    both = dataclasses.replace(config, structures=("kidney_right", "esophagus"))
    with pytest.raises(ValueError, match=r"^folds: .*'kidney_right'.*'esophagus'"):
        run_study(both, tmp_path / "study")
    assert not (tmp_path / "study").exists()
    (tmp_path / "study").mkdir()
    with pytest.raises(ValueError, match=r"^folds: "):
        run_study(both, tmp_path / "study")
    assert list((tmp_path / "study").iterdir()) == []


def test_hippocampus_runs(hippocampus_dir: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, data="decathlon", directory=str(hippocampus_dir), structures=(), max_cases=4
    )
    result = run_study(dataclasses.replace(config, epochs=1, std=(0.03,)), tmp_path / "study")
    assert result.config.structures == ("all",)
    assert len(result.runs) == 4
    assert result.failed == []


class _Rented(ProcessExecutor):
    """Notes when it is entered and left."""

    def __init__(self, notes: list[str], *, refuses: bool = False) -> None:
        super().__init__(1)
        self.notes, self.refuses = notes, refuses

    def __enter__(self) -> Self:
        self.notes.append("enter")
        return self

    def __exit__(self, *_: object) -> None:
        self.notes.append("leave")

    def facts(self, runs: int) -> dict[str, Any]:
        self.notes.append("facts")
        if self.refuses:
            raise ValueError("there is no room")
        return super().facts(runs)


def test_an_executor_is_left_whatever_happens(tmp_path: Path) -> None:
    notes: list[str] = []
    with pytest.raises(ValueError, match="no room"):
        run_study(TINY, tmp_path / "a", executor=_Rented(notes, refuses=True))
    assert notes == ["enter", "facts", "leave"]
    assert not (tmp_path / "a").exists()

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    # The preparation fails.
    notes.clear()
    with pytest.raises(KeyboardInterrupt):
        run_study(TINY, tmp_path / "a", executor=_Rented(notes), progress=stop)
    assert notes == ["enter", "facts", "leave"]
    notes.clear()
    assert run_study(TINY, tmp_path / "b", executor=_Rented(notes)).failed == []
    assert notes == ["enter", "facts", "leave"]
