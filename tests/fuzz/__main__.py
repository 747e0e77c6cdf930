"""`python -m tests.fuzz --calls 20000 --seed 0`.

A call either returns what a slow reference in float64 returns, within rounding, or raises a
ValueError or TypeError of one line. Anything else, a warning too, is a finding. It is printed with
the seed that repeats it: `python -m tests.fuzz --calls 1 --seed N`.
"""

from __future__ import annotations

import argparse
import gc
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tests.fuzz.calls import VALID
from tests.fuzz.misuse import misused


def resident() -> float:
    """Return the process's memory, in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def once(seed: int) -> tuple[str, str | None]:
    """Return what was called, and what is wrong about it, if anything."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    misuse = random.random() < 0.25
    call = misused if misuse else VALID[int(random.integers(len(VALID)))]
    name = call.__name__
    try:
        call(random)
    except (ValueError, TypeError) as error:
        if not misuse:
            return name, traceback.format_exc(limit=-3)
        message = str(error)
        if not message or "\n" in message.strip():
            return name, f"{misused.last}: more or less than one line: {message!r}"
        return "refused", None
    except Exception as error:
        told = misused.last if misuse else name
        return name, f"{told}: {type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}"
    return name, None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=20000)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first call; the next has one more"
    )
    parser.add_argument("--findings", type=int, default=20, help="stop after so many")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    findings = 0
    # What is remembered between calls has been filled by then.
    settled = options.calls // 2
    before = resident()
    warnings.simplefilter("error")
    for number in range(options.calls):
        if number == settled:
            before = resident()
        name, finding = once(options.seed + number)
        counts[name] += 1
        if finding is not None:
            findings += 1
            print(f"seed {options.seed + number}: {finding}", flush=True)
            if findings >= options.findings:
                break
    grown = resident() - before
    print(", ".join(f"{name} {count}" for name, count in counts.most_common()))
    print(f"{sum(counts.values())} calls, {findings} findings, {grown:.1f} MB more than half-way")
    return int(findings > 0 or (options.calls >= 2000 and grown > 50.0))


if __name__ == "__main__":
    sys.exit(main())
