"""A copy of the checkout, in which one mutant after another is built and tested."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]

#: What the tests of mutants read.
NEEDED = ("CMakeLists.txt", "pyproject.toml", "csrc", "python", "tests")

#: Seconds after which tests count as failed: a mutant may never end.
PATIENCE = 600.0

#: pytest's exit status where a test has failed; others say that tests could not be run.
TESTS_FAILED = 1


class BrokenError(Exception):
    """A mutant or the checkout cannot be built or tested."""


class Checkout:
    """The copy, in a folder that is its own and goes with it.

    Args:
        folder: New and empty.
        compiles: Whether there will be mutants of C++.

    """

    def __init__(self, folder: Path, *, compiles: bool) -> None:
        self.folder = folder
        self.copy = folder / "checkout"
        self.copy.mkdir()
        for name in NEEDED:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name,
                    self.copy / name,
                    ignore=shutil.ignore_patterns("__pycache__", "*.so"),
                )
            else:
                shutil.copy2(ROOT / name, self.copy / name)
        (folder / "tmp").mkdir()
        self._make_environment()
        if compiles:
            self._configure()
            self._compile()
            # What has been compiled without a mutant is put back after each, not compiled again.
            shutil.copytree(self._build, self._unchanged_build)
        else:
            found = self._run(
                [sys.executable, "-c", "from marginseg import _cpu; print(_cpu.__file__)"],
                env=dict(os.environ),
            )
            if found.returncode != 0:
                raise BrokenError(f"marginseg is not installed\n{found.stdout}")
            module = Path(found.stdout.splitlines()[-1])
            shutil.copy2(module, self.copy / "python" / "marginseg" / module.name)

    @property
    def _build(self) -> Path:
        return self.folder / "build"

    @property
    def _unchanged_build(self) -> Path:
        return self.folder / "unchanged"

    @property
    def _python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """Have the mistake in the copy.

        Raises:
            BrokenError: It cannot be compiled.

        """
        path = self.copy / mutant.file
        times = path.stat()
        source = path.read_text(encoding="utf-8")
        path.write_text(mutant.applied_to(source), encoding="utf-8")
        try:
            if mutant.compiled:
                self._compile()
            yield
        finally:
            path.write_text(source, encoding="utf-8")
            # As old as it was: older than what has been compiled of it.
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            if mutant.compiled:
                shutil.rmtree(self._build)
                shutil.copytree(self._unchanged_build, self._build)
                self._install()

    def test(self, tests: Sequence[str]) -> str | None:
        """Run tests until one fails, and return which; None if all pass.

        Raises:
            BrokenError: They cannot be run.

        """
        # Drawn examples are the same each time, and none is remembered from another mutant.
        examples = self.folder / "hypothesis"
        shutil.rmtree(examples, ignore_errors=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.copy / "python"),
            # A file that is written twice in a second keeps its time, by which Python would know
            # that what it has compiled is old.
            "PYTHONDONTWRITEBYTECODE": "1",
            "MARGINSEG_TEST_KERNELS": "cpu",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(examples),
            "TMPDIR": str(self.folder / "tmp"),
        }
        options = ["-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        done = self._run(
            [str(self._python), "-m", "pytest", *options, *tests], env=environment, limit=PATIENCE
        )
        if done.returncode == 0:
            return None
        if done.returncode == -signal.SIGKILL:
            return f"none of them ends within {PATIENCE:g} s"
        if done.returncode < 0:
            return f"the process ends by {signal.Signals(-done.returncode).name}"
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
        if done.returncode != TESTS_FAILED or not failed:
            raise BrokenError(f"the tests cannot be run\n{done.stdout}")
        return failed[0].removeprefix("FAILED ").partition(" - ")[0]

    def _make_environment(self) -> None:
        """Make an environment that has all packages of this one, and this package from the copy.

        What is installed to be edited is found by a hook, before all paths; in an environment of
        its own the hook does not run.
        """
        self._checked([sys.executable, "-m", "venv", "--without-pip", str(self.folder / "venv")])
        packages = [path for path in sys.path if Path(path).name.endswith("-packages")]
        places = self._checked(
            [str(self._python), "-c", 'import sysconfig; print(sysconfig.get_path("purelib"))']
        )
        Path(places.strip(), "shared.pth").write_text("\n".join(packages) + "\n", encoding="utf-8")

    def _configure(self) -> None:
        pybind11 = self._checked([sys.executable, "-m", "pybind11", "--cmakedir"]).strip()
        self._checked(
            [
                _tool("cmake"),
                *("-G", "Ninja", "-S", str(self.copy), "-B", str(self._build)),
                f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}",
                f"-DPython_EXECUTABLE={sys.executable}",
                f"-Dpybind11_DIR={pybind11}",
                "-DMARGINSEG_CUDA=OFF",
                "-DSKBUILD_PROJECT_VERSION=mutant",
                # Quicker to compile, and the same results.
                "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
                "-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=OFF",
            ]
        )

    def _compile(self) -> None:
        self._checked([_tool("cmake"), "--build", str(self._build), "--target", "_cpu"])
        self._install()

    def _install(self) -> None:
        (module,) = self._build.glob("_cpu*.so")
        shutil.copy2(module, self.copy / "python" / "marginseg" / module.name)

    def _checked(self, command: Sequence[str]) -> str:
        done = self._run(command, env=dict(os.environ))
        if done.returncode != 0:
            raise BrokenError(f"{' '.join(command)} has failed\n{done.stdout}")
        return done.stdout

    def _run(
        self, command: Sequence[str], *, env: dict[str, str], limit: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; whatever it has started ends with it, or with the limit."""
        log = self.folder / "log"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command,
                cwd=self.copy,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(limit)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output = log.read_text(encoding="utf-8", errors="replace")
        return subprocess.CompletedProcess(command, process.returncode, output)


@contextmanager
def checkout(*, compiles: bool) -> Iterator[Checkout]:
    """Have a copy for as long as it is needed; nothing of it is left, whatever happens."""
    with TemporaryDirectory(prefix="marginseg-mutants-") as folder:
        yield Checkout(Path(folder), compiles=compiles)


def _tool(name: str) -> str:
    """Return a program of this environment, or of the system."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise BrokenError(f"{name} is not installed")
    return found
