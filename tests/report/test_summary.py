from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from made_up_study import BINS, STRUCTURES, write_study
from marginseg.intervals import mean_intervals
from marginseg.report.results import read_results
from marginseg.report.summary import (
    REFERENCES,
    _numbers,
    calibration_curves,
    differences_table,
    predicted,
    summary_table,
    threshold_quantiles,
)
from marginseg.study.configuration import StudyConfig


def _row(rows, **wanted):
    (row,) = (r for r in rows if all(r[key] == value for key, value in wanted.items()))
    return row


def test_means_spreads_and_intervals_are_those_of_the_scores(tmp_path: Path) -> None:
    results = write_study(tmp_path / "study")
    rows = summary_table(tmp_path / "study")
    for structure in STRUCTURES:
        for method, loss in (("CE(0)", "cross_entropy"), ("SD(*)", "soft_dice")):
            folds = [
                [case["methods"][method]["dice_clean"] for case in result["cases"]]
                for run, result in results.items()
                if (run.structure, run.std, run.loss) == (structure, 0.06, loss)
            ]
            every = [score for fold in folds for score in fold]
            row = _row(rows, structure=structure, std=0.06, method=method, reference="clean")
            assert row["mean"] == pytest.approx(statistics.fmean(every))
            assert row["sd"] == pytest.approx(statistics.stdev(map(statistics.fmean, folds)))
            assert row["n"] == 7
            (interval,) = mean_intervals([every])
            assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert [r["n"] for r in rows if (r["method"], r["reference"]) == ("sup D", "noisy")] == [7] * 4
    keys = [(r["structure"], r["std"]) for r in rows]
    assert list(dict.fromkeys(keys)) == [(s, a) for s in STRUCTURES for a in (0.0, 0.06)]


def test_calibration_error_and_gap_are_of_each_case(tmp_path: Path) -> None:
    results = write_study(tmp_path / "study")
    cases = [
        case
        for run, result in results.items()
        if (run.structure, run.std, run.loss) == ("kidney", 0.06, "soft_dice")
        for case in result["cases"]
    ]
    rows = summary_table(tmp_path / "study")
    here = {"structure": "kidney", "std": 0.06, "method": "SD(0)"}
    curves = [case["calibration"] for case in cases]
    errors = [
        sum(abs(p - h) for p, h in zip(c["promised"], c["held"], strict=True)) / sum(c["count"])
        for c in curves
    ]
    row = _row(rows, **here, reference="calibration_error")
    assert row["mean"] == pytest.approx(statistics.fmean(errors))
    gaps = [case["sup_dice"] - case["methods"]["SD(0)"]["dice_marginal"] for case in cases]
    row = _row(rows, **here, reference="ceiling_gap")
    assert row["mean"] == pytest.approx(statistics.fmean(gaps))
    (curve,) = (
        c
        for c in calibration_curves(read_results(tmp_path / "study"))
        if (c["structure"], c["std"], c["loss"]) == ("kidney", 0.06, "soft_dice")
    )
    assert curve["held"] == pytest.approx(np.sum([c["held"] for c in curves], axis=0))
    assert curve["count"] == [700.0] * BINS


def test_differences_are_paired_by_name(tmp_path: Path) -> None:
    results = write_study(tmp_path / "study")
    scores: dict[str, dict[str, float]] = {"CE(*)": {}, "SD(0)": {}}
    for run, result in results.items():
        if (run.structure, run.std) == ("kidney", 0.06):
            for case in result["cases"]:
                for method in set(scores) & set(case["methods"]):
                    scores[method][case["name"]] = case["methods"][method]["dice_noisy"]
    names = [[case["name"] for case in result["cases"]] for result in results.values()]
    assert any(a != b for a, b in zip(names[::2], names[1::2], strict=True))
    paired = [value - scores["SD(0)"][name] for name, value in scores["CE(*)"].items()]
    rows = differences_table(tmp_path / "study")
    row = _row(
        rows,
        structure="kidney",
        std=0.06,
        method="CE(*)",
        baseline="SD(0)",
        reference="noisy",
    )
    (interval,) = mean_intervals([paired])
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(interval[:3])
    assert row["n"] == 7
    assert len(rows) == 4 * 2 * len(REFERENCES)


def test_order_of_cases_makes_no_difference(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder)
    before = summary_table(folder), differences_table(folder)
    for path in folder.glob("runs/*/result.json"):
        result = json.loads(path.read_text())
        result["cases"].reverse()
        path.write_text(json.dumps(result))
    for rows, again in zip(before, (summary_table(folder), differences_table(folder)), strict=True):
        for row, other in zip(rows, again, strict=True):
            assert other == pytest.approx(row, nan_ok=True)


def test_cases_that_one_loss_lacks_are_left_out_of_differences(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder)
    (path, *_) = sorted(folder.glob("runs/kidney-std0.06-fold0-soft_dice*/result.json"))
    result = json.loads(path.read_text())
    del result["cases"][0]
    path.write_text(json.dumps(result))
    rows = differences_table(folder)
    here = {"structure": "kidney", "std": 0.06, "reference": "noisy"}
    assert _row(rows, **here, baseline="SD(0)")["n"] == 6
    assert _row(rows, **here, baseline="CE(0)")["n"] == 7


