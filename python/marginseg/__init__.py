"""Label noise by Gaussian random fields, its marginals, and Dice-optimal thresholds.

The ops are here and, for compiled graphs, as ``torch.ops.marginseg.*``.
"""

from __future__ import annotations

from importlib.metadata import version as _version

from marginseg.calibration import Calibration, CalibrationTable, calibration_table
from marginseg.exclusive import OptimalLabels, optimal_labels
from marginseg.losses import CrossEntropy, SoftDice, cross_entropy, soft_dice
from marginseg.metrics import (
    CalibrationCurve,
    accuracy,
    calibration_curve,
    dice,
    expected_calibration_error,
    volume_bias,
    volume_ratio,
)
from marginseg.noise import GaussianFieldNoise
from marginseg.ops.dice_threshold import (
    DiceCurve,
    DiceThreshold,
    dice_curve,
    dice_threshold,
    segment_dice_threshold,
)
from marginseg.ops.folded_share import folded_share
from marginseg.ops.gaussian_field import gaussian_field, gaussian_field_ranks
from marginseg.ops.gaussian_filter import gaussian_filter
from marginseg.ops.streamed_dice_threshold import streamed_dice_threshold
from marginseg.ops.warp import warp
from marginseg.threshold import cut, optimal_segmentation, optimal_threshold
from marginseg.training.unet import UNet

__version__ = _version("marginseg")

__all__ = [
    "Calibration",
    "CalibrationCurve",
    "CalibrationTable",
    "CrossEntropy",
    "DiceCurve",
    "DiceThreshold",
    "GaussianFieldNoise",
    "OptimalLabels",
    "SoftDice",
    "UNet",
    "accuracy",
    "calibration_curve",
    "calibration_table",
    "cross_entropy",
    "cut",
    "dice",
    "dice_curve",
    "dice_threshold",
    "expected_calibration_error",
    "folded_share",
    "gaussian_field",
    "gaussian_field_ranks",
    "gaussian_filter",
    "optimal_labels",
    "optimal_segmentation",
    "optimal_threshold",
    "segment_dice_threshold",
    "soft_dice",
    "streamed_dice_threshold",
    "volume_bias",
    "volume_ratio",
    "warp",
]
