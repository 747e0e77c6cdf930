"""Intensity normalisation: from scanner units to numbers a network likes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Hounsfield units kept of a CT: fat (−100), every soft tissue and contrast-filled vessels are
#: inside with room to spare; air and lung end at the lower bound, cortical bone at the upper.
CT_WINDOW = (-250.0, 450.0)

#: Percentiles of the volume at which an MR image is clipped before standardisation.
MR_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class IntensityScale:
    """The map x ↦ (clip(x, low, high) − centre) / scale.

    Attributes:
        low: Of the clipping, in the scanner's units, as the other three are.
        high: Of the clipping.
        centre: Becomes 0.
        scale: Becomes 1, > 0.

    Example:
        >>> IntensityScale(0, 10, 5, 2)(np.array([-1, 5, 7], np.float32)).tolist()
        [-2.5, 0.0, 1.0]

    """

    low: float
    high: float
    centre: float
    scale: float

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the normalised image, float32 of the same shape."""
        clipped = np.clip(image, np.float32(self.low), np.float32(self.high))
        clipped -= np.float32(self.centre)
        clipped /= np.float32(self.scale)
        return clipped

    @classmethod
    def ct(cls, volume: NDArray[np.float32] | None = None) -> IntensityScale:
        """Map Hounsfield units in ``CT_WINDOW`` to [−1, 1], whatever the volume.

        Args:
            volume: Not looked at; a CT's units mean the same in every scan.

        Example:
            >>> scale = IntensityScale.ct()
            >>> scale(np.array([-1000, 100, 450], np.float32)).tolist()
            [-1.0, 0.0, 1.0]

        """
        low, high = CT_WINDOW
        return cls(low, high, (low + high) / 2, (high - low) / 2)

    @classmethod
    def standardised(cls, volume: NDArray[np.float32]) -> IntensityScale:
        """Clip at ``MR_PERCENTILES``, then map to mean 0 and standard deviation 1.

        For scanners without a unit (MR): the scale is the case's own, taken from the whole volume
        and not from a patch. A constant volume becomes 0.

        Args:
            volume: float32 array of any shape, without NaN.

        Example:
            >>> volume = np.array([[2, 4], [4, 2]], np.float32)
            >>> IntensityScale.standardised(volume)(volume).tolist()
            [[-1.0, 1.0], [1.0, -1.0]]

        """
        low, high = (float(p) for p in np.percentile(volume, MR_PERCENTILES))
        clipped = np.clip(volume, low, high)
        deviation = float(clipped.std(dtype=np.float64))
        return cls(low, high, float(clipped.mean(dtype=np.float64)), deviation or 1.0)
