"""The files of an evaluation: what they say is what was found."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy.stats import binom

from made_up_evaluation import NASTY, made_up_classes, made_up_evaluation
from marginseg.evaluation.candidates import BY_NAME, CANDIDATES
from marginseg.evaluation.case import Settings
from marginseg.evaluation.evaluate import Evaluation
from marginseg.evaluation.verdict import MEAN, Verdict
from marginseg.report import evaluation_table
from marginseg.report import evaluations as module
from marginseg.report.evaluation_folder import EvaluationFile, EvaluationPicture, rule_file
from marginseg.report.evaluation_page import unseen
from marginseg.report.evaluations import write_evaluation
from marginseg.report.extremes import extreme_changes
from marginseg.rule import Rule

LAYOUT = "made up <i>maps</i> & labels"


class Page(HTMLParser):
    """The elements of a page, its text, and the cells of its tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.pictures: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.pictures.append(dict(attributes)["src"] or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += f" {data}"


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return made_up_evaluation(settings=Settings(surface=True))


@pytest.fixture(scope="module")
def written(found: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "new" / "folder"
    assert write_evaluation(folder, found, described=LAYOUT) == folder / "report.html"
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same(text: str, value: Any) -> bool:
    if not isinstance(value, float):
        return text == str(value)
    return text == "" if math.isnan(value) else float(text) == pytest.approx(value, abs=5.1e-7)


def test_every_score_is_in_the_csv_file(found: Evaluation, written: Path) -> None:
    rows = table(written / EvaluationFile.cases)
    assert len(rows) == len(found.scores) == 7 * 2 * 7
    for row, score in zip(rows, found.scores, strict=True):
        assert all(same(row[name], value) for name, value in score._asdict().items())


def test_every_comparison_is_in_the_csv_file(found: Evaluation, written: Path) -> None:
    rows = table(written / EvaluationFile.rules)
    assert len(rows) == len(found.comparisons) == 3 * 7
    for row, comparison in zip(rows, found.comparisons, strict=True):
        interval = comparison.difference
        assert same(row["difference"], interval.mean)
        assert same(row["low"], interval.low)
        assert same(row["high"], interval.high)
        assert same(row["n"], interval.n)
        fields = {name: value for name, value in vars(comparison).items() if name != "difference"}
        assert set(row) == {*fields, "difference", "low", "high", "n"}
        assert all(same(row[name], value) for name, value in fields.items())


def test_the_record_holds_what_was_found(found: Evaluation, written: Path) -> None:
    content = json.loads((written / EvaluationFile.numbers).read_text(encoding="utf-8"))
    assert content["layout"] == LAYOUT
    assert content["settings"]["surface"] is True
    assert content["classes"]["names"] == list(NASTY)
    assert content["verdict"]["rule"] == found.verdict.rule
    for row, comparison in zip(content["table"], found.comparisons, strict=True):
        assert row["reached"] == comparison.reached
        assert row["difference"] == comparison.difference.mean
    # A curve of one bin less than all would not have all voxels.
    voxels = 7 * 20 * 18 * 16
    assert len(content["reliability"]) == 4 * 2
    for row in content["reliability"]:
        assert sum(row["count"]) == row["voxels"] == voxels
        gaps = np.abs(np.subtract(row["promised"], row["held"]))
        assert row["error"] == pytest.approx(gaps.sum() / voxels)
    labels = [case.label() for case in found.cases]
    for place, row in enumerate(content["reliability"][:2]):
        held = sum(int(label.masks[place].sum()) for label in labels)
        assert sum(row["held"]) == held
    for row in content["thresholds"]:
        values = [
            score.threshold
            for score in found.scores
            if (score.structure, score.rule) == (row["structure"], row["rule"])
        ]
        assert row["n"] == len(values)
        assert row["calibrated"]["0.5"] == pytest.approx(float(np.median(values)))
    assert {row["rule"] for row in content["thresholds"]} >= {"optimal", "platt", "ceiling"}


def test_the_rule_is_that_to_be_used_and_says_where_it_is_from(
    found: Evaluation, written: Path
) -> None:
    rule = Rule.load(written / EvaluationFile.rule)
    assert replace(rule, fitted_on={}) == found.recommended()
    assert rule.fitted_on["cases"] == 7
    assert rule.fitted_on["names"] == [case.name for case in found.cases]
    assert rule.fitted_on["layout"] == LAYOUT
    assert rule.fitted_on["verdict"] == found.verdict.sentence
    assert rule.fitted_on["settings"]["surface"] is True
    probabilities = found.cases[0].probabilities()
    assert np.array_equal(rule.masks(probabilities), found.recommended().masks(probabilities))


def test_the_page_begins_with_the_verdict_and_has_the_numbers(
    found: Evaluation, written: Path
) -> None:
    page = Page(written / EvaluationFile.page)
    assert page.tags.isdisjoint({"i", "script", "bold"})  # of the names, nothing is markup
    assert LAYOUT in page.text
    for name in NASTY:
        assert name in page.text
    assert page.text.index(found.verdict.sentence) < page.text.index("side by side")
    assert "marginseg threshold NEW --rule rule.json -o OUT" in page.text
    rare = "The 7 cases that count say nothing of a loss that hits fewer than about one case in 2"
    assert page.text.index(rare) < page.text.index("side by side")
    by_rule = {c.rule: c for c in found.comparisons if c.structure == MEAN}
    lines = {row[0].partition(" ")[0]: row for row in page.rows[1:8]}
    for word, name in (("Platt", "platt"), ("isotonic", "isotonic"), ("best", "ceiling")):
        comparison, row = by_rule[name], lines[word]
        assert row[1] == f"{comparison.reached:.3f}"
        assert row[2].split()[0] == f"{100 * comparison.difference.mean:+.1f}"
        assert row[7] == f"{comparison.surface:.2f}".replace("nan", "–")


def test_a_file_that_cannot_be_written_leaves_no_rule(
    found: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(module, "_draw", full)
    with pytest.raises(OSError, match="no space"):
        write_evaluation(tmp_path, found, described=LAYOUT)
    assert not (tmp_path / EvaluationFile.rule).exists()
    assert not (tmp_path / EvaluationFile.page).exists()
    assert not list(tmp_path.glob(".unfinished*"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("cases", [1, 5])
def test_few_cases_are_called_few(tmp_path: Path, cases: int) -> None:
    found = made_up_evaluation(cases, ["lesion"])
    page = Page(write_evaluation(tmp_path, found, described=LAYOUT))
    assert "stay with the present rule" in page.text
    assert "for looking, not for deciding" in page.text
    assert "nan" not in page.text
    assert "Class by class" not in page.text  # it would be the first table again
    assert Rule.load(tmp_path / EvaluationFile.rule).decision == "half"


@pytest.mark.usefixtures("undrawn")
def test_a_class_that_says_nothing_has_no_numbers(tmp_path: Path) -> None:
    settings = Settings(empty="skip", beta=2.0)
    found = made_up_evaluation(6, ["organ", "nowhere"], settings, absent=(1,))
    page = Page(write_evaluation(tmp_path, found, described=LAYOUT))
    assert "nan" not in page.text
    assert "F2" in page.text
    assert "Dice, or" not in page.text
    nowhere = [row for row in page.rows if row and row[0] == "nowhere"]
    assert nowhere[0][1:4] == ["0", "–", "–"]
    rows = table(tmp_path / EvaluationFile.rules)
    assert all(row["reached"] == "" for row in rows if row["structure"] == "nowhere")
    content = json.loads((tmp_path / EvaluationFile.numbers).read_text(encoding="utf-8"))
    assert content["table"][-1]["reached"] is None


@pytest.mark.usefixtures("undrawn")
def test_nothing_says_anything_at_all(tmp_path: Path) -> None:
    found = made_up_evaluation(2, ["nowhere"], Settings(empty="skip"), absent=(0,))
    page = Page(write_evaluation(tmp_path, found, described=LAYOUT))
    assert "nan" not in page.text
    assert "0 labelled cases say too little" in page.text


@pytest.mark.usefixtures("undrawn")
def test_a_class_that_the_rule_makes_worse_is_named(found: Evaluation, tmp_path: Path) -> None:
    losing = [
        replace(row, difference=row.difference._replace(mean=-0.0234, low=-0.04, high=-0.0123))
        if (row.structure, row.rule) == (NASTY[0], "platt")
        else row
        for row in found.comparisons
    ]
    changed = replace(found, comparisons=losing, verdict=Verdict("platt", "because"))
    page = Page(write_evaluation(tmp_path, changed, described=LAYOUT))
    assert f"worse for {NASTY[0]} (−2.3 [−4.0, −1.2] points)" in page.text
    assert "and worse for" not in Page(write_evaluation(tmp_path, found, described=LAYOUT)).text


@pytest.mark.parametrize("cases", [21, 99, 300])
def test_a_rarer_loss_than_is_told_is_likely_not_seen(cases: int) -> None:
    """By the binomial distribution: what hits one case in so many hits none of these with 5 %."""
    words = unseen(cases).partition("about one case in ")[2]
    share = 1 / int(words.split()[0])
    assert binom.pmf(0, cases, share) == pytest.approx(0.05, abs=0.012)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("exclusive", [False, True])
def test_the_best_threshold_is_called_what_it_is(tmp_path: Path, exclusive: bool) -> None:
    found = made_up_evaluation(2, ["a", "b"], exclusive=exclusive, shape=(8, 8, 8))
    page = Page(write_evaluation(tmp_path, found, described=LAYOUT))
    words = "best threshold of each class by itself, without regard to the other classes"
    assert words in page.text
    assert ("Of classes that exclude each other a rule can reach more" in page.text) == exclusive
    assert ("largest mean over the classes" in page.text) == exclusive
    assert "another map" not in page.text
    assert "a ceiling" not in page.text
    console = Console(file=io.StringIO(), width=80)
    console.print(evaluation_table(found.comparisons))
    told = " ".join(console.file.getvalue().split())
    assert "of each class by itself, without regard to the other classes and to the" in told


@pytest.mark.usefixtures("undrawn")
def test_what_was_processed_after_is_told(tmp_path: Path) -> None:
    found = made_up_evaluation(2, ["lesion"], own=True)
    page = Page(write_evaluation(tmp_path, found, described=LAYOUT))
    case = max(found.unlike, key=lambda name: found.unlike[name])
    assert f"in up to {found.unlike[case]} voxels of a class: {case}" in page.text
    plain = replace(found, unlike={})
    page = Page(write_evaluation(tmp_path, plain, described=LAYOUT))
    assert "In every case that has one, the network's own segmentation is what" in page.text


def test_classes_that_overlap_are_those_of_a_label() -> None:
    """The made-up cases themselves: a label's bits are its classes."""
    classes = made_up_classes(["a", "b"])
    label = np.array([0, 1, 2, 3])
    assert classes.targets(label).tolist() == [[False, True] * 2, [False, False, True, True]]


def test_every_figure_is_there_and_on_the_page(written: Path) -> None:
    for picture in EvaluationPicture:
        with Image.open(written / picture) as image:
            assert min(image.size) > 200
    page = Page(written / EvaluationFile.page)
    assert len(page.pictures) == len(EvaluationPicture)
    assert all(source.startswith("data:image/png;base64,") for source in page.pictures)
    rules = {rule_file(candidate.name) for candidate in CANDIDATES}
    everything = {*EvaluationFile, *EvaluationPicture, *rules}
    assert {path.name for path in written.iterdir()} == everything


@pytest.mark.usefixtures("undrawn")
def test_figures_of_an_earlier_call_are_removed(found: Evaluation, tmp_path: Path) -> None:
    page = Page(write_evaluation(tmp_path, found, described=LAYOUT, embed=False))
    assert sorted(page.pictures) == sorted(EvaluationPicture)
    (tmp_path / "own.png").write_bytes(b"mine")
    nothing = made_up_evaluation(2, ["nowhere"], Settings(empty="skip"), absent=(0,))
    page = Page(write_evaluation(tmp_path, nothing, described=LAYOUT, embed=False))
    left = {path.name for path in tmp_path.glob("*.png")}
    assert left == {"own.png", *page.pictures}
    assert EvaluationPicture.extremes not in left
    assert EvaluationPicture.differences not in left


@pytest.mark.usefixtures("undrawn")
def test_a_case_that_cannot_be_read_again_is_told(found: Evaluation, tmp_path: Path) -> None:
    def gone() -> Any:
        raise FileNotFoundError("/home/me/private.npz")

    changes = extreme_changes(found, found.verdict.rule)
    names = {change.case for change in changes}
    cases = [replace(c, probabilities=gone) if c.name in names else c for c in found.cases]
    page = Page(write_evaluation(tmp_path, replace(found, cases=cases), described=LAYOUT))
    told = ", ".join(change.case for change in changes)
    assert f"Could not be read again, for a look at it: {told}." in page.text
    assert "private" not in page.text
    assert (tmp_path / EvaluationFile.rule).exists()
    assert not (tmp_path / EvaluationPicture.extremes).exists()


@pytest.mark.usefixtures("undrawn")
def test_of_many_classes_figures_show_the_extreme_ones(tmp_path: Path) -> None:
    names = [f"organ {n}" for n in range(9)]
    tried = Settings(candidates=("optimal",))
    found = made_up_evaluation(6, names, tried, shape=(8, 8, 8))
    page = Page(write_evaluation(tmp_path, found, described=LAYOUT))
    content = json.loads((tmp_path / EvaluationFile.numbers).read_text(encoding="utf-8"))
    shown = content["verdict"]["shown"]
    gains = {
        c.structure: c.difference.mean
        for c in found.comparisons
        if c.rule == shown and c.structure != MEAN
    }
    order = sorted(names, key=lambda name: -gains[name])
    assert content["pictured"] == order[:3] + order[-3:]
    assert "Of 9 classes those are shown that" in page.text
    assert [row[0] for row in page.rows if row and row[0] in names][:9] == names
    few = made_up_evaluation(2, names[:8], tried, shape=(8, 8, 8))
    page = Page(write_evaluation(tmp_path, few, described=LAYOUT))
    assert "classes those are shown" not in page.text


@pytest.mark.parametrize(("cases", "own"), [(7, True), (1, False)])
def test_the_terminal_has_a_row_a_rule(cases: int, own: bool) -> None:
    found = made_up_evaluation(cases, own=own)
    console = Console(file=io.StringIO(), width=80)
    console.print(evaluation_table(found.comparisons, metric="F2"))
    lines = console.file.getvalue().split("\n")
    assert all(len(line) <= 80 for line in lines)
    assert "nan" not in "".join(lines)
    assert "F2" in lines[0]
    for comparison in found.comparisons:
        if comparison.structure != MEAN or comparison.rule in ("present", "ceiling"):
            continue
        title = BY_NAME[comparison.rule].title
        (line,) = (line for line in lines if line.startswith(f"{title} "))
        assert f" {comparison.reached:.3f} " in line
        gain = f"{100 * comparison.difference.mean:+.1f}".replace("-", "−")
        assert f" {gain.replace('+0.0', '0.0')} " in line
        assert f" {comparison.better}/{comparison.worse} " in line
        assert line.rstrip().endswith(f"{comparison.promised:.3f}")
