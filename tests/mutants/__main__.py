"""`python -m tests.mutants`, `python -m tests.mutants --only dice-climb-ends-early`.

Each mutant is a mistake in one place of a copy of the checkout; the checkout itself is left alone.
The tests that are named for it have to fail. First all of them have to pass without any mutant.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.mutants.checkout import BrokenError, Checkout, checkout
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS


def chosen_mutants(names: list[str]) -> list[Mutant]:
    known = {mutant.name: mutant for mutant in MUTANTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"--only: expected the name of a mutant, got {', '.join(unknown)}")
    return [known[name] for name in names] or list(MUTANTS)


def judged(place: Checkout, mutant: Mutant) -> tuple[str, str]:
    """Return what becomes of a mutant, in a word, and by what."""
    try:
        with place.mutated(mutant):
            failed = place.test(mutant.tests)
    except BrokenError as error:
        return "broken", str(error)
    return ("survived", mutant.wrong) if failed is None else ("caught", failed)


def run(mutants: list[Mutant]) -> int:
    verdicts = []
    with checkout(compiles=any(mutant.compiled for mutant in mutants)) as place:
        tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        failed = place.test(tests)
        if failed is not None:
            print(f"fails without a mutant: {failed}")
            return 1
        for mutant in mutants:
            begun = time.monotonic()
            verdict, reason = judged(place, mutant)
            verdicts.append(verdict)
            seconds = time.monotonic() - begun
            print(f"{verdict:8}  {mutant.name:40} {seconds:4.0f} s  {reason}", flush=True)
    counts = ", ".join(
        f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(sorted(verdicts))
    )
    print(f"{len(verdicts)} mutants: {counts}")
    return int(verdicts.count("caught") < len(verdicts))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--list", action="store_true", help="say what is wrong with each, and end")
    options = parser.parse_args()
    mutants = chosen_mutants(options.only)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.wrong}")
        return 0
    # Who ends it in another way than by Ctrl-C gets the folder cleaned up too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(mutants)
    except BrokenError as error:
        print(error)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
