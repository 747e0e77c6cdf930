from __future__ import annotations

import sys
import threading
import time

import pytest

from marginseg.cli.ahead import begun


@pytest.fixture
def torch_not_yet_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")


def test_work_goes_on_beside_the_import(torch_not_yet_imported: None) -> None:
    before = sys.getswitchinterval()
    go = threading.Event()
    reading = begun(lambda: go.wait(10))
    go.set()  # begun() has returned although the work has not ended
    assert reading() is True
    assert sys.getswitchinterval() == before


def test_what_fails_at_once_is_raised_at_once(torch_not_yet_imported: None) -> None:
    def fail() -> None:
        raise ValueError("no such label")

    with pytest.raises(ValueError, match="no such label"):
        begun(fail)


def test_what_fails_later_is_raised_with_the_result(torch_not_yet_imported: None) -> None:
    def fail() -> None:
        time.sleep(0.3)
        raise ValueError("it ends before its last voxel")

    reading = begun(fail)
    with pytest.raises(ValueError, match="its last voxel"):
        reading()


def test_with_torch_there_it_is_done_here() -> None:
    assert begun(threading.get_ident)() == threading.get_ident()
