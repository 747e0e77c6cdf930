"""How MONAI's transforms take an array in."""

from __future__ import annotations

from typing import Any

from monai.data import get_track_meta
from monai.utils import convert_to_tensor
from torch import Tensor


def as_tracked(array: Any) -> Tensor:
    """Return an array as a tensor, as MONAI's transforms do: with meta data, unless that is off."""
    return convert_to_tensor(array, track_meta=get_track_meta())
