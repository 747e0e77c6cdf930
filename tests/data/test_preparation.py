"""Preparing in parallel gives what one after the other would, whatever stops it in between."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marginseg.data import Case, Dataset, EmptyDatasetError, phantom
from marginseg.data.cache import Source, prepare
from marginseg.data.dataset import RejectedCaseError, UnusableCaseError, by_reason
from marginseg.files.atomic import LEFTOVER

SHAPE = (4, 4, 4)


class Made:
    """Cases by number; some cannot be used, and each takes a while of its own."""

    def __init__(self, usable: list[bool]) -> None:
        self.usable = usable
        self.calls: list[int] = []

    def __call__(self, number: int) -> Case:
        self.calls.append(number)
        time.sleep(0.001 * (number * 7 % 5))
        if not self.usable[number]:
            raise RejectedCaseError("it is odd", f"case {number}")
        return Case(str(number), np.full(SHAPE, number, np.float32), np.ones(SHAPE, np.uint8), (1,))

    def prepare(self, cache: Path, max_cases: int | None = None, **extra: object) -> Dataset:
        sources = [
            Source(f"case {number}", (), {}, partial(self, number))
            for number in range(len(self.usable))
        ]
        return prepare(
            "x",
            sources,
            patch_shape=SHAPE,
            spacing=None,
            max_cases=max_cases,
            cache_dir=cache,
            **extra,  # type: ignore[arg-type]
        )


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.none() | st.integers(1, 30))
def test_the_first_usable_cases_in_order_and_no_other_is_looked_at(
    usable: list[bool], max_cases: int | None
) -> None:
    # One after the other, by hand.
    kept, skipped, looked = [], [], 0
    for number, good in enumerate(usable):
        if max_cases is not None and len(kept) == max_cases:
            break
        looked += 1
        (kept if good else skipped).append(f"case {number}")
    made, told = Made(usable), list[tuple[int, int, int]]()
    with TemporaryDirectory() as folder:
        call = partial(
            made.prepare, Path(folder), max_cases, progress=lambda *facts: told.append(facts)
        )
        if not kept:
            with pytest.raises(EmptyDatasetError) as error:
                call()
            assert [name for name, _ in error.value.skipped] == skipped
            return
        data = call()
        assert [case.name for case in data.cases] == kept
        assert [name for name, _ in data.skipped] == skipped
        assert sorted(made.calls) == list(range(looked))
        wanted = len(usable) if max_cases is None else min(max_cases, len(usable))
        counts = np.cumsum(usable[:looked]).tolist()
        assert told == [(i + 1, count, wanted) for i, count in enumerate(counts)]
        # Neither those that were made nor those that were ruled out are made again.
        made.calls.clear()
        again = made.prepare(Path(folder), max_cases)
        assert made.calls == []
        assert (again.skipped, again.manifest) == (data.skipped, data.manifest)


def test_a_reason_of_the_moment_is_not_remembered(tmp_path: Path) -> None:
    def fails() -> Case:
        raise UnusableCaseError("a file is unreadable", "ct.nii.gz")

    def works() -> Case:
        return Made([True])(0)

    for make, count in ((fails, 0), (works, 1)):
        sources = [Source("a", (), {}, make)]
        call = partial(prepare, "x", sources, patch_shape=SHAPE, spacing=None, max_cases=None)
        if count:
            assert len(call(cache_dir=tmp_path)) == 1
        else:
            with pytest.raises(EmptyDatasetError):
                call(cache_dir=tmp_path)


def test_an_empty_reason_left_by_a_crash_is_no_reason(tmp_path: Path) -> None:
    made = Made([False, True])
    made.prepare(tmp_path)
    (rejection,) = tmp_path.glob("*.rejected")
    assert rejection.read_text() == "it is odd: case 0"
    rejection.write_text("")
    assert made.prepare(tmp_path).skipped == [("case 0", "it is odd: case 0")]


def test_reasons_are_grouped() -> None:
    reasons = [("a", "no: 1"), ("b", "other: 2: 3"), ("c", "no: 4")]
    assert by_reason(reasons) == {"no": [("a", "1"), ("c", "4")], "other": [("b", "2: 3")]}


def test_leftovers_go_unless_others_are_at_work(tmp_path: Path) -> None:
    leftover = tmp_path / f"{LEFTOVER}0123"
    leftover.write_text("half")
    seen: list[bool] = []

    def look(*_: int) -> None:
        # Within the first preparation a second one begins, beside a file that is being written.
        leftover.write_text("half")
        second = threading.Thread(target=Made([True]).prepare, args=(tmp_path,))
        second.start()
        second.join()
        seen.append(leftover.exists())

    assert len(Made([True]).prepare(tmp_path, progress=look)) == 1
    assert seen == [True]
    Made([True]).prepare(tmp_path)
    assert not leftover.exists()


def test_an_interrupt_stops_soon_and_keeps_what_is_made(tmp_path: Path) -> None:
    def stop(seen: int, *_: int) -> None:
        if seen == 3:
            raise KeyboardInterrupt

    made = Made([True] * 200)
    with pytest.raises(KeyboardInterrupt):
        made.prepare(tmp_path, progress=stop)
    assert 3 <= len(made.calls) < 200
    assert len(list(tmp_path.glob("*.npy"))) == len(made.calls)
    assert list(tmp_path.glob("manifest*")) == []
    made.prepare(tmp_path)
    assert sorted(made.calls) == list(range(200))


KILLED = """
import os, signal, sys
from marginseg.data import phantom
def stop(seen, usable, wanted):
    if seen == 5:
        os.kill(os.getpid(), signal.SIGKILL)
phantom("tube", cases=40, patch_shape=(8, 8, 8), cache_dir=sys.argv[1], progress=stop)
"""


def test_a_killed_preparation_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    cache = tmp_path / "a cache"
    process = subprocess.run([sys.executable, "-c", KILLED, cache], check=False)
    assert process.returncode == -signal.SIGKILL
    there = {path: path.stat().st_mtime_ns for path in cache.glob("*.npy")}
    assert 5 <= len(there) < 40
    for folder in (cache, tmp_path / "whole"):
        phantom("tube", cases=40, patch_shape=(8, 8, 8), cache_dir=folder)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    names = sorted(path.name for path in cache.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(names) == 41
    for name in names:
        assert (cache / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


FULL = """
import resource, sys
from marginseg.data import phantom
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    phantom("tube", cases=4, patch_shape=(16, 16, 16), cache_dir=sys.argv[1])
except ValueError as error:
    print(error)
"""


def test_a_disk_that_refuses_gets_one_line_and_leaves_nothing_half(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "c"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"cache_dir: cannot write in {tmp_path / 'c'} (File too large)\n"
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.slow
def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    code = KILLED[: KILLED.index("def stop")] + KILLED[KILLED.index("phantom(") :]
    code = code.replace(", progress=stop", "")
    both = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 41
    # Nothing was left, and what is there is what one process makes.
    other = tmp_path.with_name(f"{tmp_path.name}-other")
    phantom("tube", cases=40, patch_shape=(8, 8, 8), cache_dir=other)
    for path in other.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match=re.escape(f"cache_dir: cannot write in {tmp_path}")):
        Made([True]).prepare(tmp_path)


def test_a_cache_that_is_complete_need_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made([True, False, True])
    first = made.prepare(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    for module in ("cache", "manifest", "entries"):
        monkeypatch.setattr(f"marginseg.data.{module}.replacing", refuse)
    again = made.prepare(tmp_path)
    assert ([case.name for case in again.cases], again.skipped) == (
        [case.name for case in first.cases],
        first.skipped,
    )
