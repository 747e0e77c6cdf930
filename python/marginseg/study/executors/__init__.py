"""Who executes the runs of a study: processes or threads of this machine, or a Ray cluster."""

from marginseg.study.executors.local import local_executor
from marginseg.study.executors.processes import ProcessExecutor
from marginseg.study.executors.ray import RayExecutor
from marginseg.study.executors.threads import ThreadExecutor

__all__ = ["ProcessExecutor", "RayExecutor", "ThreadExecutor", "local_executor"]
