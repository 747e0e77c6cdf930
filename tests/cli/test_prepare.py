"""`marginseg prepare` on a fake download, and the study of what it prepared."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import fake_totalsegmentator as fake
from marginseg.cli import app
from marginseg.data.intensity import IntensityScale
from marginseg.data.phantom import phantom_case
from marginseg.data.reading import read_volume

SUBJECTS = 11
REASONS = {
    fake.MISSING: "a file is missing",
    fake.EMPTY: "the structure is empty",
    fake.CUT: "the scan ends within the structure",
    fake.TRUNCATED: "a file is unreadable",
}

#: Of the small scans here: their tubes cross 30 planes, and have two of them on the faces.
SMALL = {"shape": (20, 20, 30), "largest_cut": "0.12"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    for word in ("marginseg: ", *words):
        assert word in result.stderr


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "a download"
    fake.make(folder, SUBJECTS, shape=SMALL["shape"])  # type: ignore[arg-type]
    return folder


def prepare(download: Path, cache: Path, *more: object, structures: object = fake.SCENES) -> Result:
    cut = SMALL["largest_cut"]
    options = ["--patch", "16x16x16", "--spacing", "1.5x1.5x1.5", "--largest-cut", cut]
    return run(
        "prepare",
        "--dir",
        download,
        "--structure",
        *structures,
        *options,
        "-o",
        cache,
        *more,  # type: ignore[misc]
    )


def expected(structure: str, subjects: int = SUBJECTS) -> dict[str, str]:
    """Subjects that have to be left out, with their reasons."""
    defects = {i: fake.defect(i, structure) for i in range(subjects)}
    return {f"s{i:04d}": REASONS[defect] for i, defect in defects.items() if defect}


def manifest_of(cache: Path, structure: str) -> dict[str, object]:
    (path,) = cache.glob(f"manifest-{structure}-*.json")
    return dict(json.loads(path.read_text()))


def test_it_prepares_what_is_usable_and_says_what_is_not(download: Path, tmp_path: Path) -> None:
    cache = tmp_path / "a cache"
    result = prepare(download, cache)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    for structure in fake.SCENES:
        left_out = expected(structure)
        usable = SUBJECTS - len(left_out)
        line = f"{structure}: {usable} cases are usable (400 wanted), {len(left_out)} left out\n"
        assert line in result.stdout
        manifest = manifest_of(cache, structure)
        reasons = {case["name"]: case["reason"] for case in manifest["skipped"]}  # type: ignore[attr-defined]
        assert reasons.keys() == left_out.keys()
        assert all(reasons[name].startswith(f"{what}: ") for name, what in left_out.items())
        assert len(manifest["cases"]) == usable  # type: ignore[arg-type]
    assert re.search(r"1 x a file is unreadable \(s0004: ct\.nii\.gz ", result.stdout)
    assert "1 x a file is missing (s0002: kidney_right.nii.gz (No such file" in result.stdout
    assert str(cache / "manifest-aorta-") in result.stdout


def test_cases_of_one_reason_are_counted(download: Path, tmp_path: Path) -> None:
    result = prepare(download, tmp_path / "c", "--largest-cut", "0.01", structures=["aorta"])
    assert result.exit_code == 2
    assert "10 x the scan ends within the structure (s0000, s0001, s0002, ...)" in result.stdout
    assert "1 x the structure is empty (s0009: no voxel in aorta.nii.gz)" in result.stdout
    assert result.stderr.startswith("marginseg: structure 'aorta': no usable case is left (s0000:")


def test_the_second_time_nothing_is_made(download: Path, tmp_path: Path) -> None:
    first = prepare(download, tmp_path / "c")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").iterdir()}
    second = prepare(download, tmp_path / "c")
    assert second.output == first.output
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").iterdir()} == before


def test_max_cases_is_a_limit_on_usable_cases(download: Path, tmp_path: Path) -> None:
    result = prepare(download, tmp_path, "--max-cases", 3, structures=["kidney_right"])
    assert "kidney_right: 3 cases are usable, 1 left out\n" in result.stdout
    cases = manifest_of(tmp_path, "kidney_right")["cases"]
    assert [case["name"] for case in cases] == ["s0000", "s0001", "s0003"]  # type: ignore[attr-defined]


def test_verify(download: Path, tmp_path: Path) -> None:
    prepare(download, tmp_path, structures=["aorta", "esophagus"])
    assert run("prepare", "--verify", "-o", tmp_path).exit_code == 0
    (entry,) = tmp_path.glob("s0003-aorta-*.npy")
    content = entry.read_bytes()
    entry.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = run("prepare", "--verify", "-o", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == f"marginseg: aorta: s0003: {entry.name} has changed\n"
    assert "7 of 8 cases are as they were written" in result.stdout
    assert run("prepare", "--verify", "--structure", "esophagus", "-o", tmp_path).exit_code == 0
    # What was damaged is made again, to the same bytes.
    prepare(download, tmp_path, structures=["aorta", "esophagus"])
    assert entry.read_bytes() == content
    assert run("prepare", "--verify", "-o", tmp_path).exit_code == 0
    refused(run("prepare", "--verify", "--structure", "liver", "-o", tmp_path), "liver")


def test_bad_input_gets_one_line(download: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c"
    for structures, word in ((["liver"], "aorta, esophagus, kidney_right"), ([], "--structure")):
        options = ["--structure", *structures] if structures else []
        refused(run("prepare", "--dir", download, *options, "-o", cache), word)
    refused(run("prepare", "--structure", "aorta", "-o", cache), "--dir: needed")
    refused(run("prepare", "--dir", tmp_path / "no", "--structure", "aorta", "-o", cache), "--dir")
    for option, value in (
        ("--largest-cut", "1.5"),
        ("--largest-cut", "-1"),
        ("--max-cases", "0"),
        ("--patch", "16"),
        ("--patch", "15x16x16"),
        ("--spacing", "0x1x1"),
        ("--preset", "slow"),
    ):
        refused(prepare(download, cache, option, value), option)
    file = tmp_path / "file"
    file.write_text("")
    refused(prepare(download, file), "--output: expected a folder")
    refused(prepare(download, file / "c"), "--output: cannot make the folder")
    refused(run("prepare", "--verify", "-o", cache), "--output")
    assert not cache.exists()
    (tmp_path / "manifest-a-0.json").write_text("{")
    refused(run("prepare", "--verify", "-o", tmp_path), "manifest-a-0.json", "damaged")


def test_phantoms_and_decathlon_tasks_are_prepared_too(
    tmp_path: Path, hippocampus_dir: Path
) -> None:
    options = ["--patch", "16x16x16", "--max-cases", 4, "-o", tmp_path]
    result = run("prepare", "--data", "phantom", "--structure", "tube", *options)
    assert "tube: 4 cases are usable\n" in result.stdout
    result = run("prepare", "--data", "decathlon", "--dir", hippocampus_dir, *options)
    assert "all: 4 cases are usable\n" in result.stdout
    manifest = manifest_of(tmp_path, "all")
    assert manifest["directory"] == str(hippocampus_dir.resolve())
    assert run("prepare", "--verify", "-o", tmp_path).exit_code == 0


def test_the_real_sample(totalsegmentator_dir: Path, tmp_path: Path) -> None:
    command = ["prepare", "--dir", totalsegmentator_dir, "-o", tmp_path, "--structure"]
    result = run(*command, "kidney_right", "aorta", "esophagus", "--largest-cut", 0.05)
    assert result.exit_code == 0
    # Half of the kidney is in the scan, at 3 mm in 19 planes.
    assert re.search(r"kidney_right: 0 cases .*\n.*s0000: 5\.5 % of its voxels", result.stdout)
    assert "aorta: 1 case is usable (400 wanted)\n" in result.stdout
    assert "(s0000: no voxel in esophagus.nii.gz)" in result.stdout
    refused(run(*command, "pancreas"), "pancreas", "kidney_right")


@pytest.mark.slow
def test_from_a_download_to_the_report(tmp_path: Path) -> None:
    download, cache, output = (tmp_path / name for name in ("a download", "a cache", "a study"))
    fake.make(download, SUBJECTS)
    data = ["--dir", download, "--structure", *fake.SCENES, "--patch", "16x16x16"]
    data += ["--spacing", "4.5x4.5x4.5", "--max-cases", "400", "--largest-cut", "0.05"]
    assert run("prepare", *data, "-o", cache).exit_code == 0
    entries = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    # The study needs nothing of the masks any more but their names, sizes and times.
    training = ["--features", "4-8", "--std", "0.03", "--epochs", "2", "--folds", "2"]
    result = run(
        "study", "--data", "totalsegmentator", *data, *training, "--cache", cache, "-o", output
    )
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == entries
    assert (output / "report.html").stat().st_size > 0
    assert not (output / "cache").exists()
    lines = [json.loads(line) for line in (output / "runs.jsonl").read_text().splitlines()]
    assert len(lines) == 3 * 2 * 2
    for structure in fake.SCENES:
        left_out = expected(structure)
        for name, reason in left_out.items():
            assert f"skipped: {structure}: {name}: {reason}: " in result.stdout
        tested = {
            case["name"]
            for line in lines
            for case in line["cases"]
            if line["structure"] == structure
        }
        assert tested == {f"s{i:04d}" for i in range(SUBJECTS)} - left_out.keys()
    assert "s0004: a file is unreadable: ct.nii.gz" in result.stdout


def test_the_fake_download_reads_as_it_was_drawn(download: Path) -> None:
    shape: tuple[int, int, int] = SMALL["shape"]  # type: ignore[assignment]
    scan, spacing = read_volume(download / "s0000/ct.nii.gz")
    assert (scan.shape, spacing) == ((60, 20, 30), (1.5, 1.5, 1.5))
    assert scan.max() > 200  # Hounsfield units
    for place, (structure, scene) in enumerate(fake.SCENES.items()):
        drawn = phantom_case(scene, 0, patch_shape=shape, seed=0)
        mask, _ = read_volume(download / f"s0000/segmentations/{structure}.nii.gz")
        part = slice(20 * place, 20 * place + 20)
        np.testing.assert_array_equal(mask[part], drawn.label)
        assert mask.sum() == drawn.label.sum()
        # Whole Hounsfield units are 1/350 apart.
        np.testing.assert_allclose(IntensityScale.ct()(scan)[part], drawn.image, atol=0.51 / 350)


def test_checksums_are_those_of_sha256sum(download: Path, tmp_path: Path) -> None:
    prepare(download, tmp_path, structures=["aorta"])
    for case in manifest_of(tmp_path, "aorta")["cases"]:  # type: ignore[attr-defined]
        digest = hashlib.sha256((tmp_path / case["file"]).read_bytes()).hexdigest()
        assert case["sha256"] == digest


def test_a_scan_that_was_downloaded_again_is_used(download: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(download, copy)
    assert "s0004" in prepare(copy, tmp_path / "c", structures=["kidney_right"]).stdout
    shutil.copy(copy / "s0003/ct.nii.gz", copy / "s0004/ct.nii.gz")
    result = prepare(copy, tmp_path / "c", structures=["kidney_right"])
    assert "s0004" not in result.stdout
    assert "kidney_right: 9 cases are usable" in result.stdout
