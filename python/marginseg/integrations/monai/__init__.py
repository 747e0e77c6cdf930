"""Transforms of MONAI: label noise for training, and Dice-optimal cuts after inference.

They take channel-first arrays (C, *spatial), as MONAI's own do, or dictionaries of them where the
name ends in d. They need the package `monai`.
"""

from marginseg.integrations.monai.label_noise import RandLabelNoise, RandLabelNoised
from marginseg.integrations.monai.segmentation import DiceOptimal, DiceOptimald

__all__ = ["DiceOptimal", "DiceOptimald", "RandLabelNoise", "RandLabelNoised"]
