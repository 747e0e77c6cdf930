"""Which cases are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from made_up_study import write_study
from marginseg.report.figures.cases import extreme_cases, noise_cases
from marginseg.report.results import read_results


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A finished study, in a folder with a space in its name."""
    folder = tmp_path / "a study"
    write_study(folder)
    skipped = [
        {"structure": "kidney", "name": "s7", "reason": "the structure is <empty>"},
        *({"structure": "kidney", "name": f"t{i}", "reason": f"too big: {i}"} for i in range(3)),
    ]
    (folder / "skipped.json").write_text(json.dumps(skipped))
    return folder


def test_worst_and_best_cases_are_so(study: Path) -> None:
    results = read_results(study)
    cases = extreme_cases(results)
    assert len(cases) == 4
    scores = [
        s.dice_noisy
        for s in results.scores
        if (s.structure, s.std, s.method) == ("kidney", 0.06, "CE(*)")
    ]
    assert [case["dice"] for case in cases[:2]] == [min(scores), max(scores)]
    assert "worst" in cases[0]["title"]
    levels = [[level["std"] for level in case["levels"]] for case in noise_cases(results)]
    assert levels == [[0.0, 0.06]] * 2
