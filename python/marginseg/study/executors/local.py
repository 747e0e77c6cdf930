"""The executor that suits this machine."""

from __future__ import annotations

from marginseg.study.configuration import StudyConfig
from marginseg.study.executors.processes import ProcessExecutor
from marginseg.study.executors.threads import ThreadExecutor
from marginseg.study.task import Executor
from marginseg.training.device import computing_device


def local_executor(config: StudyConfig) -> Executor:
    """Return what suits this machine: threads side by side on a GPU, or processes on the CPUs.

    Raises:
        ValueError: The study asks for a GPU, and there is none.

    Example:
        >>> type(local_executor(StudyConfig(device="cpu"))).__name__
        'ProcessExecutor'

    """
    if computing_device(config.device).type == "cuda":
        return ThreadExecutor(config.workers)
    return ProcessExecutor(config.workers)