def test_only_the_runs_of_the_grid_count(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder)
    rows = summary_table(folder)
    for path in list(folder.glob("runs/*")):
        stale = path.with_name(path.name[:-8] + "01234567")
        stale.mkdir()
        (stale / "result.json").write_text((path / "result.json").read_text())
    assert summary_table(folder) == rows
    config = StudyConfig.from_dict(json.loads((folder / "config.json").read_text()))
    smaller = {**config.to_dict(), "std": [0.06], "structures": ["kidney"]}
    (folder / "config.json").write_text(json.dumps(smaller))
    assert {(row["structure"], row["std"]) for row in summary_table(folder)} == {("kidney", 0.06)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda result: result["cases"].clear(),
        lambda result: result.pop("seconds"),
        lambda result: result["cases"][0].pop("sup_dice"),
        lambda result: result["cases"][0]["calibration"].update(count=["many"]),
        lambda result: result["cases"][0]["methods"].pop("CE(*)"),
        lambda result: result["cases"][0]["methods"]["CE(*)"].update(threshold=None),
        lambda result: result.update(cases=7),
    ],
)
def test_damaged_results_do_not_count(tmp_path: Path, damage) -> None:
    folder = tmp_path / "study"
    write_study(folder)
    (path, *_) = folder.glob("runs/kidney-std0.06-fold1-cross_entropy*/result.json")
    result = json.loads(path.read_text())
    damage(result)
    path.write_text(json.dumps(result))
    results = read_results(folder)
    assert results.unreadable == ("kidney-std0.06-fold1-cross_entropy",)
    assert (len(results.finished), results.expected) == (15, 16)


def test_thresholds_are_told_by_their_quantiles(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    rows = threshold_quantiles(read_results(tmp_path / "study"))
    assert len(rows) == 8
    for row in rows:
        assert row["n"] == 7
        assert row["min"] <= row["quantiles"][0] <= row["quantiles"][-1] <= row["max"]


def test_infinite_volume_ratios_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder)
    (path, *_) = folder.glob("runs/kidney-std0-fold1-cross_entropy*/result.json")
    result = json.loads(path.read_text())
    result["cases"][0]["methods"]["CE(0)"]["volume_ratio"] = math.inf
    path.write_text(json.dumps(result))
    row = _row(
        summary_table(folder), structure="kidney", std=0, method="CE(0)", reference="volume_ratio"
    )
    assert row["n"] == 6
    assert math.isfinite(row["mean"] + row["high"] + row["sd"])


@pytest.mark.parametrize("text", ["", "[]", '{"batch": 2}', '{"std": "no"}'])
def test_a_folder_without_a_study_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}"):
        summary_table(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}"):
        summary_table(tmp_path)


def test_predictions_are_the_score_without_noise_times_the_ceiling(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    results = write_study(folder)
    found = predicted(summary_table(folder))
    assert {(row["structure"], row["std"]) for row in found} == {(s, 0.06) for s in STRUCTURES}
    assert {row["method"] for row in found} == {"CE(*)", "SD(0)"}

    def mean(structure: str, std: float, loss: str, score: Callable[[Any], float]) -> float:
        return statistics.fmean(
            score(case)
            for run, result in results.items()
            if (run.structure, run.std, run.loss) == (structure, std, loss)
            for case in result["cases"]
        )

    for row in found:
        structure, method = row["structure"], row["method"]
        loss = "cross_entropy" if method == "CE(*)" else "soft_dice"
        at_zero = mean(structure, 0.0, loss, lambda c, m=method: c["methods"][m]["dice_noisy"])
        best = mean(structure, 0.06, loss, lambda c: c["sup_dice"])
        at_level = mean(structure, 0.06, loss, lambda c, m=method: c["methods"][m]["dice_noisy"])
        assert row["predicted"] == pytest.approx(at_zero * best)
        assert row["found"] == pytest.approx(at_level)
    assert predicted([row for row in summary_table(folder) if row["std"] > 0]) == []


def test_a_repeat_that_is_not_finished_makes_no_more_cases() -> None:
    """Cases that were tested twice would count twice, and the interval would be too narrow."""
    values = np.random.default_rng(0).uniform(size=20)
    once = {(0, i % 2, str(i)): value for i, value in enumerate(values)}
    again = {(1, 0, str(i)): value for i, value in enumerate(values) if i % 2 == 0}
    alone, more = _numbers([once, {**once, **again}])
    assert more["n"] == alone["n"] == 20
    assert more["mean"] == pytest.approx(alone["mean"])
    # The second training of a fold gave the same: what is left is the variance of 20 cases.
    variance = statistics.fmean(values[fold::2].var(ddof=1) for fold in (0, 1)) / 20
    reach = scipy.stats.t.ppf(0.975, 18) * math.sqrt(variance)
    assert more["high"] - more["mean"] == pytest.approx(reach)
    assert (alone["covers"], more["covers"]) == ("cases", "cases, trainings")
