"""Studies that are killed: what is left always leads to the same results."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from studies import assert_same, living

pytestmark = pytest.mark.slow

CLI = [sys.executable, "-c", "from marginseg.cli import main; main()"]
OPTIONS = [
    "--structure",
    "tube",
    "--std",
    "0",
    "0.06",
    "--folds",
    "2",
    "--patch",
    "16x16x16",
    "--features",
    "2-4",
    "--epochs",
    "24",
    "--learning-rate",
    "0.01",
    "--max-cases",
    "4",
]

#: A study in one process, which kills itself before it names or removes a file for the n-th time.
SELF_KILLING = """
import os, signal, sys
import torch
from marginseg.study import StudyConfig, run_study

torch.set_num_threads(1)
config = StudyConfig(
    structures=("tube",), std=(0.06,), losses=("soft_dice",), folds=2, patch_shape=(8, 8, 8),
    phantom_cases=2, features=(2, 4), epochs=2, learning_rate=1e-2, workers=1,
)

def study(folder, fatal):
    left = fatal
    def counted(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    for name in ("replace", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    run_study(config, folder)
    print(fatal - left, flush=True)

for argument in map(int, sys.argv[2:]):
    for fatal in (argument, -1) if argument else (-1,):
        child = os.fork()
        if child == 0:
            study(f"{sys.argv[1]}/{argument}", fatal)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if fatal > 0:
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
        else:
            assert status == 0, status
"""


@contextlib.contextmanager
def started(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a study in a process group of its own, and leave no process behind."""
    process = subprocess.Popen(
        [*CLI, "study", *OPTIONS, *options, "-o", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, float]]:
    """A study that nobody kills, and the seconds that it takes, for so many workers."""

    @cache
    def make(workers: str) -> tuple[Path, float]:
        folder = tmp_path_factory.mktemp("whole") / "study"
        before = time.monotonic()
        with started(folder, "--workers", workers) as process:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        return folder, time.monotonic() - before

    return make


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_at_any_moment(
    workers: str, whole: Callable[[str], tuple[Path, float]], tmp_path: Path
) -> None:
    options = ("--workers", workers)
    expected, length = whole(workers)
    draw = random.Random(int(workers))
    study = tmp_path / "study"
    # Some kills come right after the first sight of a file, the others at any time.
    sights = [
        "config.json",
        "cache/*",
        "runs/*/checkpoint.pt",
        "runs/*/.unfinished-*",
        "runs/*/slices.npz",
        "runs/*/model.pt",
        "runs/*/result.json",
        "table.csv",
        *[""] * 3,
    ]
    killed = 0
    for sight in sights:
        with started(study, *options) as process:
            seen = {str(path) for path in study.glob(sight)} if sight else set()
            # What exists for a moment can be missed: then it is killed when much is left to do.
            deadline = time.monotonic() + length * (0.7 if sight else draw.uniform(0, 1))
            while time.monotonic() < deadline and process.poll() is None:
                if sight and {str(path) for path in study.glob(sight)} - seen:
                    time.sleep(draw.uniform(0, 0.05))
                    break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += process.returncode == -signal.SIGKILL
    assert killed >= len(sights) // 2  # a study that is done ends before
    with started(study, *options) as process:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert_same(study, expected)


def test_killed_before_every_file(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SELF_KILLING)

    def run(*moments: int) -> str:
        command = [sys.executable, str(script), str(tmp_path), *map(str, moments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    files = int(run(0))
    assert files > 25  # 2 runs of two epochs
    run(*range(1, files + 1))
    for moment in range(1, files + 1):
        assert_same(tmp_path / str(moment), tmp_path / "0")


def test_orphans_end_in_the_middle_of_a_training(tmp_path: Path) -> None:
    # One epoch takes longer than the test: a worker has nothing to send.
    long = ["--workers", "2", "--patch", "64x64x64", "--features", "32-64", "--max-cases", "32"]
    with started(tmp_path / "study", *long) as process:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("study/runs/*/.lock"))) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(2)
        assert len(living(process.pid)) >= 3
        process.kill()
        process.wait()
        deadline = time.monotonic() + 5
        while living(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert living(process.pid) == []
        assert list(tmp_path.glob("study/runs/*/log.jsonl")) == []


def test_a_study_follows_at_once_on_one_whose_parent_was_killed(
    whole: Callable[[str], tuple[Path, float]], tmp_path: Path
) -> None:
    options = ("--workers", "2")
    study = tmp_path / "study"
    with started(study, *options) as process:
        while process.poll() is None and not list(study.glob("runs/*/checkpoint.pt")):
            time.sleep(0.01)
        process.kill()  # its workers may be writing
        with started(study, *options) as again:
            _, errors = again.communicate(timeout=120)
            assert again.returncode == 0, errors
    assert_same(study, whole("2")[0])
