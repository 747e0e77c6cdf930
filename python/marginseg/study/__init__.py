"""Studies: what label noise does to a loss, from the settings to every run's result.

:func:`run_study` executes the grid of a :class:`StudyConfig` in a folder that remembers what is
done; :mod:`marginseg.study.folder` names every file there.
"""

from marginseg.study.ceiling import CaseCeiling, Ceiling, ceilings, ceilings_of
from marginseg.study.configuration import Run, StudyConfig
from marginseg.study.grid import FailedRun, Progress, StudyResult, run_study
from marginseg.study.presets import PAPER, PRESETS, QUICK

__all__ = [
    "PAPER",
    "PRESETS",
    "QUICK",
    "CaseCeiling",
    "Ceiling",
    "FailedRun",
    "Progress",
    "Run",
    "StudyConfig",
    "StudyResult",
    "ceilings",
    "ceilings_of",
    "run_study",
]
