"""Each of many files is done once, and one that fails stops no other."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from command_line import refused, run
from marginseg.cli.several import Row
from volume_files import load, save


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    folder = tmp_path / "some maps"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(5):
        m = (random.random((6, 7, 8)) ** 4).astype(np.float32)
        save(folder / f"case {number}.nii{'.gz' if number % 2 else ''}", m)
    (folder / "notes.txt").write_text("no volume")
    return folder


def test_a_folder_is_cut_file_by_file(maps: Path, tmp_path: Path) -> None:
    result = run("threshold", maps, "-o", tmp_path / "segs")
    assert result.exit_code == 0, result.output
    alone = {}
    for path in sorted(maps.glob("*.nii*")):
        one = run("threshold", path, "-o", tmp_path / "one.nii")
        alone[path.name] = one.stdout.splitlines()[1].split()
        assert_array_equal(load(tmp_path / "segs" / path.name), load(tmp_path / "one.nii"))
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["file", "class", "threshold", "expected", "Dice", "voxels", "ml"]
    assert [line.split()[2:] for line in lines[1:-1]] == list(alone.values())
    assert [" ".join(line.split()[:2]) for line in lines[1:-1]] == list(alone)
    assert lines[-1] == str(tmp_path / "segs")


def test_files_and_folders_can_be_mixed(maps: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other.nii", np.full((2, 3, 4), 0.5, np.float32))
    assert run("threshold", other, maps, "-o", tmp_path / "segs").exit_code == 0
    written = {path.name for path in (tmp_path / "segs").glob("*.nii*")}
    assert written == {"other.nii", *(path.name for path in maps.glob("*.nii*"))}


def test_one_that_fails_stops_no_other(maps: Path, tmp_path: Path) -> None:
    (maps / "case 1.nii.gz").write_bytes(b"\x1f\x8bnonsense")
    save(maps / "case 3.nii.gz", np.full((2, 2, 2), np.nan, np.float32))
    result = run("threshold", maps, "-o", tmp_path / "segs")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"marginseg: {maps / 'case 1.nii.gz'}: expected a whole")
    assert lines[1].startswith(
        f"marginseg: {maps / 'case 3.nii.gz'}: expected values within [0, 1]"
    )
    assert lines[2] == "marginseg: 2 of 5 files failed"
    written = sorted(path.name for path in (tmp_path / "segs").glob("*.nii*"))
    assert written == ["case 0.nii", "case 2.nii", "case 4.nii"]
    assert not list((tmp_path / "segs").glob(".unfinished*"))


def test_what_is_done_is_not_done_again(maps: Path, tmp_path: Path) -> None:
    output = tmp_path / "segs"
    first = run("threshold", maps, "-o", output)
    times = {path: path.stat().st_mtime_ns for path in output.glob("*.nii*")}
    (output / "case 0.nii").unlink()
    os.utime(maps / "case 1.nii.gz", ns=(1, 1))
    second = run("threshold", maps, "-o", output)
    assert second.stdout == first.stdout
    changed = {path.name for path in times if path.stat().st_mtime_ns != times[path]}
    assert changed == {"case 0.nii", "case 1.nii.gz"}
    # Other options ask for other files.
    assert run("threshold", maps, "-o", output, "--metric", "accuracy").exit_code == 0
    for path in maps.glob("*.nii*"):
        assert_array_equal(load(output / path.name), load(path) >= 0.5)


def test_what_others_have_replaced_is_done_again(maps: Path, tmp_path: Path) -> None:
    other = tmp_path / "other maps"
    other.mkdir()
    save(other / "case 0.nii", np.full((6, 7, 8), 0.9, np.float32))
    output = tmp_path / "segs"
    first = run("threshold", maps, "-o", output)
    assert run("threshold", other, "-o", output).exit_code == 0
    assert load(output / "case 0.nii").all()
    assert run("threshold", maps, "-o", output).stdout == first.stdout
    assert not load(output / "case 0.nii").all()


def test_hidden_files_are_none_of_a_folders(maps: Path, tmp_path: Path) -> None:
    (maps / "._case 0.nii").write_bytes(b"what a Mac leaves")
    assert run("threshold", maps, "-o", tmp_path / "segs").exit_code == 0
    assert not (tmp_path / "segs" / "._case 0.nii").exists()


def test_each_file_of_a_class_is_watched(tmp_path: Path) -> None:
    """Written in place: the folder's own time stays."""
    case = tmp_path / "maps" / "case"
    case.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("left", "right"):
        save(case / f"{name}.nii", random.random((6, 7, 8)).astype(np.float32))
    command = ("threshold", tmp_path / "maps", "--min-probability", 0.1, "-o", tmp_path / "segs")
    before = run(*command)
    assert before.exit_code == 0, before.output
    changed = save(tmp_path / "changed.nii", np.ones((6, 7, 8), np.float32)).read_bytes()
    time = case.stat().st_mtime_ns
    with (case / "right.nii").open("wb") as file:
        file.write(changed)
    assert case.stat().st_mtime_ns == time
    assert run(*command).stdout != before.stdout
    assert load(tmp_path / "segs" / "case.nii.gz")[..., 1].all()


