"""Studies of planes: every case has two axes, from the data to the report."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from marginseg.report import write_report
from marginseg.study import StudyConfig, run_study

pytestmark = pytest.mark.usefixtures("one_thread", "small_figure1")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A Decathlon task of four volumes in which a ball is brighter than what is around it."""
    task, rng = tmp_path / "Task99_Balls", np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (task / folder).mkdir(parents=True)
    training = []
    for number in range(4):
        offset = np.indices((24, 20, 9)) - rng.uniform(-1, 1, 3).reshape(3, 1, 1, 1)
        ball = ((offset - np.reshape((11.5, 9.5, 4), (3, 1, 1, 1))) ** 2).sum(0) < 36
        image = rng.normal(0, 1, ball.shape) + 3 * ball
        files = {"image": f"imagesTr/{number}.nii.gz", "label": f"labelsTr/{number}.nii.gz"}
        for array, file in zip(
            (image.astype("f4"), ball.astype("u1")), files.values(), strict=True
        ):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 2, 3, 1])), task / file)
        training.append(files)
    (task / "dataset.json").write_text(
        json.dumps(
            {
                "name": "Balls",
                "modality": {"0": "MRI"},
                "labels": {"0": "background", "1": "ball"},
                "training": training,
            }
        )
    )
    return task


@pytest.mark.parametrize("data", ["phantom", "decathlon"])
def test_a_study_of_planes(data: str, scans: Path, tmp_path: Path) -> None:
    source = {"structures": ("kidney",), "phantom_cases": 4} if data == "phantom" else {}
    config = StudyConfig(
        data=data,
        directory=scans if data == "decathlon" else None,
        std=(0.05,),
        folds=2,
        patch_shape=(16, 24),
        features=(2, 4),
        epochs=2,
        learning_rate=1e-2,
        workers=1,
        **source,
    )
    folder = tmp_path / "study"
    study = run_study(config, folder)
    for run in study.config.runs():
        files = folder / "runs" / study.config.folder_of(run)
        result = json.loads((files / "result.json").read_text())
        with np.load(files / "slices.npz") as slices:
            arrays = {name: slices[name].astype(np.float64) for name in slices}
        # A plane is the whole case: its scores follow from what is kept of it, but for the halves
        # that maps are kept in, in which a voxel can change sides.
        assert arrays["noisy"].shape == (2, 16, 24)
        for place, case in enumerate(result["cases"]):
            noisy, probability = arrays["noisy"][place], arrays["probability"][place]
            for scores in case["methods"].values():
                mask = probability > scores["threshold"]
                total = mask.sum() + noisy.sum()
                dice = 2 * (mask * noisy).sum() / total if total else 1.0
                assert scores["dice_noisy"] == pytest.approx(dice, abs=4 / max(1, total))
            sorted_m = np.sort(arrays["marginal"][place].ravel())[::-1]
            counts = np.arange(1, sorted_m.size + 1)
            best = (2 * sorted_m.cumsum() / (counts + sorted_m.sum())).max()
            assert case["sup_dice"] == pytest.approx(best, abs=2e-3)
    report = write_report(folder)
    assert report.is_file()
