"""The example trains, and its maps lie as SaveImaged lays them, on the grids of the labels."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from marginseg.rule import Rule

pytest.importorskip("monai")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hippocampus_monai.py"


def test_maps_of_another_network_are_not_evaluated_as_this_ones(tmp_path, monkeypatch, capsys):
    earlier = tmp_path / "cross_entropy" / "hippocampus_001.nii.gz"
    earlier.parent.mkdir()
    earlier.touch()
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(tmp_path), "-o", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert caught.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(f"--output: expected no maps of an earlier run, got {earlier.parent}")
    assert earlier.exists()


@pytest.mark.slow
def test_both_networks_write_maps_of_the_cases_held_out(hippocampus_dir, tmp_path):
    few = ["--train", "4", "--held-out", "2", "--epochs", "1"]
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), str(hippocampus_dir), "-o", str(tmp_path), *few],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "4 cases to train with, 2 held out" in result.stdout
    assert len(re.findall(r"^marginseg evaluate ", result.stdout, re.MULTILINE)) == 2
    assert len(re.findall(r"Dice 0\.\d+ by argmax, 0\.\d+ by optimal", result.stdout)) == 2
    written = [sorted((tmp_path / name).glob("*")) for name in ("dice_ce", "cross_entropy")]
    assert [path.name for path in written[0]] == [path.name for path in written[1]]
    assert len(written[0]) == 2
    different = []
    for one, other in zip(*written, strict=True):
        label = nibabel.load(hippocampus_dir / "labelsTr" / one.name)
        images = [nibabel.load(path) for path in (one, other)]
        maps = [np.asarray(image.dataobj) for image in images]
        for image, values in zip(images, maps, strict=True):
            assert values.shape == (*label.shape, 3)
            assert values.dtype == np.float32
            assert np.array_equal(image.affine, label.affine)
            np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
        different.append(not np.allclose(*maps, atol=1e-2))
    assert all(different)
    for name in ("dice_ce", "cross_entropy"):
        assert (tmp_path / f"{name}_evaluation" / "report.html").is_file()
        rule = Rule.load(tmp_path / f"{name}_evaluation" / "rule.json")
        assert rule.classes.names == ("anterior", "posterior")
