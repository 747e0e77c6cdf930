"""Where the command ``marginseg`` starts: outside the package, so that help comes without torch.

Python runs ``marginseg/__init__.py`` before any module of the package, and that imports torch: when
``import marginseg`` returns, the ops are registered. But ``marginseg --help`` and a mistyped option
need none of this. So the command puts a package in its place that knows where its modules are and
has not been run. The modules of the command import what they need when they need it, each from the
module that defines it.

Ctrl-C ends the command with status 130 and one line, from its first moment on. An exception would
not do while modules are imported: some of them turn it into an error of their own, or drop it.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line."""
    # Who started the command may have it ignore Ctrl-C: then it goes on ignoring it.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        if "marginseg" not in sys.modules:
            spec = importlib.util.find_spec("marginseg")
            assert spec is not None
            sys.modules["marginseg"] = importlib.util.module_from_spec(spec)
        from marginseg.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        _end()
    finally:
        if heard:  # what is left is Python's own end
            signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or end at once where a module is being imported."""
    place = frame
    while place is not None:
        if place.f_code.co_filename.startswith("<frozen importlib"):
            _end()
        place = place.f_back
    signal.default_int_handler(number, frame)


def _end() -> None:
    os.write(2, b"marginseg: interrupted\n")
    os._exit(130)
