"""All mutants."""

from __future__ import annotations

from tests.mutants.calibration import CALIBRATION
from tests.mutants.evaluation import EVALUATION
from tests.mutants.kernels import KERNELS
from tests.mutants.science import MODEL, OPS, SCORES
from tests.mutants.studies import DATA, FILES, REPORT, STUDY

MUTANTS = (
    *KERNELS,
    *OPS,
    *MODEL,
    *SCORES,
    *CALIBRATION,
    *EVALUATION,
    *FILES,
    *DATA,
    *STUDY,
    *REPORT,
)
