"""Files that are there whole or not at all."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from marginseg.files import atomic
from marginseg.files.atomic import LEFTOVER, remove_leftovers, replacing, write_text


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_is_interrupted_leaves_the_file_as_it_was(
    failure: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "a file"
    path.write_text("before")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half")
            assert path.read_text() == "before"
            raise failure

    with pytest.raises(failure):
        interrupted()
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a file"]


@pytest.mark.parametrize("fsync", [True, False])
def test_fsync_is_asked_for_or_not(
    fsync: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it the content is on the disk before the name is there."""
    synced: list[bytes] = []

    def note(_: int) -> None:
        assert not (tmp_path / "a").exists()
        (unfinished,) = tmp_path.iterdir()
        synced.append(unfinished.read_bytes())

    monkeypatch.setattr(os, "fsync", note)
    with replacing(tmp_path / "a", fsync=fsync) as file:
        file.write(b"whole")
    assert synced == ([b"whole"] if fsync else [])
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_every_leftover_of_a_kill_is_known(tmp_path: Path) -> None:
    """The process ends in the middle: what is left is what another one removes."""
    child = os.fork()
    if child == 0:
        with replacing(tmp_path / ("long" * 60)) as file:  # 240 letters; 255 are the most
            file.write(b"half")
            file.flush()
            os._exit(0)
    os.waitpid(child, 0)
    (tmp_path / "kept").touch()
    left = [path.name for path in tmp_path.iterdir() if path.name != "kept"]
    assert len(left) == 1
    assert left[0].startswith(LEFTOVER)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_an_error_names_the_file_that_the_caller_knows(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "none" / "a", "text")
    assert caught.value.filename == str(tmp_path / "none" / "a")


def test_an_error_within_another_names_the_file_too(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "a"):
            try:
                raise OSError(28, "No space left on device")
            except OSError:
                raise RuntimeError("unexpected position")  # noqa: B904, as torch.save does

    with pytest.raises(RuntimeError) as caught:
        write()
    assert isinstance(caught.value.__context__, OSError)
    assert caught.value.__context__.filename == str(tmp_path / "a")


def writes(source: str) -> bool:
    """Tell whether a source opens a file for writing, or has pathlib write it."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        modes = [*node.args, *(keyword.value for keyword in node.keywords)]
        opened = name == "open" and any(
            isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wxa+") for mode in modes
        )
        # atomic's own write_text is a function, pathlib's is a method.
        method = isinstance(node.func, ast.Attribute) and name in ("write_text", "write_bytes")
        if opened or method:
            return True
    return False


def test_the_one_writer_is_this_one() -> None:
    """No other module of the package writes a file, but for a lock, which holds a name."""
    package = Path(atomic.__file__).parents[1]
    writers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if writes(path.read_text(encoding="utf-8"))
    }
    assert writers == {"files/atomic.py", "files/locks.py"}


def test_a_second_writer_would_be_seen() -> None:
    for source in ("path.write_text('a')", "open(path, 'w')", "path.open(mode='xb')"):
        assert writes(source)
    for source in ("path.open()", "path.open('rb')", "write_text(path, 'a')"):
        assert not writes(source)
