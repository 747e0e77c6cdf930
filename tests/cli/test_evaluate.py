"""Which rule is best for a network, from files to a rule that is used."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import made_up_maps
from command_line import refused, run
from marginseg.calibration import Calibration
from marginseg.rule import Rule
from volume_files import load, save

CASES = 8


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Maps of two classes that are far too sure, and their labels."""
    root = tmp_path_factory.mktemp("network")
    maps, labels = root / "maps", root / "labels with a space"
    maps.mkdir()
    labels.mkdir()
    for seed in range(CASES):
        truth = made_up_maps.truth(seed, 16)
        p = made_up_maps.shifted(-3.0)(truth).astype(np.float32)
        held = made_up_maps.drawn(seed, truth)
        label = np.where(held[1], 2, np.where(held[0], 1, 0)).astype(np.uint8)
        save(maps / f"case_{seed}.nii.gz", np.moveaxis(p, 0, -1))
        save(labels / f"case_{seed}.nii.gz", label)
    names = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    (maps / "dataset.json").write_text(json.dumps(names))
    return maps, labels


@pytest.fixture(scope="module")
def evaluated(folders, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("evaluated") / "out"
    result = run("evaluate", *folders, "-o", output)
    assert result.exit_code == 0, result.output
    assert "8 cases, NIfTI" in result.stdout
    assert "use it" in result.stdout
    return output


def test_the_rule_says_what_it_was_fitted_on(evaluated) -> None:
    rule = Rule.load(evaluated / "rule.json")
    assert rule.fitted_on["names"] == [f"case_{seed}" for seed in range(CASES)]
    assert rule.classes.names == ("whole", "core")
    assert rule.decision != "half"


def test_every_score_is_in_the_table(evaluated) -> None:
    with (evaluated / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == CASES * 2 * 7
    assert {row["rule"] for row in rows} >= {"present", "isotonic", "ceiling"}


def test_the_rule_is_done_on_maps(folders, evaluated, tmp_path) -> None:
    """By the command as in Python; better than ½, whose label map is empty."""
    maps, labels = folders
    result = run("threshold", maps, "--rule", evaluated / "rule.json", "-o", tmp_path / "by rule")
    assert result.exit_code == 0, result.output
    rule = Rule.load(evaluated / "rule.json")
    for seed in range(CASES):
        name = f"case_{seed}.nii.gz"
        p = np.moveaxis(load(maps / name), -1, 0)
        found = load(tmp_path / "by rule" / name)
        np.testing.assert_array_equal(found, rule.labels(np.ascontiguousarray(p)))
        assert not Rule(rule.classes, "half").labels(p).any()
        label = load(labels / name)
        both = ((found > 0) & (label > 0)).sum()
        assert 2 * both / ((found > 0).sum() + (label > 0).sum()) > 0.4
        image = nibabel.load(tmp_path / "by rule" / name)
        np.testing.assert_allclose(image.affine, nibabel.load(maps / name).affine)
    one = tmp_path / "one.nii"
    result = run("threshold", maps / "case_3.nii.gz", "--rule", evaluated / "rule.json", "-o", one)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(load(one), load(tmp_path / "by rule" / "case_3.nii.gz"))


@pytest.mark.usefixtures("undrawn")
def test_what_is_scored_of_masks_is_what_is_written(tmp_path) -> None:
    """Maps of classes that overlap, one inside the other, with a mask of each as labels."""
    maps, labels = tmp_path / "maps", tmp_path / "labels"
    random = np.random.default_rng(0)
    grid = np.linalg.norm(np.indices((12, 12, 12)) - 5.5, axis=0)
    for number in range(2):
        held = np.stack([grid < 5, grid < 3 + number])
        p = np.where(held, 0.8, 0.1) + random.uniform(-0.1, 0.1, held.shape)
        maps.mkdir(exist_ok=True)
        save(maps / f"c{number}.nii.gz", np.moveaxis(p, 0, -1).astype(np.float32))
        for name, mask in zip(("whole", "core"), held, strict=True):
            (labels / f"c{number}").mkdir(parents=True, exist_ok=True)
            save(labels / f"c{number}" / f"{name}.nii.gz", mask.astype(np.uint8))
    command = ("evaluate", maps, labels, "--names", "whole", "core", "--rule", "optimal")
    assert run(*command, "-o", tmp_path / "out").exit_code == 0
    rule = tmp_path / "out" / "rule-optimal.json"
    assert run("threshold", maps, "--rule", rule, "-o", tmp_path / "s").exit_code == 0
    with (tmp_path / "out" / "cases.csv").open(newline="") as file:
        scores = [row for row in csv.DictReader(file) if row["rule"] == "optimal"]
    assert len(scores) == 4
    for row in scores:
        channel = ("whole", "core").index(row["structure"])
        found = load(tmp_path / "s" / f"{row['case']}.nii.gz")[..., channel] > 0
        held = load(labels / row["case"] / f"{row['structure']}.nii.gz") > 0
        dice = 2 * (found & held).sum() / (found.sum() + held.sum())
        assert float(row["overlap"]) == pytest.approx(dice, abs=1e-6)
        assert float(row["overlap"]) > 0.9


def test_options_reach_the_rule(folders, tmp_path) -> None:
    options = ("--rule", "platt", "optimal", "--beta", 2, "--empty", "skip", "--surface")
    options += ("--min-probability", 0.001, "--smallest-component", 3, "--at-half", "whole")
    result = run("evaluate", *folders, *options, "--workers", 1, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    rule = Rule.load(tmp_path / "rule.json")
    settings = json.loads((tmp_path / "evaluation.json").read_text())["settings"]
    assert settings["candidates"] == ["platt", "optimal"]
    assert (settings["beta"], settings["empty"], settings["surface"]) == (2.0, "skip", True)
    assert (rule.beta, rule.min_probability, rule.smallest_component) == (2.0, 0.001, 3)
    assert rule.at_half == ("whole",)
    assert isinstance(rule.calibration, Calibration)


@pytest.mark.usefixtures("undrawn")
def test_again_in_the_same_folder(folders, tmp_path) -> None:
    for _ in range(2):
        assert run("evaluate", *folders, "-o", tmp_path).exit_code == 0
        first = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")} == first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--at-half", "liver"), ["--at-half", "liver"]),
        (("--beta", 0), ["--beta", "> 0"]),
        (("--beta", "nan"), ["--beta"]),
        (("--min-probability", 2), ["--min-probability"]),
        (("--smallest-component", -1), ["--smallest-component"]),
        (("--workers", 0), ["--workers"]),
        (("--rule", "best"), ["--rule", "best"]),
        (("--names", "a", "b", "c"), ["3", "channels"]),
    ],
)
def test_wrong_options_are_refused_at_once(folders, tmp_path, options, words) -> None:
    output = tmp_path / "out"
    refused(run("evaluate", *folders, *options, "-o", output), *words, output=output)


