"""Studies to start from: the published one, and one that takes minutes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from marginseg.study.configuration import StudyConfig

#: The published settings (§5.1 to §5.3), at the noise levels of Table 1. A fold of the 400 cases
#: trains on 320 and tests on 80. Without a GPU the study takes days.
PAPER = StudyConfig(std=(0.0, 0.01, 0.02, 0.03), phantom_cases=400)

#: Small networks on small phantoms, for a first look. They are trained far enough for cross-entropy
#: to be calibrated: with many cases, few epochs and a learning rate that falls to 0, since more
#: epochs of fewer cases learn the noise of their labels by heart.
QUICK = StudyConfig(
    std=(0.0, 0.06),
    folds=2,
    patch_shape=(24, 24, 24),
    phantom_cases=72,
    features=(8, 16, 32),
    epochs=8,
    learning_rate=1e-2,
    schedule="cosine",
)

PRESETS = {"quick": QUICK, "paper": PAPER}

#: What a preset changes for one kind of data. The paper takes TotalSegmentator's scans at half
#: their resolution; here these are the first 400 that have the structure whole enough. The share of
#: 0.03 tells the two apart: where a scan ends in the middle of a kidney, 4 % of the kidney lies on
#: the scan's face; of a vessel that crosses a scan of 67 planes, 3 % lie on both faces together.
PREPARATION: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("paper", "totalsegmentator"): {
        "spacing": (3.0,),
        "max_cases": 400,
        "largest_cut": 0.03,
    },
}


def preset(name: str, **settings: Any) -> StudyConfig:
    """Return a preset as it is for the kind of data in ``settings``, changed by these.

    Args:
        name: One of `PRESETS`.
        settings: As for `StudyConfig`.

    Raises:
        TypeError: As for `StudyConfig`.
        ValueError: There is no such preset; or as for `StudyConfig`.

    Example:
        >>> config = preset(
        ...     "paper", data="totalsegmentator", directory="scans", structures=["aorta"]
        ... )
        >>> config.spacing, config.max_cases, config.largest_cut
        ((3.0,), 400, 0.03)

    """
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    kind = settings.get("data", PRESETS[name].data)
    return dataclasses.replace(PRESETS[name], **{**PREPARATION.get((name, kind), {}), **settings})
