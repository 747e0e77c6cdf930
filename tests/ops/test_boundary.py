from __future__ import annotations

import subprocess
import sys

FORKED = """
import os, signal, sys, torch, marginseg
torch.set_num_threads(2)
values = torch.rand(64, 64, 64)
before = marginseg.gaussian_filter(values, 2.0).numpy().tobytes()
child = os.fork()
if child == 0:
    signal.alarm(20)  # ends a child that waits for threads
    os._exit(marginseg.gaussian_filter(values, 2.0).numpy().tobytes() != before)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_kernels_run_in_a_forked_process_too():
    """Its parent's threads are not in it: whoever waited for them would wait for ever."""
    assert subprocess.run([sys.executable, "-c", FORKED], check=False, timeout=60).returncode == 0
