"""`python -m tests.instruction_sets` prints the names of the sets that this processor has."""

from __future__ import annotations

import os
import subprocess
import sys

SETS = ("base", "avx2", "avx512")


def available() -> list[str]:
    """Return the sets with which the package can be imported, each tried in a process."""
    return [
        name
        for name in SETS
        if subprocess.run(
            [sys.executable, "-c", "import marginseg"],
            check=False,
            env={**os.environ, "MARGINSEG_SIMD": name},
            capture_output=True,
        ).returncode
        == 0
    ]


if __name__ == "__main__":
    print(*available())