def test_what_does_not_fit_is_named(folders, tmp_path) -> None:
    maps, labels = folders
    refused(run("evaluate", maps, tmp_path, "-o", tmp_path / "out"), "case_0", "label")
    refused(run("evaluate", tmp_path / "none", labels, "-o", tmp_path / "out"), "none")
    (tmp_path / "file").write_text("")
    refused(run("evaluate", maps, labels, "-o", tmp_path / "file"), "--output", "file")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for path in labels.iterdir():
        save(wrong / path.name, np.zeros((16, 16, 15), np.uint8))
    refused(run("evaluate", maps, wrong, "-o", tmp_path / "out"), "case_0", "(16, 16, 15)")


def test_values_that_are_no_probabilities_are_named(tmp_path) -> None:
    maps, labels = tmp_path / "maps", tmp_path / "labels"
    for folder, value in ((maps, np.float32(7)), (labels, np.uint8(1))):
        folder.mkdir()
        save(folder / "case_0.nii.gz", np.full((4, 4, 4), value))
    refused(run("evaluate", maps, labels, "-o", tmp_path / "out"), "case_0", "within [0, 1]", "7")
    assert not (tmp_path / "out" / "rule.json").exists()


@pytest.mark.parametrize("options", [("--metric", "accuracy"), ("--min-probability", 0.1)])
def test_a_rule_and_other_options_contradict(folders, evaluated, tmp_path, options) -> None:
    command = ("threshold", folders[0], "--rule", evaluated / "rule.json", *options)
    refused(run(*command, "-o", tmp_path / "out"), "--rule", options[0], output=tmp_path / "out")


def test_a_rule_of_other_classes_is_refused(folders, evaluated, tmp_path) -> None:
    save(tmp_path / "map.nii.gz", np.full((4, 4, 4), 0.5, np.float32))
    command = ("threshold", tmp_path / "map.nii.gz", "--rule", evaluated / "rule.json")
    refused(run(*command, "-o", tmp_path / "out.nii.gz"), "2 channels", "core")


