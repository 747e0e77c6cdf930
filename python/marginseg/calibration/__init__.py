r"""Make a network's probabilities right, after it was trained.

t* is the best threshold only if the map's values are probabilities. A network that was trained with
Dice in its loss says 0.0001 or 0.9999, and what it calls 0.9999 may hold in 95 of 100 voxels. From
cases with labels, others than those to be segmented, this learns what a value stands for:

- :func:`fit` takes cases, or the :class:`CalibrationTable` of each, and returns a
  :class:`Calibration`;
- :meth:`Calibration.apply` takes a map to the calibrated one.

Temperature, Platt's line and isotonic regression go class by class, one against the rest: p ↦ g(p).
All that they need of a case is how many voxels have a value, and how many of those are in the
class. So a case becomes a table of fine bins in one pass, tables of cases add up, and a fit without
one of them needs no file again. These fits are written here, because packages for them take single
voxels with hard labels, and volumes have some 10^7 of them, with soft ones where several people
drew. The methods that mix the channels of a softmax (vector and matrix scaling, Dirichlet
calibration) are fitted by fiducio, on a sample of voxels; what it finds is kept as numbers, and
applied here.
"""

from __future__ import annotations

from marginseg.calibration.calibration import METHODS, Calibration
from marginseg.calibration.fitting import fit
from marginseg.calibration.joint import JOINT_METHODS, LogAffine
from marginseg.calibration.mappings import Knots, LogitLine, Mapping
from marginseg.calibration.sample import VoxelSample, voxel_sample
from marginseg.calibration.table import (
    BINS,
    CalibrationTable,
    calibration_table,
    lower_edges,
    total,
)

__all__ = [
    "BINS",
    "JOINT_METHODS",
    "METHODS",
    "Calibration",
    "CalibrationTable",
    "Knots",
    "LogAffine",
    "LogitLine",
    "Mapping",
    "VoxelSample",
    "calibration_table",
    "fit",
    "lower_edges",
    "total",
    "voxel_sample",
]
