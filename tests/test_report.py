from __future__ import annotations

import base64
import csv
import json
import re
import statistics
from functools import partial

import numpy as np
import pytest
from PIL import Image

from marginseg.figures import figure1
from marginseg.report import rich_table, summary_table, write_report
from marginseg.study_figures import case_figure, figure3

STRUCTURES = ("kidney", "thin <tube> & co")
METHODS = {"cross_entropy": ("CE(0)", "CE(*)"), "soft_dice": ("SD(0)", "SD(*)")}


def _scores(rng):
    return {
        "dice_noisy": rng.uniform(),
        "dice_clean": rng.uniform(),
        "dice_marginal": rng.uniform(),
        "volume_ratio": rng.uniform(0.5, 2),
        "threshold": rng.uniform(0, 0.5),
    }


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A finished study with made-up scores, in a folder with a space in its name."""
    small = partial(figure1, std=(0.03,), size=32, samples=1)
    monkeypatch.setattr("marginseg.report.figure1", small)
    folder = tmp_path / "a study"
    rng = np.random.default_rng(0)
    runs = []
    for structure in STRUCTURES:
        for std in (0.0, 0.06):
            for fold in range(2):
                sup = [rng.uniform(0.5, 1) for _ in range(3 + fold)]
                for loss, methods in METHODS.items():
                    cases = [
                        {
                            "name": f"case_{i}",
                            "fold": fold,
                            "methods": {method: _scores(rng) for method in methods},
                            "sup_dice": sup[i],
                            "calibration": {
                                "count": [4.0, 2.0],
                                "promised": [1.0, rng.uniform(1, 2)],
                                "held": [1.5, 2.0],
                            },
                        }
                        for i in range(3 + fold)
                    ]
                    run = {"structure": structure, "std": std, "fold": fold, "loss": loss}
                    place = folder / "runs" / f"{STRUCTURES.index(structure)}-{std}-{fold}-{loss}"
                    place.mkdir(parents=True)
                    runs.append({**run, "seconds": 1.5, "epochs": [], "cases": cases})
                    (place / "result.json").write_text(json.dumps(runs[-1]))
                    label = np.zeros((3 + fold, 8, 9), np.uint8)
                    label[:, 2:6, 3:7] = 1
                    np.savez(
                        place / "slices.npz",
                        image=rng.normal(size=label.shape).astype(np.float16),
                        clean=label,
                        noisy=label,
                        marginal=label.astype(np.float16),
                        probability=(0.3 * label).astype(np.float16),
                    )
    config = {
        "data": "phantom",
        "structures": list(STRUCTURES),
        "std": [0.0, 0.06],
        "length_scale": 0.2,
        "folds": 2,
        "losses": list(METHODS),
        "features": [8, 16],
        "epochs": 3,
    }
    (folder / "config.json").write_text(json.dumps(config))
    skipped = [{"structure": "kidney", "name": "s7", "reason": "the structure is <empty>"}]
    (folder / "skipped.json").write_text(json.dumps(skipped))
    return folder, runs


def test_means_and_spreads_are_those_of_the_scores(study):
    folder, runs = study
    rows = summary_table(folder)
    for structure in STRUCTURES:
        for method, loss in (("CE(0)", 0), ("SD(*)", 1)):
            chosen = [
                [case["methods"][method]["dice_clean"] for case in run["cases"]]
                for run in runs
                if (run["structure"], run["std"]) == (structure, 0.06)
                and run["loss"] == list(METHODS)[loss]
            ]
            every = [score for fold in chosen for score in fold]
            (row,) = (
                r
                for r in rows
                if (r["structure"], r["std"], r["method"], r["reference"])
                == (structure, 0.06, method, "clean")
            )
            assert row["mean"] == pytest.approx(statistics.fmean(every))
            assert row["sd"] == pytest.approx(statistics.stdev(map(statistics.fmean, chosen)))
            assert row["n"] == 7
    ceiling = [r for r in rows if r["method"] == "sup D" and r["reference"] == "noisy"]
    assert [r["n"] for r in ceiling] == [7] * 4


def test_report_is_one_page_that_needs_nothing_else(study):
    folder, _ = study
    page = write_report(folder).read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 3
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "thin &lt;tube&gt; &amp; co" in page
    assert "thin <tube>" not in page
    assert "the structure is &lt;empty&gt;" in page
    assert "missing" not in page
    for name in ("table.csv", "figure1.png", "figure3.png", "cases.png"):
        assert (folder / name).stat().st_size > 100
    assert not list(folder.glob(".*"))
    with (folder / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(summary_table(folder))


def test_unfinished_study_says_what_is_missing(study):
    folder, _ = study
    for path in (folder / "runs").glob("*soft_dice/result.json"):
        path.unlink()
    next((folder / "runs").glob("*cross_entropy/result.json")).write_text('{"structure": "ki')
    for path in (folder / "runs").glob("*/slices.npz"):
        path.write_bytes(b"no archive")
    failed = [{"run": "kidney-std0-fold0-soft_dice", "error": "ValueError: no", "details": ""}]
    (folder / "failed.json").write_text(json.dumps(failed))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "9 trainings are missing" in page
    assert "kidney-std0-fold0-soft_dice" in page
    assert not (folder / "cases.png").exists()


def test_nothing_finished_is_still_a_report(study):
    folder, _ = study
    for path in (folder / "runs").glob("*/result.json"):
        path.unlink()
    assert "No run has finished yet" in write_report(folder).read_text(encoding="utf-8")
    assert rich_table(folder).row_count == 0


def test_terminal_table_has_a_row_a_structure_and_level(study):
    folder, _ = study
    assert rich_table(folder).row_count == 4


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(ValueError, match="^output_dir"):
        write_report(tmp_path)


def test_figures_are_pictures_of_some_size(study, tmp_path):
    folder, _ = study
    first = figure1(tmp_path / "figure 1.png", std=(0.03,), size=48, samples=2)
    third = figure3(tmp_path / "figure3.png", summary_table(folder))
    plane = np.zeros((12, 12), np.uint8)
    plane[4:8, 4:8] = 1
    arrays = dict.fromkeys(("image", "clean", "noisy", "marginal", "probability"), plane)
    flat = case_figure(tmp_path / "case.png", [{**arrays, "threshold": 0.3, "title": "2-D"}])
    for path in (first, third, flat):
        with Image.open(path) as picture:
            assert min(picture.size) > 200
            assert np.asarray(picture.convert("L")).std() > 5
