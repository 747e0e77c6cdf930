"""Maps of classes that a rule knows, and what holds of every layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.volume_files import save

from marginseg.classes import Classes
from marginseg.files.predictions import open_predictions_of

SHAPE = (5, 6, 4)


def channels(count: int) -> np.ndarray:
    values = np.random.default_rng(0).random((*SHAPE, count), np.float32)
    return values / values.sum(-1, keepdims=True)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("classes", "wanted"),
    [
        (Classes.regions({"a": (1,), "b": (2,)}), 2),
        (Classes.softmax(["a", "b"]), 3),
        (Classes(("a", "b"), (0, 1), ((1,), (2,)), True), 2),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_maps_have_the_channels_of_the_rule_and_no_others(
    tmp_path: Path, classes: Classes, wanted: int, count: int, whole: bool
) -> None:
    path = save(tmp_path / "case.nii.gz", channels(count))
    given = [tmp_path if whole else path]
    if count == wanted:
        (case,) = open_predictions_of(given, classes)
        assert case.channels == count
        return
    with pytest.raises(ValueError, match=rf"expected \d channels.* got {count}$") as caught:
        open_predictions_of(given, classes)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value)
