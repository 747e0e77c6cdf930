"""A study's folder: what is written there is read, and what is damaged counts as missing."""

from __future__ import annotations

import ast
import copy
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import marginseg.study
from made_up_study import write_study
from marginseg.report.results import read_results
from marginseg.study import StudyConfig, run_folder
from marginseg.study.evaluation import METHODS, evaluate
from marginseg.study.folder import ALL_CASES, RecordedFailure, SkippedCase, StudyFolder
from marginseg.study.run_folder import SLICES, RunFolder
from marginseg.training.device import TrainedOn
from marginseg.training.state import Epoch

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


def planes_damaged(path: Path, damage: str) -> None:
    """Write the planes of three test cases so that the archive, or an array in it, is broken."""
    planes = np.zeros((3, 4, 5), np.uint8)
    if damage in ("text", "bomb"):
        planes = planes.astype("S3") if damage == "text" else np.zeros((3, 900, 900), np.uint8)
    arrays = {}
    for name in SLICES:
        file = io.BytesIO()
        np.save(file, planes)
        arrays[name] = file.getvalue()
    if damage == "token":
        arrays["image"] = arrays["image"][:10] + b"{'descr': (".ljust(118) + arrays["image"][128:]
    way = {"codes": zipfile.ZIP_LZMA, "bomb": zipfile.ZIP_DEFLATED}.get(damage, zipfile.ZIP_STORED)
    with zipfile.ZipFile(path, "w", way) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    content = bytearray(path.read_bytes())
    if damage == "codes":
        content[60:70] = bytes(range(200, 210))
    if damage == "locked":
        content[content.index(b"PK\1\2") + 8] |= 1  # says that it needs a password
    if damage == "way":
        content[content.index(b"PK\1\2") + 10] = 77
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["token", "codes", "locked", "way", "text", "bomb"])
def test_damaged_planes_count_as_missing(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "LARGEST_SLICES", 10_000_000)  # the bomb has 12 million bytes
    planes_damaged(tmp_path / "slices.npz", "none")
    assert RunFolder(tmp_path).read_slices(3) is not None
    planes_damaged(tmp_path / "slices.npz", damage)
    assert RunFolder(tmp_path).read_slices(3) is None


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
    folder.write_result(run, seconds=1.0, epochs=epochs, trained_on=HERE, cases=[])
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


