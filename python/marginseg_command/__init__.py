"""Where the command ``marginseg`` starts: outside the package, so that help comes without torch.

Python runs ``marginseg/__init__.py`` before any module of the package, and that imports torch: when
``import marginseg`` returns, the ops are registered. But ``marginseg --help`` and a mistyped option
need none of this. So the command puts a package in its place that knows where its modules are and
has not been run. The modules of the command import what they need when they need it, each from the
module that defines it.
"""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line."""
    if "marginseg" not in sys.modules:
        spec = importlib.util.find_spec("marginseg")
        assert spec is not None
        sys.modules["marginseg"] = importlib.util.module_from_spec(spec)
    from marginseg.cli import main as command_line

    command_line()