def test_what_is_done_is_remembered_when_another_is_not(
    maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first file is interrupted, after the others are done.
    module = sys.modules["marginseg.cli.threshold"]
    cut_file, others = module.cut_file, threading.Semaphore(0)

    def cut_or_stop(source: Path, *arguments: object) -> Iterator[Row]:
        if source.name == "case 0.nii":
            for _ in range(4):
                assert others.acquire(timeout=60)
            raise KeyboardInterrupt
        yield from cut_file(source, *arguments)
        others.release()

    monkeypatch.setattr(module, "cut_file", cut_or_stop)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    assert run("threshold", maps, "-o", tmp_path / "segs").exit_code == 130
    record = json.loads((tmp_path / "segs" / "finished.json").read_text())
    done = {Path(entry["source"]).name for entry in record}
    assert done == {path.name for path in maps.glob("*.nii*")} - {"case 0.nii"}


def test_a_message_names_the_file_and_the_option(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.nii", np.ones((3, 4, 5), np.uint8))
    files = (tmp_path / "a.nii", tmp_path / "b.nii")
    result = run("noise", *files, "--std", 0.1, "--length-scale", 0, "-o", tmp_path / "out")
    assert result.exit_code == 1
    for path, line in zip(files, result.stderr.splitlines(), strict=False):
        assert line.startswith(f"marginseg: {path}: --length-scale: expected")


def test_a_damaged_record_is_as_none(maps: Path, tmp_path: Path) -> None:
    output = tmp_path / "segs"
    first = run("threshold", maps, "-o", output)
    for content in ("[", "[1, {}]", json.dumps({"a": 1})):
        (output / "finished.json").write_text(content)
        result = run("threshold", maps, "-o", output)
        assert (result.exit_code, result.stdout) == (0, first.stdout)


def test_noise_of_several_labels_differs(tmp_path: Path) -> None:
    data = np.zeros((20, 20, 20), np.uint8)
    data[5:15, 5:15, 5:15] = 1
    folder = tmp_path / "labels"
    folder.mkdir()
    for name in ("a", "b"):
        save(folder / f"{name}.nii.gz", data)
    arguments = ("--std", 0.05, "--samples", 2)
    result = run("noise", folder, *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    first, second = (load(tmp_path / "out" / f"{name}_noisy001.nii.gz") for name in "ab")
    assert (first != second).any()
    # They do not depend on which others are there.
    run("noise", folder / "b.nii.gz", folder / "a.nii.gz", *arguments, "-o", tmp_path / "again")
    for path in (tmp_path / "out").glob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_marginals_of_several_labels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        data = np.zeros((8, 9, 10), np.uint8)
        data[2:6, 2:6, 2:6] = 2 if name == "b" else 1
        save(tmp_path / f"{name}.nii.gz", data)
    files = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    result = run("marginals", *files, "--std", 0.05, "-o", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:-1]] == [
        ["a.nii.gz", "1"],
        ["b.nii.gz", "2"],
    ]
    assert_array_equal(load(tmp_path / "m/a.nii.gz"), load(tmp_path / "m/b.nii.gz"))


def test_what_cannot_be_begun(maps: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    output = tmp_path / "out"
    refused(run("threshold", tmp_path / "empty", "-o", output), ".nii", output=output)
    refused(run("threshold", maps, "-o", maps), "input")
    refused(run("threshold", maps, "-o", tmp_path / "s.nii.gz"), "--output", "folder")
    twice = [maps / "case 0.nii", save(tmp_path / "case 0.nii", np.ones((2, 2), np.float32))]
    refused(run("threshold", *twice, "-o", output), "case 0", "twice", output=output)
    one = maps / "case 0.nii"
    refused(run("threshold", one, "-o", one), "input")
