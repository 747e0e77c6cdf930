"""Reading a file while torch is imported, which takes seconds of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final, TypeVar

T = TypeVar("T")

#: Seconds that are waited first: what is wrong with a small file is told before the long import.
PATIENCE: Final = 0.1

#: Seconds, a fiftieth of Python's own.
SWITCH_INTERVAL: Final = 1e-4


def begun(work: Callable[[], T]) -> Callable[[], T]:
    """Begin work in a thread, and return what waits for its result.

    Where torch has been imported already there is nothing to wait for, and the work is done here.

    Args:
        work: Reads and decompresses, for the most part without the interpreter's lock.

    Raises:
        Exception: What ``work`` raises at once; what it raises later comes with the result.

    Example:
        >>> begun(lambda: 6 * 7)()
        42

    """
    if "torch" in sys.modules:
        result = work()
        return lambda: result
    # A reader takes the interpreter's lock for an instant, hundreds of times, and whoever imports
    # gives it away only after the switch interval.
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    pool = ThreadPoolExecutor(1)
    pending = pool.submit(work)
    pool.shutdown(wait=False)

    def result_of_the_thread() -> T:
        try:
            return pending.result()
        finally:
            sys.setswitchinterval(before)

    if wait([pending], PATIENCE).done:
        result_of_the_thread()
    return result_of_the_thread
