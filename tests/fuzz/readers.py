"""`python -m tests.fuzz.readers --reader nifti --runs 20000`, guided by coverage; needs `atheris`.

Damaged files are read by all that read their format. A finding is any exception but the package's
own refusal, one line that names the file; a file that takes longer than some seconds, or more than
a gigabyte. Each is kept in `--findings`, and read again with `--again FILE`.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random

#: Seconds and bytes that no file of some kilobytes may take.
LONGEST, MOST = 10.0, 1 << 30


class Reading:
    """Reads one file after another, and keeps what was found.

    Attributes:
        runs: Files that were read.
        accepted: Those that a reader took.
        findings: What was found, by where it was raised.

    """

    def __init__(self, reader: str, kept: Path) -> None:
        from tests.fuzz.formats import FORMATS

        self.reader, self.kept = reader, kept
        self.format = FORMATS[reader]
        self.runs = self.accepted = 0
        self.findings: dict[str, Path] = {}
        self.scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def __call__(self, content: bytes) -> None:
        self.runs += 1
        folder = self.scratch / "in"
        folder.mkdir()
        before, started = _peak(), time.monotonic()
        try:
            self.accepted += self.format.read(content, folder)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = next((f for f in reversed(frames) if "/marginseg/" in f.filename), frames[-1])
            name = f"{type(error).__name__} at {place.filename}:{place.lineno}"
            self._found(name, content, traceback.format_exc(limit=-6))
        finally:
            shutil.rmtree(folder)
        seconds, grown = time.monotonic() - started, _peak() - before
        if seconds > LONGEST and self.reader != "report":
            self._found(f"{seconds:.0f} seconds", content, "")
        if grown > MOST:
            self._found(f"{grown >> 20} MB", content, "")

    def _found(self, name: str, content: bytes, details: str) -> None:
        if name in self.findings:
            return
        self.kept.mkdir(parents=True, exist_ok=True)
        path = self.findings[name] = self.kept / f"{self.reader}-{len(self.findings)}"
        path.write_bytes(content)
        print(f"\nFINDING {name} ({path})\n{details}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Say what was done, and end the process: libFuzzer's own end tells nobody."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        print(
            f"{self.reader}: {self.runs} runs, {self.accepted} taken, "
            f"{len(self.findings)} findings",
            flush=True,
        )
        os._exit(1 if self.findings else 0)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.readers", description=__doc__)
    parser.add_argument("--reader", required=True)
    parser.add_argument("--runs", type=int, default=20000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("build/findings"))
    parser.add_argument("--again", type=Path, help="read this file only")
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    import atheris
    import torch  # only the readers are to be instrumented, not what they call

    torch.set_num_threads(1)
    with atheris.instrument_imports(include=["marginseg", "nibabel"], enable_loader_override=False):
        reading = Reading(options.reader, options.findings)
    if options.again is not None:
        reading(options.again.read_bytes())
        reading.end()
    deadline = time.monotonic() + options.seconds
    random = Random(options.seed)

    def once(content: bytes) -> None:
        reading(content)
        if reading.runs >= options.runs or time.monotonic() > deadline:
            reading.end()

    def mutated(content: bytes, most: int, seed: int) -> bytes:
        random.seed(seed)
        return reading.format.mutated(random, content, atheris.Mutate)[:most]

    corpus = Path(tempfile.mkdtemp())
    for number, seed in enumerate(reading.format.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-timeout={int(3 * LONGEST)}", "-rss_limit_mb=6000", f"-seed={options.seed}"]
    # What libFuzzer itself keeps, such as slow files, goes where the findings go.
    options.findings.mkdir(parents=True, exist_ok=True)
    limits.append(f"-artifact_prefix={options.findings}/")
    arguments = [sys.argv[0], *limits, "-max_len=65536", "-verbosity=0", "-len_control=0"]
    atheris.Setup([*arguments, str(corpus)], once, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
