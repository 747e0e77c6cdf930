"""Commands whose disk becomes full: one line names the file, and nothing half-written is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

import made_up_maps
from command_line import run
from full_disk import NEVER, disk_of
from studies import assert_same, everything
from volume_files import save

STUDY = (
    *("study", "--structure", "tube", "--std", 0.06, "--folds", 2, "--patch", "8x8x8"),
    *("--features", "2-4", "--epochs", 1, "--max-cases", 2, "--workers", 1),
)
PREPARE = ("prepare", "--data", "phantom", "--structure", "tube", "--patch", "8x8x8")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in "ab":
        label = np.zeros((14, 12, 10), np.uint8)
        label[3:9, 2:8, 2:8] = 1
        save(folder / f"{name}.nii.gz", label)
    return folder


def commands(inputs: Path) -> dict[str, tuple[tuple[object, ...], str]]:
    """Return each command with the name of what it writes, in a folder that is there."""
    one = inputs / "a.nii.gz"
    return {
        "threshold": (("threshold", one), "out.nii.gz"),
        "threshold plain": (("threshold", one), "out.nii"),
        "threshold several": (("threshold", inputs), "out"),
        "marginals": (("marginals", one, "--std", 0.05), "out.nii.gz"),
        "marginals several": (("marginals", inputs, "--std", 0.05), "out"),
        "noise": (("noise", one, "--std", 0.05, "--samples", 2), "out"),
        "noise several": (("noise", inputs, "--std", 0.05), "out"),
        "prepare": ((*PREPARE, "--max-cases", 2), "out"),
        "figure1": (("figure1",), "out.png"),
        "study": (STUDY, "out"),
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files by their names, but for what tells the order in which threads ended."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "finished.json"
    }


def check_told(result: Result | subprocess.CompletedProcess[str], folder: Path) -> None:
    """One line for what failed, with the name of a file, and no traceback."""
    status = result.exit_code if isinstance(result, Result) else result.returncode
    assert status in (1, 2), result.stdout
    lines = result.stderr.splitlines()
    told = [line for line in lines if "No space left on device" in line]
    assert told, result.stderr
    assert all(str(folder) in line for line in told), told
    assert all(line.startswith("marginseg: ") for line in lines), lines
    assert status == 1 or len(lines) == 1, lines


def check_sweep(command: Sequence[object], name: str, tmp_path: Path) -> int:
    """Fill the disk at every moment; return how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = tmp_path / "whole"
        whole.mkdir()
        with disk_of(NEVER) as disk:
            assert run(*command, "-o", whole / name).exit_code == 0
        expected = contents(whole)
        for room in range(disk.asked):
            folder = tmp_path / f"room {room}"
            folder.mkdir()
            with disk_of(room) as full:
                result = run(*command, "-o", folder / name)
            if not full.is_full:  # the first call of Matplotlib writes a cache of its own
                assert result.exit_code == 0
                break
            check_told(result, folder)
            for path, content in contents(folder).items():
                assert ".unfinished-" not in path
                assert content == expected[path], path
            again = run(*command, "-o", folder / name)
            assert again.exit_code == 0, again.output
            assert contents(folder) == expected
            for record in folder.rglob("finished.json"):
                assert len(json.loads(record.read_text())) == 2
            shutil.rmtree(folder)
        return disk.asked
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name",
    [
        *("threshold", "threshold plain", "marginals", "noise", "prepare"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("threshold several", "marginals several", "noise several", "figure1")
        ),
    ],
)
def test_full_at_every_write(name: str, inputs: Path, tmp_path: Path) -> None:
    assert check_sweep(*commands(inputs)[name], tmp_path) >= 3