class TestThresholdOfWholeMaps:
    """What `threshold` does without a rule, but with the classes in mind."""

    def test_softmax(self, tmp_path) -> None:
        logits = np.random.default_rng(0).normal(size=(6, 7, 5, 3))
        p = np.exp(2 * logits)
        p = (p / p.sum(-1, keepdims=True)).astype(np.float32)
        save(tmp_path / "p.nii.gz", p)
        result = run(
            "threshold", tmp_path / "p.nii.gz", "--channels", "softmax", "-o", tmp_path / "s.nii"
        )
        assert result.exit_code == 0, result.output
        from marginseg.classes import Classes

        expected = Rule(Classes.softmax(["1", "2"])).labels(np.moveaxis(p, -1, 0).copy())
        np.testing.assert_array_equal(load(tmp_path / "s.nii"), expected)

    def test_regions_are_painted_in_order(self, tmp_path) -> None:
        p = np.random.default_rng(1).uniform(size=(6, 7, 5, 2)).astype(np.float32)
        save(tmp_path / "p.nii.gz", p)
        options = ("--metric", "accuracy", "--channels", "sigmoid", "--paint", 4, 9)
        result = run("threshold", tmp_path / "p.nii.gz", *options, "-o", tmp_path / "s.nii")
        assert result.exit_code == 0, result.output
        expected = np.where(p[..., 1] > 0.5, 9, np.where(p[..., 0] > 0.5, 4, 0))
        np.testing.assert_array_equal(load(tmp_path / "s.nii"), expected)

    def test_names_alone_ask_for_a_label_map(self, tmp_path) -> None:
        p = np.random.default_rng(2).uniform(size=(6, 7, 5, 2)).astype(np.float32)
        save(tmp_path / "p.nii.gz", p)
        options = ("--metric", "accuracy", "--names", "whole", "core")
        result = run("threshold", tmp_path / "p.nii.gz", *options, "-o", tmp_path / "s.nii")
        assert result.exit_code == 0, result.output
        assert "core" in result.stdout
        expected = np.where(p[..., 1] > 0.5, 2, np.where(p[..., 0] > 0.5, 1, 0))
        np.testing.assert_array_equal(load(tmp_path / "s.nii"), expected)

    def test_a_channel_without_a_name_is_asked_about(self, tmp_path) -> None:
        p = np.full((6, 7, 5, 3), 1 / 3, np.float32)
        save(tmp_path / "p.nii.gz", p)
        command = ("threshold", tmp_path / "p.nii.gz", "--names", "a", "b")
        refused(run(*command, "-o", tmp_path / "s.nii"), "--channels", "softmax or sigmoid")
        result = run(*command, "--channels", "softmax", "-o", tmp_path / "s.nii")
        assert result.exit_code == 0, result.output

    def test_iou_is_told_of_label_maps_too(self, tmp_path) -> None:
        p = np.random.default_rng(3).uniform(size=(6, 7, 5, 2)).astype(np.float32)
        save(tmp_path / "p.nii.gz", p)
        told = {}
        for metric in ("dice", "iou"):
            options = ("--metric", metric, "--channels", "sigmoid", "--min-probability", 0.01)
            result = run("threshold", tmp_path / "p.nii.gz", *options, "-o", tmp_path / "s.nii")
            assert result.exit_code == 0, result.output
            heading, first = result.stdout.splitlines()[:2]
            told[heading.split()[3].lower()] = float(first.split()[2])
        assert told["iou"] == pytest.approx(told["dice"] / (2 - told["dice"]), abs=1e-4)

    def test_small_components_go(self, tmp_path) -> None:
        p = np.zeros((12, 12, 12), np.float32)
        p[1:6, 1:6, 1:6] = p[9, 9, 9] = 0.9
        save(tmp_path / "p.nii.gz", p)
        options = ("--smallest-component", 2)
        result = run("threshold", tmp_path / "p.nii.gz", *options, "-o", tmp_path / "s.nii")
        assert result.exit_code == 0, result.output
        found = load(tmp_path / "s.nii")
        assert (found.sum(), found.reshape(12, 12, 12)[9, 9, 9]) == (125, 0)


SAMPLE = "nnunet_sample"
MODELS = {
    "Dataset901_TinyClasses": ("softmax", 5),
    "Dataset902_TinyRegions": ("sigmoid of regions", 1),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_trained_model_of_nnunet(name, nnunet_dir, tmp_path) -> None:
    kind, cases = MODELS[name]
    model = nnunet_dir / "results" / name / "nnUNetTrainerTiny__nnUNetPlans__3d_fullres"
    labels = nnunet_dir / "raw" / name / "labelsTr"
    result = run("evaluate", model, labels, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"{cases} case" in result.stdout
    assert kind in result.stdout
    assert "too little" in result.stdout
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    # At ½ and argmax every voxel is as nnU-Net has segmented it.
    assert evaluation["unlike"] == {}
    result = run("threshold", model, "--rule", tmp_path / "out" / "rule.json", "-o", tmp_path / "s")
    assert result.exit_code == 0, result.output
    written = sorted((tmp_path / "s").glob("*.nii.gz"))
    assert len(written) == cases
    for path in written:
        (own,) = model.glob(f"fold_*/validation/{path.name}")
        np.testing.assert_array_equal(load(path), load(own))
        np.testing.assert_allclose(nibabel.load(path).affine, nibabel.load(own).affine)


def test_channels_of_nnunets_maps_are_its_own(nnunet_dir, tmp_path) -> None:
    predictions = nnunet_dir / "predicted_regions"
    command = ("threshold", predictions, "--channels", "softmax", "-o", tmp_path / "out")
    refused(run(*command), "dataset.json")


def test_predictions_of_nnunet_at_half_are_its_own(nnunet_dir, tmp_path) -> None:
    predictions = nnunet_dir / "predicted_regions"
    result = run("threshold", predictions, "--metric", "accuracy", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    for path in tmp_path.glob("*.nii.gz"):
        np.testing.assert_array_equal(load(path), load(predictions / path.name))
