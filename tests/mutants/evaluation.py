"""Mistakes in how rules are applied, tried and judged."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

RULE = "tests/test_rule.py"
EVALUATE = "tests/evaluation/test_evaluate.py"
VERDICT = "tests/evaluation/test_verdict.py"

EVALUATION = (
    Mutant(
        "rule-at-half-too",
        "python/marginseg/rule.py",
        "return maps > 0.5, [0.5] * len(maps)",
        "return maps >= 0.5, [0.5] * len(maps)",
        "What is exactly ½ belongs to a region, which it does not with nnU-Net.",
        (f"{RULE}::test_half_of_regions_is_what_exceeds_half_painted_in_order",),
    ),
    Mutant(
        "rule-calibrates-what-is-left-at-half",
        "python/marginseg/rule.py",
        "calibrated[channel] = maps[channel]",
        "calibrated[channel] = calibrated[channel]",
        "A class that is left as it is gets calibrated.",
        (f"{RULE}::test_what_is_left_at_half_is_not_calibrated",),
    ),
    Mutant(
        "evaluation-fits-on-the-case-itself",
        "python/marginseg/evaluation/fits.py",
        "table = self._table if left_out is None else self._table - left_out.table",
        "table = self._table",
        "A calibration has seen the label of the case that it is tried on.",
        (f"{EVALUATE}::test_scores_are_those_of_the_rule_fitted_on_the_other_cases",),
    ),
    Mutant(
        "evaluation-thresholds-on-the-case-itself",
        "python/marginseg/evaluation/fits.py",
        "best = self._curves.best(left_out and left_out.curves.overlap)",
        "best = self._curves.best(None)",
        "A threshold was chosen with the label of the case that it is tried on.",
        (f"{EVALUATE}::test_scores_are_those_of_the_rule_fitted_on_the_other_cases",),
    ),
    Mutant(
        "ceiling-between-equal-values",
        "python/marginseg/evaluation/thresholds.py",
        "last = (above[1:] != above[:-1]).nonzero()[:, 0]",
        "last = (above[1:] == above[:-1]).nonzero()[:, 0]",
        "The best threshold of a case is sought among the wrong cuts.",
        (f"{EVALUATE}::test_the_ceiling_is_the_best_threshold_of_each_case",),
    ),
    Mutant(
        "verdict-of-the-most-complicated",
        "python/marginseg/evaluation/verdict.py",
        "if row.difference.mean >= most - LEAST_GAIN)",
        "if row.difference.mean >= most)",
        "A calibration is recommended where a threshold is as good.",
        (f"{VERDICT}::test_the_simplest_of_the_best_is_recommended",),
    ),
    Mutant(
        "verdict-without-correction",
        "python/marginseg/evaluation/verdict.py",
        "if structure == MEAN:",
        "if structure == str():",
        "With many rules one is better by chance.",
        (f"{VERDICT}::test_differences_are_paired_and_corrected",),
    ),
)
