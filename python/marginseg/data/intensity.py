"""Intensity normalisation: from scanner units to numbers a network likes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CT_WINDOW = (-250.0, 450.0)
"""Hounsfield units kept of a CT: fat (−100), every soft tissue and contrast-filled vessels are
inside with room to spare; air and lung end at the lower bound, cortical bone at the upper."""

MR_PERCENTILES = (0.5, 99.5)
"""Percentiles of the volume at which an MR image is clipped before standardisation."""


@dataclass(frozen=True)
class IntensityScale:
    """The map ``x ↦ (clip(x, low, high) − centre) / scale``."""

    low: float
    high: float
    centre: float
    scale: float

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The normalised image, float32, same shape."""
        clipped = np.clip(image, np.float32(self.low), np.float32(self.high))
        clipped -= np.float32(self.centre)
        clipped /= np.float32(self.scale)
        return clipped

    @classmethod
    def ct(cls, volume: NDArray[np.float32] | None = None) -> IntensityScale:
        """Hounsfield units in `CT_WINDOW` to [−1, 1]: the same map whatever the volume.

        >>> scale = IntensityScale.ct()
        >>> scale(np.array([-1000, 100, 450], np.float32)).tolist()
        [-1.0, 0.0, 1.0]
        """
        low, high = CT_WINDOW
        return cls(low, high, (low + high) / 2, (high - low) / 2)

    @classmethod
    def standardised(cls, volume: NDArray[np.float32]) -> IntensityScale:
        """Mean 0 and standard deviation 1 over the volume, clipped at `MR_PERCENTILES` first.

        For scanners without a unit (MR): the scale is the case's own, taken from the whole volume
        and not from a patch. A constant volume becomes 0.
        """
        low, high = (float(p) for p in np.percentile(volume, MR_PERCENTILES))
        clipped = np.clip(volume, low, high)
        deviation = float(clipped.std(dtype=np.float64))
        return cls(low, high, float(clipped.mean(dtype=np.float64)), deviation or 1.0)
