"""Which rule is best for a network: every rule on every labelled case, fitted on the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from marginseg.classes import Classes
from marginseg.evaluation.candidates import CANDIDATES, PRESENT
from marginseg.evaluation.case import Case, Settings
from marginseg.evaluation.fits import Fits, Reliability
from marginseg.evaluation.scores import Score
from marginseg.evaluation.verdict import MEAN, Comparison, Verdict, compare, judge
from marginseg.evaluation.work import Reading, Work
from marginseg.rule import Rule


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        classes: What the channels stand for.
        settings: How it was done.
        cases: The cases.
        scores: A row for each case, class and rule.
        comparisons: Each rule beside the present one.
        verdict: Which is to be used.
        reliability: Before and after each calibration.
        rules: Each candidate, fitted on all cases; and the present rule.
        fitted: For each case and candidate the rule that was fitted on the other cases.
        unlike: The cases whose own segmentation is not what argmax or ½ gives, and in how many
            voxels they differ: it was processed after.
        own: In how many cases there was an own segmentation.

    """

    classes: Classes
    settings: Settings
    cases: Sequence[Case]
    scores: list[Score]
    comparisons: list[Comparison]
    verdict: Verdict
    reliability: list[Reliability]
    rules: dict[str, Rule]
    fitted: dict[tuple[str, str], Rule] = field(repr=False)
    unlike: dict[str, int]
    own: int

    def recommended(self) -> Rule:
        """Return the rule to be used, fitted on all cases."""
        return self.rules[self.verdict.rule]


def evaluate(
    cases: Sequence[Case],
    classes: Classes,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Try every rule on every case.

    What a rule has to know, a threshold or a calibration, is fitted on all cases but the one that
    it is tried on. Each case is read twice: what fits need of it are sums, which the first reading
    leaves.

    Args:
        cases: With labels; at least one.
        classes: What the channels of their maps stand for.
        settings: How rules are compared.
        workers: How many cases are worked on at once; by default as many as there are cores.
        progress: Called with how many readings are done, and of how many.

    Raises:
        OSError: A file cannot be read.
        ValueError: There is no case, two have one name, or one is not as described; the message
            names it. Or a class has the name of the mean over classes.

    Example:
        >>> import numpy as np
        >>> from marginseg.evaluation.case import Label
        >>> noise = np.random.default_rng(0)
        >>> def case(name):
        ...     m = noise.uniform(0, 0.8, (1, 8, 8, 8)) ** 2
        ...     label = noise.uniform(size=m.shape) < m
        ...     return Case(name, lambda: m, lambda: Label(label))
        >>> classes = Classes.regions({"lesion": (1,)}, painted=(1,))
        >>> found = evaluate([case(f"case_{n}") for n in range(8)], classes)
        >>> found.verdict.rule != "present"
        True

    """
    settings = settings or Settings()
    if not cases:
        raise ValueError("cases: expected at least one, got none")
    names = [case.name for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"cases: expected names that differ, got {name} twice")
    if MEAN in classes.names:
        raise ValueError(f"classes: expected names other than that of their mean, got {MEAN!r}")
    work = Work(classes, settings)
    tried = [c for c in CANDIDATES if c.name in settings.candidates]
    fitted_ones = [c for c in tried if c.fitted]
    total = len(cases) * (2 if fitted_ones else 1)
    done = 0

    def counted(results: Iterator[Any]) -> list[Any]:
        nonlocal done
        found = []
        for result in results:
            found.append(result)
            done += 1
            if progress is not None:
                progress(done, total)
        return found

    with _threads(workers, len(cases)) as run:
        readings: list[Reading] = counted(run(work.read, cases))
        fits = Fits(work, readings)
        fitted = {
            (case.name, candidate.name): fits.rule(candidate, without=place)
            for place, case in enumerate(cases)
            for candidate in fitted_ones
        }

        def try_fitted(case: Case) -> list[Score]:
            return work.try_rules(case, {c.name: fitted[case.name, c.name] for c in fitted_ones})

        later: list[list[Score]] = counted(run(try_fitted, cases)) if fitted_ones else []
    scores = [score for reading in readings for score in reading.scores]
    scores += [score for found in later for score in found]
    comparisons = compare(scores)
    rules = {PRESENT.name: Rule(classes, "half")}
    rules |= {c.name: fits.rule(c, without=None) for c in tried}
    return Evaluation(
        classes,
        settings,
        cases,
        scores,
        comparisons,
        judge(comparisons),
        fits.reliability(fitted),
        rules,
        fitted,
        {reading.name: reading.unlike for reading in readings if reading.unlike},
        sum(reading.own for reading in readings),
    )


@contextmanager
def _threads(
    workers: int | None, cases: int
) -> Iterator[Callable[[Callable[[Case], Any], Sequence[Case]], Iterator[Any]]]:
    """Give a ``map`` that works on several cases at once, each with one thread of torch's."""
    cores = len(os.sched_getaffinity(0))
    count = min(cores if workers is None else workers, cases)
    if count <= 1:
        yield map
        return
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
