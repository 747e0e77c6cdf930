"""Three calibrations: class by class, with a background's channel behind, and joint."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, softmax

from marginseg.calibration import Calibration, Knots, LogAffine, LogitLine

LINE, KNOTS = LogitLine(0.25, -1.0), Knots((0.0, 1e-3, 0.5, 0.97), (0.0, 1e-4, 0.2, 0.9))
WEIGHT = ((1.2, 0.1, 0.0), (-0.2, 0.7, 0.05), (0.0, 0.3, 1.1))
MATRIX = LogAffine(WEIGHT, (0.5, -0.25, -0.25))
BOTH = Calibration("isotonic", (0, 1), None, (LINE, KNOTS))
BEHIND = Calibration("isotonic", (1, 2), 0, (LINE, KNOTS))
JOINT = Calibration("matrix", (1, 2), 0, joint=MATRIX)


def maps(channels=3, shape=(40, 50, 60), seed=0):
    random = np.random.default_rng(seed)
    return softmax(random.normal(0, 4, (channels, *shape)), 0)


def line(p):
    return expit(0.25 * logit(p) - 1.0)


def broken(p):
    return np.interp(p, KNOTS.promised, KNOTS.held)
