"""Folders of probability maps: what each layout is read as, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from marginseg.files.nnunet import at_half
from marginseg.files.predictions import open_labels, open_predictions

MODEL = "nnUNetTrainerTiny__nnUNetPlans__3d_fullres"


@pytest.mark.parametrize(
    ("folder", "count", "layout"),
    [
        (
            f"results/Dataset901_TinyClasses/{MODEL}",
            5,
            "nnU-Net v2, 5 folds of cross-validation, softmax",
        ),
        (
            f"results/Dataset902_TinyRegions/{MODEL}/fold_0",
            1,
            "nnU-Net v2, validation of fold_0, sigmoid of regions",
        ),
        ("predicted_regions", 2, "nnU-Net v2, predictions, sigmoid of regions"),
    ],
)
def test_at_half_the_maps_are_nnunets_own_segmentations(
    nnunet_dir: Path, folder: str, count: int, layout: str
) -> None:
    found = open_predictions(nnunet_dir / folder)
    assert (len(found.cases), found.layout) == (count, layout)
    for case in found.cases:
        own = case.segmentation()
        assert own is not None
        assert own.any()
        assert_array_equal(at_half(found.classes, case.probabilities()), own)
        assert case.spacing == (1.0, 1.0, 2.5)


def test_labels_of_the_sample_are_found(nnunet_dir: Path) -> None:
    found = open_predictions(nnunet_dir / f"results/Dataset901_TinyClasses/{MODEL}")
    labels = open_labels(nnunet_dir / "preprocessed/Dataset901_TinyClasses/gt_segmentations", found)
    assert list(labels) == [case.name for case in found.cases]
    for case in found.cases:
        targets = labels[case.name].targets()
        assert targets.shape == (2, *case.shape)
        assert targets.dtype == np.bool_
        assert not (targets[0] & targets[1]).any()
