"""The folder of an evaluation: every file in it is named here, and nowhere else."""

from __future__ import annotations

from enum import StrEnum


class EvaluationFile(StrEnum):
    """The files that tell which rule is best for a network, other than figures.

    ===================  =========================================================================
    ``report.html``      the page
    ``rule.json``        the rule to be used, see :class:`marginseg.rule.Rule`; written last
    ``rule-NAME.json``   each rule that was tried, for who wants it all the same
    ``rules.csv``        each rule beside the present one, class by class and in the mean
    ``cases.csv``        each rule on each class of each case
    ``evaluation.json``  all numbers but the cases', with settings, versions and fits
    ===================  =========================================================================
    """

    page = "report.html"
    rule = "rule.json"
    rules = "rules.csv"
    cases = "cases.csv"
    numbers = "evaluation.json"


class EvaluationPicture(StrEnum):
    """Its figures."""

    differences = "differences.png"
    promises = "promises.png"
    reliability = "reliability.png"
    thresholds = "thresholds.png"
    volumes = "volumes.png"
    extremes = "extremes.png"


def rule_file(candidate: str) -> str:
    """Return the name of the file of a rule that was tried."""
    return f"rule-{candidate}.json"