@pytest.mark.slow
def test_an_evaluation_full_at_every_write(tmp_path: Path) -> None:
    maps, labels = tmp_path / "maps", tmp_path / "labels"
    for folder in (maps, labels):
        folder.mkdir()
    for seed in range(2):
        truth = made_up_maps.truth(seed, 8, 1)
        save(maps / f"case_{seed}.nii.gz", truth[0].astype(np.float32))
        save(labels / f"case_{seed}.nii.gz", made_up_maps.drawn(seed, truth)[0].astype(np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("marginseg.report.evaluations._draw", lambda *_: {})
        check_sweep(("evaluate", maps, labels, "--workers", 1), "out", tmp_path)


def check_study(room: int, folder: Path, expected: Path) -> int:
    """Fill the disk in a study, and let it go on; return how much room it asked for."""
    with disk_of(room) as disk:
        result = run(*STUDY, "-o", folder)
    if not disk.is_full:
        return disk.asked
    assert result.exit_code in (1, 2), result.output
    lines = result.stderr.splitlines()
    assert all(line.startswith(("marginseg: ", "[", "writing the report")) for line in lines)
    told = [line for line in lines if "No space left on device" in line]
    assert told
    assert all(str(folder) in line for line in told), told
    if folder.exists():
        assert not list(folder.rglob(".unfinished-*"))
        everything(folder)  # as far as it goes, it can be read
        for path in folder.glob("*.png"):
            with Image.open(path) as picture:
                picture.load()
    again = run(*STUDY, "-o", folder)
    assert again.exit_code == 0, again.output
    assert_same(folder, expected)
    return disk.asked


@pytest.fixture
def whole_study(
    tmp_path: Path, one_thread: None, request: pytest.FixtureRequest
) -> Iterator[tuple[Path, int]]:
    """A study whose disk has room, without figures unless a test draws some; and what it asks."""
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request, "param", False):
            patch.setattr("marginseg.report.writing._draw", lambda *_: {})
        with disk_of(NEVER) as disk:
            result = run(*STUDY, "-o", tmp_path / "whole")
        assert result.exit_code == 0, result.output
        yield tmp_path / "whole", disk.asked


@pytest.mark.parametrize("share", [0.02, 0.6])
def test_a_study_goes_on_when_there_is_room_again(
    share: float, whole_study: tuple[Path, int], tmp_path: Path
) -> None:
    expected, asked = whole_study
    check_study(int(share * asked), tmp_path / "study", expected)


@pytest.mark.slow
def test_a_study_full_at_every_write(whole_study: tuple[Path, int], tmp_path: Path) -> None:
    expected, asked = whole_study
    for room in range(asked):
        check_study(room, tmp_path / f"study {room}", expected)
        shutil.rmtree(tmp_path / f"study {room}")


@pytest.mark.slow
@pytest.mark.parametrize("whole_study", [True], indirect=True)
def test_a_report_full_at_many_writes(whole_study: tuple[Path, int], tmp_path: Path) -> None:
    expected, _ = whole_study
    with disk_of(NEVER) as disk:
        assert run(*STUDY, "-o", expected).exit_code == 0  # writes the report only
    for room in range(0, disk.asked, max(1, disk.asked // 12)):
        shutil.copytree(expected, tmp_path / "study")
        check_study(room, tmp_path / "study", expected)
        shutil.rmtree(tmp_path / "study")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where this machine allows to mount one."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=40", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["threshold plain", "noise", "prepare"])
def test_a_real_file_system_that_is_full(
    name: str, inputs: Path, small_disk: Path, tmp_path: Path
) -> None:
    """As the fake one does: a file or two more than it has room for."""
    command, out = commands(inputs)[name]
    (small_disk / "ballast").write_bytes(bytes(56 << 10))  # two pages are left
    random = np.random.default_rng(0)
    for path in inputs.iterdir():
        save(path, random.integers(0, 2, (40, 40, 40), np.uint8))
    command = (
        ("prepare", *PREPARE[1:-1], "16x16x16", *command[-2:]) if name == "prepare" else command
    )
    check_told(run(*command, "-o", small_disk / out), small_disk)
    left = [path.name for path in small_disk.rglob("*") if path.is_file()]
    assert left == ["ballast"]
    assert run(*command, "-o", tmp_path / out).exit_code == 0