def leaves(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the place of everything in what JSON says, containers too, but once of a list."""
    yield place
    parts = enumerate(content[:1]) if isinstance(content, list) else ()
    for key, value in content.items() if isinstance(content, dict) else parts:
        yield from leaves(value, (*place, key))


def replaced(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = copy.copy(content)
    changed[place[0]] = replaced(content[place[0]], place[1:], value)
    return changed


HERE = [TrainedOn("cpu", "float32")]

WRONG = ("0.5", None, True, [], [[]], {}, -1, 1.7e9, 1e308, 10**400, float("nan"))


def test_a_result_with_anything_out_of_its_place_is_none(tmp_path: Path) -> None:
    """Whatever stands in the place of any of its parts, the run counts as not done."""
    config = StudyConfig(structures=("tube",), std=(0.5,), epochs=2)
    run = config.runs()[0]
    label = torch.tensor([1, 0, 1, 0])
    found = evaluate(
        torch.tensor([0.9, 0.2, 0.8, 0.1]), run.loss, clean=label, noisy=label, marginal=label / 2
    )
    folder = StudyFolder(tmp_path).run(config, run)
    folder.path.mkdir(parents=True)
    epochs = [Epoch(n, 0.5, -0.5, 1e-3, 1.0) for n in (1, 2)]
    cases = [{"name": name, "fold": 0, **found} for name in "ab"]
    folder.write_result(run, seconds=1.0, epochs=epochs, trained_on=HERE, cases=cases)
    path = folder.path / "result.json"
    whole = json.loads(path.read_text())
    assert folder.read_result(run) == whole
    allowed = []
    for place in leaves(whole):
        for value in WRONG:
            path.write_text(json.dumps(replaced(whole, place, value)))
            if folder.read_result(run) is not None:
                allowed.append((" ".join(map(str, place[-2:])), value))
    # How large a segmentation is, how many voxels a bin has and how long a training took may be
    # any size that exists; the loss is what it is. The fold of a case is told by its run.
    sizes = {"CE(0) volume_ratio", "CE(*) volume_ratio", "count 0", "0 seconds", "seconds"}
    loss = {"0 loss", "0 metric", "0 learning_rate"}
    assert {name for name, value in allowed if value == 1.7e9} == {*sizes, *loss, "0 fold"}
    assert {name for name, value in allowed if value in (-1, 1e308)} == {*loss, "0 fold"}
    # Any text is a name; whether there are as many epochs as there should be asks another method.
    others = {name for name, value in allowed if value not in (-1, 1.7e9, 1e308)}
    assert others == {"0 fold", "0 name", "epochs", "0 device"}
    older = {key: value for key, value in whole.items() if key != "trained_on"}
    path.write_text(json.dumps(older))
    assert folder.read_result(run) == older
    path.write_text("[" * 100_000)
    assert folder.read_result(run) is None
    # A case that is there twice, and a curve of fewer bins than the others'.
    for wrong in ([cases[0]] * 2, [replaced(cases[0], ("calibration", "held"), [1.0])]):
        folder.write_result(run, seconds=1.0, epochs=epochs, trained_on=HERE, cases=wrong)
        assert folder.read_result(run) is None


@pytest.mark.parametrize("score", ["dice_noisy", "dice_clean", "dice_marginal", "threshold"])
def test_a_score_beyond_1_is_none_and_the_report_names_the_run(tmp_path: Path, score: str) -> None:
    written = write_study(tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    config = folder.config()
    run, result = next(iter(written.items()))
    path = folder.run(config, run).path / "result.json"
    method = METHODS[run.loss][0]
    for value in (1.7, -0.1, float("nan"), float("inf"), "0.5"):
        path.write_text(json.dumps(replaced(result, ("cases", 0, "methods", method, score), value)))
        assert read_results(tmp_path / "study").unreadable == (run.id,)
    path.write_text(json.dumps(replaced(result, ("cases", 0, "methods", method, score), 1 + 1e-9)))
    assert read_results(tmp_path / "study").unreadable == ()


def test_of_a_log_the_epochs_before_the_first_that_is_wrong_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    epochs = [Epoch(n, 0.5, -0.5, 1e-3, 1.0) for n in (1, 2)]
    folder.write_epochs(epochs)
    log = tmp_path / "log.jsonl"
    text = log.read_text()
    for line in (
        *("7", "null", "{", "[" * 100_000, '{"epoch": 3}'),
        text.splitlines()[0],  # epoch 1 again
        text.splitlines()[0].replace('"epoch": 1', '"epoch": 3').replace("1.0", '"1.0"'),
        text.splitlines()[0].replace('"epoch": 1', '"epoch": 3').replace("0.5", "NaN"),
    ):
        log.write_text(f"{text}{line}\n")
        assert folder.read_epochs() == epochs


def test_of_the_noise_only_whole_records_are_read(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    good = {"structure": "tube", "std": 0.1, "folded_share": 0.0, "volume_loss": 0.5}
    wrong = [{**good, name: value} for name in good for value in (None, [], float("nan"), -1, True)]
    folder.write_noise([*wrong, good, {**good, "std": "0.1"}, {**good, "volume_loss": 10**400}])
    assert folder.read_noise() == [good]


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
        # The page's template has the name of the page, and evaluations a folder of their own.
        others = {
            "report/page.py": {"report.html"},
            "report/evaluation_folder.py": {"report.html", "cases.csv"},
        }
        found = (names & literals) - others.get(name, set())
        assert name in owners or not found, (name, found)
        seen |= found
    assert seen == names


def test_a_run_folder_can_be_sent_to_another_process(tmp_path: Path) -> None:
    import pickle

    folder = RunFolder(tmp_path)
    assert pickle.loads(pickle.dumps(folder)) == folder
