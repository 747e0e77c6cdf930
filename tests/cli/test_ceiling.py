"""`marginseg ceiling`: what noise leaves to reach, told of data sets on disk and of phantoms."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from command_line import refused, run
from marginseg.study import StudyConfig
from volume_files import load, save

CASES = 4
SHAPE = (16, 12, 8)


def a_label(case: int) -> np.ndarray:
    """Two structures, whose centre of mass together is the volume's."""
    label = np.zeros(SHAPE, np.uint8)
    label[4:8, 3:9, 2 : 6 if case % 2 else 5] = 1
    label[8:12, 3:9, 2:6] = 2
    return label


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A Decathlon folder; of one case the label is cut short, another lacks a structure."""
    root = tmp_path / "Task99_Blocks"
    for kind in ("imagesTr", "labelsTr"):
        (root / kind).mkdir(parents=True)
    names = [f"case_{case}" for case in range(CASES)]
    for case, name in enumerate(names):
        label = a_label(case)
        if name == "case_2":
            label[label == 1] = 0
        save(root / "labelsTr" / f"{name}.nii.gz", label, np.eye(4))
        image = np.random.default_rng(case).normal(size=SHAPE).astype(np.float32)
        save(root / "imagesTr" / f"{name}.nii.gz", image, np.eye(4))
    broken = root / "labelsTr" / "case_3.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-40])
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in names
        ],
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "ceilings.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def marginals(label: np.ndarray, std: float) -> np.ndarray:
    """The chance that N(0, a²), a fraction of each axis, leads from a voxel into the label."""
    m = label.astype(np.float64)
    for axis, size in enumerate(label.shape):
        steps = np.arange(size)[None, :] - np.arange(size)[:, None]
        reached = ndtr((steps + 0.5) / (std * size)) - ndtr((steps - 0.5) / (std * size))
        m = np.moveaxis(np.tensordot(reached, m, axes=(1, axis)), 0, axis)
    return m


def test_cases_on_disk_against_brute_force(task: Path, tmp_path: Path) -> None:
    out = tmp_path / "some ceilings"
    options = ["--std", "0.05", "0.1", "--patch", "16x12x8", "--structure", "all", "-o", out]
    result = run("ceiling", task, *options)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert "all: 3 cases are usable, 1 left out\n" in result.stdout
    assert "1 x a file is unreadable (case_3: case_3.nii.gz" in result.stdout
    for name in ("ceilings.csv", "ceilings.json", "ceilings.png"):
        assert f"{out / name}\n" in result.stdout
    rows = rows_of(out)
    assert [(row["name"], row["std"]) for row in rows] == [
        (f"case_{case}", std) for case in range(3) for std in ("0.05", "0.1")
    ]
    # Of this case the patch is the whole volume.
    (row,) = (row for row in rows if (row["name"], row["std"]) == ("case_1", "0.1"))
    label = a_label(1) > 0
    m = marginals(label, 0.1)

    def dice(s: np.ndarray) -> float:
        return float(2 * m[s].sum() / (s.sum() + m.sum()))

    best = max(dice(m >= t) for t in np.unique(m))
    assert float(row["sup_dice"]) == pytest.approx(best, abs=2e-6)
    assert float(row["threshold"]) == pytest.approx(best / 2, abs=2e-6)
    assert float(row["dice_at_half"]) == pytest.approx(dice(m >= 0.5), abs=2e-6)
    assert float(row["gain"]) == pytest.approx(best - dice(m >= 0.5), abs=4e-6)
    ratio = (m >= best / 2 - 1e-7).sum() / label.sum()
    assert float(row["volume_ratio"]) == pytest.approx(ratio, abs=1e-6)
    ratio_at_half = (m >= 0.5).sum() / label.sum()
    assert float(row["volume_ratio_at_half"]) == pytest.approx(ratio_at_half, abs=1e-6)
    assert float(row["expected_volume_ratio"]) == pytest.approx(m.sum() / label.sum(), abs=2e-6)
    means = [float(row["sup_dice"]) for row in rows if row["std"] == "0.1"]
    shown = " ".join(result.stdout.split())
    assert f"all 0.1 {np.mean(means):.3f}±{np.std(means, ddof=1):.3f} " in shown


def test_every_structure_by_itself_and_all_as_one(task: Path, tmp_path: Path) -> None:
    result = run("ceiling", task / "dataset.json", "--std", "0.05", "-o", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert "front: 2 cases are usable, 2 left out\n" in result.stdout
    assert "1 x the structure is empty (case_2: no voxel in case_2.nii.gz)" in result.stdout
    assert "back: 3 cases are usable, 1 left out\n" in result.stdout
    counts = {row["structure"]: row for row in rows_of(tmp_path / "out")}
    assert list(counts) == ["front", "back", "all"]
    record = json.loads((tmp_path / "out" / "ceilings.json").read_text())
    assert record["settings"]["directory"] == "Task99_Blocks"
    assert record["settings"]["patch_shape"] == [24, 24, 24]
    assert [(case["structure"], case["name"]) for case in record["skipped"]] == [
        ("front", "case_2"),
        ("front", "case_3"),
        ("back", "case_3"),
        ("all", "case_3"),
    ]
    assert str(tmp_path) not in json.dumps(record)


def test_a_structure_without_a_case_does_not_stop_the_others(task: Path, tmp_path: Path) -> None:
    for case in (0, 1):
        save(
            task / "labelsTr" / f"case_{case}.nii.gz", np.uint8(2) * (a_label(case) > 0), np.eye(4)
        )
    result = run("ceiling", task, "--structure", "front", "back", "--std", "0.05")
    assert result.exit_code == 0
    assert "front: 0 cases are usable, 4 left out\n" in result.stdout
    assert "2 cases" not in result.stdout
    result = run("ceiling", task, "--structure", "front", "--std", "0.05", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "no usable case is left" in result.stderr
    assert not list((tmp_path / "out").glob("ceilings.*"))


def test_without_a_folder_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    options = ["--std", "0", "0.06", "--max-cases", 2, "--patch", "16x16x16"]
    result = run("ceiling", *options, "--structure", "tube", "thin_tube")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert "1.000±0.000" in result.stdout
    assert "thin_tube: std 0.06" in result.stdout
    assert list(tmp_path.iterdir()) == []
    assert run("ceiling", "phantom", *options, "--structure", "tube", "thin_tube").stdout == (
        result.stdout
    )


def test_a_study_in_the_same_folder_finds_the_cases(task: Path, tmp_path: Path) -> None:
    options = ["--structure", "back", "--std", "0.05", "--patch", "16x12x8", "-o", tmp_path / "out"]
    assert run("ceiling", task, *options).exit_code == 0
    cache = tmp_path / "out" / "cache"
    before = {path: path.stat().st_mtime_ns for path in cache.glob("*.npy")}
    config = StudyConfig(
        data="decathlon",
        directory=str(task),
        structures=["back"],
        patch_shape=(16, 12, 8),
        features=(2, 4),
        folds=3,
    )
    assert len(config.dataset("back", cache_dir=cache)) == len(before) == 3
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*.npy")} == before
    # A cache that is named is used in its place.
    elsewhere = [*options[:-1], tmp_path / "other", "--cache", cache]
    assert run("ceiling", task, *elsewhere).exit_code == 0
    assert not (tmp_path / "other" / "cache").exists()
    assert rows_of(tmp_path / "other") == rows_of(tmp_path / "out")


def test_units(task: Path, tmp_path: Path) -> None:
    """1.6 mm are 0.8 voxels of 2 mm."""
    for path in (*task.glob("imagesTr/*"), *task.glob("labelsTr/case_[012]*")):
        save(path, load(path), np.diag([2.0, 2.0, 2.0, 1.0]))
    options = ["--structure", "back", "--patch", "16x12x8"]
    found = {}
    for units, std in (("mm", 1.6), ("voxel", 0.8), ("extent", 0.8)):
        out = tmp_path / units
        result = run("ceiling", task, *options, "--std", std, "--units", units, "-o", out)
        assert result.exit_code == 0, result.output
        assert json.loads((out / "ceilings.json").read_text())["settings"]["units"] == units
        found[units] = [{**row, "std": ""} for row in rows_of(out)]
    assert found["mm"] == found["voxel"]
    assert float(found["extent"][0]["sup_dice"]) < 0.5 < float(found["voxel"][0]["sup_dice"])
    refused(run("ceiling", task, *options, "--std", "2"), "--std", "--units")
    refused(run("ceiling", task, *options, "--units", "mm"), "--std: needed with --units mm")


def test_ctrl_c_leaves_no_half(task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    for name in ("marginseg.study.ceiling.ceilings", "marginseg.report.ceilings.write_ceilings"):
        with monkeypatch.context() as patch:
            patch.setattr(name, interrupted)
            result = run("ceiling", task, "--structure", "back", "--std", "0.05", "-o", out)
        assert result.exit_code == 130
        assert result.stderr == "marginseg: interrupted\n"
        assert [path.name for path in out.iterdir()] == ["cache"]
    result = run("ceiling", task, "--structure", "back", "--std", "0.05", "-o", out)
    assert result.exit_code == 0


def test_bad_input_gets_one_line(task: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "scans" / "s0000" / "segmentations").mkdir(parents=True)
    (tmp_path / "scans" / "s0000" / "segmentations" / "aorta.nii.gz").touch()
    for arguments, words in (
        (["nowhere"], ["DATA: expected phantom", "nowhere"]),
        ([tmp_path / "file"], ["DATA: expected", "file"]),
        ([tmp_path / "empty"], ["dataset.json", "segmentations", "got neither"]),
        ([tmp_path / "scans"], ["--structure: needed", "aorta"]),
        ([task, "--structure", "liver"], ["--structure: expected one of front, back, all"]),
        (["--structure", "liver"], ["--structure: expected one of kidney"]),
        (["--std", "-0.1"], ["--std: expected"]),
        (["--std", "nan"], ["--std: expected"]),
        (["--std", "0.1", "0.1"], ["--std: expected each once"]),
        (["--patch", "16"], ["--patch: expected 2 or 3 sizes"]),
        (["--max-cases", "0"], ["--max-cases: expected at least 1"]),
        (["--max-cases", "1"], ["--max-cases: expected at least 2 phantoms"]),
        (["--largest-cut", "2"], ["--largest-cut"]),
        (["--format", "pdf"], ["--format: needs --output"]),
        (["-o", tmp_path / "file"], ["--output: expected a folder"]),
        (["-o", tmp_path / "out", "--format", "jpg"], ["jpg"]),
    ):
        refused(run("ceiling", *arguments), *words, output=tmp_path / "out")


def test_wrong_usage_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom marginseg_command import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    for arguments in (["--help"], ["nowhere"], ["--std", "x"], ["--structure", "liver"]):
        result = subprocess.run(
            [sys.executable, "-c", code, "ceiling", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert result.returncode == (0 if arguments == ["--help"] else 2), result.stderr
        assert result.stdout.splitlines()[-1] == "False"


def test_real_data(hippocampus_dir: Path, totalsegmentator_dir: Path, tmp_path: Path) -> None:
    options = ["--std", "0", "0.03", "-o", tmp_path]
    result = run("ceiling", hippocampus_dir, "--max-cases", 4, "--patch", "32x48x32", *options)
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path)
    assert len(rows) == 3 * 4 * 2
    for row in rows:
        sup = float(row["sup_dice"])
        assert (sup == 1) == (row["std"] == "0")
        assert float(row["threshold"]) == pytest.approx(sup / 2, abs=1e-6)
        assert 0 <= float(row["dice_at_half"]) <= sup
    names = ["aorta", "esophagus"]
    result = run("ceiling", totalsegmentator_dir, "--structure", *names, *options)
    assert result.exit_code == 0, result.output
    assert "1 x the structure is empty (s0000: no voxel in esophagus.nii.gz)" in result.stdout
    assert {row["structure"] for row in rows_of(tmp_path)} == {"aorta"}
