"""A study's folder: what is written there is read, and what is damaged counts as missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import marginseg.study
from made_up_study import write_study
from marginseg.study import StudyConfig
from marginseg.study.folder import ALL_CASES, RecordedFailure, SkippedCase, StudyFolder
from marginseg.study.run_folder import SLICES, RunFolder
from marginseg.training.train import Epoch

PACKAGE = Path(marginseg.study.__file__).parents[1]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert (folder.has_begun, folder.is_prepared, folder.is_locked) == (False, False, False)
    config = StudyConfig(structures=("tube",))
    folder.write_config(config)
    assert folder.has_begun
    assert folder.config() == config
    folder.write_environment({"workers": 3})
    assert folder.read_environment() == {"workers": 3}
    skipped = [SkippedCase("tube", "a", "too big"), SkippedCase("kidney", ALL_CASES, "none")]
    folder.write_skipped(skipped)
    assert folder.read_skipped() == skipped
    assert folder.structures_without_cases() == {"kidney"}
    noise = [{"structure": "tube", "std": 0.1, "folded_share": 0.0, "volume_loss": 0.5}]
    folder.write_noise(noise)
    assert folder.read_noise() == noise
    failures = [RecordedFailure("a", "a-1234", "ValueError: no", "Traceback")]
    folder.write_failed(failures)
    assert folder.read_failed() == failures
    folder.write_finished([{"a": 1}, {"a": 2}])
    assert folder.is_prepared
    with folder.locked(patience=0):
        assert folder.is_locked
    folder.remove_config()
    assert not folder.has_begun


def test_nothing_is_read_from_a_damaged_folder(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for name in ("config", "environment", "skipped", "noise", "failed"):
        (tmp_path / f"{name}.json").write_text("{[")
    assert folder.read_config() is None
    assert folder.read_environment() == {}
    assert (folder.read_skipped(), folder.read_noise(), folder.read_failed()) == ([], [], [])
    with pytest.raises(ValueError, match=r"expected a study's folder, got a damaged config\.json"):
        folder.config()


def test_no_study(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, found in (
        (tmp_path / "none", "no such folder"),
        (tmp_path / "file", "a file"),
        (tmp_path, "one without config.json"),
    ):
        expected = f"^{re.escape(str(path))}: expected a study's folder, got {found}$"
        with pytest.raises(ValueError, match=expected):
            StudyFolder(path).config()


def test_a_run_that_is_written_is_read(tmp_path: Path) -> None:
    config = StudyConfig(structures=("tube",), epochs=2)
    run = config.runs()[0]
    folder = StudyFolder(tmp_path).run(config, run)
    folder.path.mkdir(parents=True)
    epochs = [Epoch(n, 0.5, -0.5, 1e-3, 1.0) for n in (1, 2)]
    folder.write_epochs(epochs)
    assert folder.read_epochs() == epochs
    planes = np.random.default_rng(0).random((3, 4, 5))
    folder.write_slices(dict.fromkeys(SLICES, planes))
    read = folder.read_slices(3)
    assert read is not None
    assert all(np.array_equal(read[name], planes) for name in SLICES)
    assert folder.read_slices(2) is None
    folder.write_model((8, 16), {"weight": torch.ones(2)})
    model = torch.load(folder.path / "model.pt", weights_only=True)
    assert model["features"] == [8, 16]
    # Without the scores of a case it is no result.
    folder.write_result(run, seconds=1.0, epochs=epochs, cases=[])
    assert folder.has_result
    assert folder.read_result(run) is None
    assert folder.last_error() == ""
    assert folder.write_error("Traceback\nValueError: no\n\n") == folder.error_log
    assert folder.last_error() == "ValueError: no"
    folder.clear()
    assert not folder.error_log.exists()


def test_a_result_is_whole_or_none(tmp_path: Path) -> None:
    """Of a made-up study; the epochs that its results lack are why it would be done again."""
    written = write_study(tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    config = folder.config()
    for run, result in written.items():
        assert folder.run(config, run).read_result(run) == result
        assert folder.run(config, run).finished_result(config, run) is None
    first, second = [*written][:2]
    place = folder.run(config, first)
    text = (place.path / "result.json").read_text()
    assert place.read_result(second) is None
    for old, new in (
        ('"threshold"', '"other"'),
        ('"sup_dice": 0', '"sup_dice": "0'),
        ('"seconds": 1.5', '"seconds": null'),
        ('"held"', '"hold"'),
        ("}]}", "}]"),
    ):
        assert old in text
        (place.path / "result.json").write_text(text.replace(old, new, 1))
        assert place.read_result(first) is None, old


def test_the_names_of_its_files_stand_in_one_place() -> None:
    """No other module of the package has the name of a file in a study's folder."""
    names = {
        *("config.json", "environment.json", "skipped.json", "noise.json", "failed.json"),
        *("runs.jsonl", "log.jsonl", "checkpoint.pt", "slices.npz", "model.pt", "result.json"),
        *("error.log", "table.csv", "differences.csv", "cases.csv", "table.tex", "report.json"),
        "report.html",
    }
    owners = {"study/folder.py", "study/run_folder.py"}
    seen: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        name = str(path.relative_to(PACKAGE))
        # The page's template has the name of the page.
        found = (names & literals) - ({"report.html"} if name == "report/page.py" else set())
        assert name in owners or not found, (name, found)
        seen |= found
    assert seen == names


def test_a_run_folder_can_be_sent_to_another_process(tmp_path: Path) -> None:
    import pickle

    folder = RunFolder(tmp_path)
    assert pickle.loads(pickle.dumps(folder)) == folder
