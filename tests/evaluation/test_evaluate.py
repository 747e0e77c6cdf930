"""What is measured, on maps whose true probabilities are known."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

import made_up_maps
from marginseg.classes import Classes
from marginseg.evaluation.candidates import CANDIDATES, CEILING, PRESENT
from marginseg.evaluation.case import Case, Label, Settings
from marginseg.evaluation.evaluate import evaluate
from marginseg.evaluation.verdict import MEAN
from marginseg.rule import Rule

CLASSES = Classes.regions({"first": (1,), "second": (2,)}, painted=(1, 2))
CASES = 16

DISTORTIONS = {
    "calibrated": lambda m: m,
    "temperature 3": made_up_maps.temperature(3.0),
    "temperature 0.5": made_up_maps.temperature(0.5),
    "shifted down": made_up_maps.shifted(-3.0),
    "shifted up": made_up_maps.shifted(2.0),
    "one class": made_up_maps.one_class_alone(made_up_maps.shifted(-3.0)),
}


def _dice(rule: Rule, distort: made_up_maps.Distortion, seeds: range, size: int = 24) -> float:
    """The mean Dice of a rule on cases, with the classes' masks compared by NumPy."""
    found = []
    for seed in seeds:
        m = made_up_maps.truth(seed, size)
        masks, label = rule.masks(distort(m).astype(np.float32)), made_up_maps.drawn(seed, m)
        found.append(_overlaps(masks, label))
    return float(np.mean(found))


@pytest.mark.parametrize("name", DISTORTIONS)
def test_the_recommended_rule_recovers_what_the_true_probabilities_give(name) -> None:
    """On cases that it has not seen: at least 95 % of what t* of the truth gains over ½."""
    distort = DISTORTIONS[name]
    found = evaluate([made_up_maps.case(s, distort) for s in range(CASES)], CLASSES)
    seeds = range(1000, 1016)
    best = _dice(Rule(CLASSES), DISTORTIONS["calibrated"], seeds)
    half = _dice(Rule(CLASSES, "half"), distort, seeds)
    reached = _dice(found.recommended(), distort, seeds)
    assert found.verdict.rule != PRESENT.name
    assert reached >= half + 0.95 * (best - half)
    # Nobody is told that it gains more than there is.
    (row,) = [r for r in found.comparisons if (r.rule, r.structure) == (found.verdict.rule, MEAN)]
    assert row.reached == pytest.approx(_dice(found.recommended(), distort, range(CASES)), abs=0.01)


@pytest.mark.slow
def test_calibrated_maps_come_to_no_harm() -> None:
    """No recommendation loses more than 0.1 points, in the mean of 100 repetitions, on new cases.

    The maps are sharp, so that t* and ½ are worth nearly the same: what is recommended is so by
    chance, or gains a little.
    """
    sharp, size, seen, fresh = made_up_maps.temperature(0.3), 16, 12, 24
    gains = []
    for repetition in range(100):
        first = (seen + fresh) * repetition
        cases = []
        for seed in range(first, first + seen):
            m = sharp(made_up_maps.truth(seed, size))
            label = Label(made_up_maps.drawn(seed, m))
            cases.append(Case(f"{seed}", lambda m=m: m, lambda label=label: label))
        rule = evaluate(cases, CLASSES, workers=1).recommended()
        change = []
        for seed in range(first + seen, first + seen + fresh):
            m = sharp(made_up_maps.truth(seed, size))
            label = made_up_maps.drawn(seed, m)
            after, before = (
                _overlaps(chosen.masks(m), label) for chosen in (rule, Rule(CLASSES, "half"))
            )
            change.append(after - before)
        gains.append(np.mean(change))
    assert np.mean(gains) > -0.001
    assert np.min(gains) > -0.01


def _overlaps(masks: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Dice of each class; 1 of two empty ones."""
    axes = (1, 2, 3)
    total = masks.sum(axes) + label.sum(axes)
    return np.where(total > 0, 2 * (masks & label).sum(axes) / np.maximum(total, 1), 1.0)


@pytest.fixture(scope="module")
def overconfident():
    cases = [made_up_maps.case(s, DISTORTIONS["temperature 3"]) for s in range(7)]
    return evaluate(cases, CLASSES)


def test_every_case_has_every_rule(overconfident) -> None:
    rules = [PRESENT, *CANDIDATES, CEILING]
    expected = {
        (f"case_{s}", structure, rule.name)
        for s in range(7)
        for structure in CLASSES.names
        for rule in rules
    }
    found = [(score.case, score.structure, score.rule) for score in overconfident.scores]
    assert set(found) == expected
    assert len(found) == len(expected)


def test_scores_are_those_of_the_rule_fitted_on_the_other_cases(overconfident) -> None:
    """The rule that a case is tried with is what an evaluation of the others recommends to it."""
    without = [case for case in overconfident.cases if case.name != "case_3"]
    others = evaluate(without, CLASSES)
    case = overconfident.cases[3]
    label = case.label().masks
    for candidate in CANDIDATES:
        masks = others.rules[candidate.name].masks(case.probabilities())
        for structure, mask, held in zip(CLASSES.names, masks, label, strict=True):
            (score,) = [
                s
                for s in overconfident.scores
                if (s.case, s.structure, s.rule) == ("case_3", structure, candidate.name)
            ]
            expected = 2 * (mask & held).sum() / (mask.sum() + held.sum())
            assert score.overlap == pytest.approx(expected, abs=1e-4)
            assert (score.voxels, score.label_voxels) == (
                pytest.approx(mask.sum(), rel=1e-3),
                held.sum(),
            )


def test_the_ceiling_is_the_best_threshold_of_each_case(overconfident) -> None:
    """By brute force over all values of the map but the small ones."""
    for score in overconfident.scores:
        if score.rule != CEILING.name or score.case not in ("case_0", "case_4"):
            continue
        case = next(c for c in overconfident.cases if c.name == score.case)
        place = CLASSES.names.index(score.structure)
        p, held = case.probabilities()[place], case.label().masks[place]

        assert score.overlap == pytest.approx(_cut_dice(p, held, score.threshold), abs=1e-12)
        best = max(_cut_dice(p, held, t) for t in np.unique(p[p > np.quantile(p, 0.7)]))
        assert score.overlap == pytest.approx(best, abs=1e-12)
        assert (p >= np.float32(score.threshold)).sum() == score.voxels


def _cut_dice(p: np.ndarray, held: np.ndarray, threshold: float) -> float:
    mask = p >= np.float32(threshold)
    return float(2 * (mask & held).sum() / (mask.sum() + held.sum()))


def test_the_best_thresholds_of_classes_that_exclude_each_other_are_no_bound() -> None:
    """The argmax is always right; no threshold of the first class is, for others reach into it."""
    classes = Classes.softmax(["first", "second"])
    noise = np.random.default_rng(0)
    label = noise.integers(0, 3, (12, 12))
    p = np.where(np.arange(3)[:, None, None] == label, 0.4, 0.3)
    doubtful = (label == 2) & (noise.uniform(size=label.shape) < 0.5)
    p[:, doubtful] = np.array([[0.05], [0.45], [0.5]])
    found = evaluate([Case("a", lambda: p, lambda: Label.of(label, classes))], classes)
    reached = {r.rule: r.reached for r in found.comparisons if r.structure == MEAN}
    assert reached["present"] == 1.0
    assert reached[CEILING.name] < 0.95
    assert "without regard to the other classes and to the options" in CEILING.means


def test_calibration_makes_promises_true(overconfident) -> None:
    before, *after = overconfident.reliability
    assert before.method is None
    assert [found.method for found in after] == ["temperature", "platt", "isotonic"]
    for found in after:
        errors = found.table.expected_calibration_error()
        assert (errors < before.table.expected_calibration_error() / 3).all()


def test_what_is_left_at_half_is_told_as_it_is(overconfident) -> None:
    """No rule calibrates it."""
    settings = Settings(candidates=("platt",), at_half=CLASSES.names[:1])
    before, after = evaluate(overconfident.cases, CLASSES, settings).reliability
    np.testing.assert_array_equal(after.table.promised[0], before.table.promised[0])
    errors = [found.table.expected_calibration_error() for found in (before, after)]
    assert errors[1][1] < errors[0][1] / 3


def test_more_workers_give_the_same(overconfident) -> None:
    again = evaluate(overconfident.cases, CLASSES, workers=3)
    assert again.scores == overconfident.scores
    assert again.rules == overconfident.rules


def _disc(label: np.ndarray, own: np.ndarray | None = None, name: str = "a") -> Case:
    """A case whose map is 0.9 where the first class is segmented."""
    p = np.zeros((2, *label.shape[1:]), np.float32)
    p[0, :2] = 0.9
    return Case(name, lambda: p, lambda: Label(label), lambda: own)


@pytest.mark.parametrize(
    ("empty", "first", "second"),
    [("one", 0.0, 1.0), ("nan", 0.0, math.nan), ("skip", math.nan, math.nan)],
)
def test_conventions_of_empty_labels(empty, first, second) -> None:
    """The first class is segmented and not in the label, the second in neither."""
    label = np.zeros((2, 5, 5), bool)
    found = evaluate([_disc(label)], CLASSES, Settings(empty=empty))
    values = defaultdict(list)
    for score in found.scores:
        if score.rule != CEILING.name:  # which may cut above all of the map
            values[score.structure].append(score.overlap)
    assert values["first"] == pytest.approx([first] * 6, nan_ok=True)
    assert values["second"] == pytest.approx([second] * 6, nan_ok=True)


def _lesion(seed: int) -> Case:
    """A lesion with a rim that ½ misses; or, with an odd seed, a faint blob where there is none."""
    grid = np.indices((16, 16, 16)) - 7.5
    distance = np.sqrt((grid**2).sum(0))
    if seed % 2:
        p, label = np.where(distance < 5, 0.2, 0.0), np.zeros((1, *distance.shape), bool)
    else:
        p = np.where(distance < 4, 0.9, np.where(distance < 6, 0.4, 0.0))
        label = (np.random.default_rng(seed).uniform(size=p.shape) < p)[None]
    return Case(f"case_{seed}", lambda: p[None], lambda: Label(label))


@pytest.mark.parametrize("empty", ["one", "nan"])
def test_what_paints_in_healthy_cases_is_not_recommended(empty) -> None:
    """t* gains a few points with each lesion, and calls every healthy case ill."""
    classes = Classes.regions({"lesion": (1,)}, painted=(1,))
    settings = Settings(empty=empty, candidates=("threshold", "optimal"))
    found = evaluate([_lesion(seed) for seed in range(16)], classes, settings)
    (row,) = [r for r in found.comparisons if (r.rule, r.structure) == ("optimal", MEAN)]
    assert row.difference.n == 16
    assert (row.better, row.worse) == (8, 8)
    assert row.worst == -1.0
    assert found.verdict.rule == "threshold"  # which misses the blobs and takes the rims
    assert 0.2 < found.rules["threshold"].thresholds[0] <= 0.4
    optimal = evaluate(found.cases, classes, Settings(empty=empty, candidates=("optimal",)))
    assert optimal.verdict.rule == PRESENT.name


def test_healthy_cases_are_left_out_altogether_where_that_is_asked_for() -> None:
    classes = Classes.regions({"lesion": (1,)}, painted=(1,))
    settings = Settings(empty="skip", candidates=("optimal",))
    found = evaluate([_lesion(seed) for seed in range(16)], classes, settings)
    (row,) = [r for r in found.comparisons if (r.rule, r.structure) == ("optimal", MEAN)]
    assert (row.difference.n, row.worse) == (8, 0)


def test_nothing_is_lost_below_the_best_threshold_of_a_case() -> None:
    """With an empty label too, where the best cut is the one that paints nothing."""
    classes = Classes.regions({"lesion": (1,)}, painted=(1,))
    found = evaluate([_lesion(seed) for seed in range(4)], classes, Settings(empty="nan"))
    best = {s.case: s for s in found.scores if s.rule == CEILING.name}
    for case in ("case_1", "case_3"):
        assert math.isnan(best[case].overlap)
        assert best[case].voxels == 0
    (row,) = [r for r in found.comparisons if (r.rule, r.structure) == (CEILING.name, MEAN)]
    assert row.worst_case == ""


def test_the_networks_own_segmentation_is_the_present_rule() -> None:
    label = np.zeros((2, 5, 5), bool)
    label[0, :3] = True
    own = np.zeros((5, 5), np.uint8)
    own[:3] = 1  # better than ½, which segments two rows
    found = evaluate([_disc(label, own), _disc(label, None, "b")], CLASSES)
    present = {
        s.case: s.overlap for s in found.scores if (s.rule, s.structure) == ("present", "first")
    }
    assert present == {"a": 1.0, "b": pytest.approx(0.8)}
    assert (found.own, found.unlike) == (1, {"a": 5})


def test_voxels_that_nobody_labelled_do_not_count() -> None:
    label = np.zeros((2, 5, 5), bool)
    label[0, :1] = True
    labelled = np.ones((5, 5), bool)
    labelled[1] = False
    case = _disc(label)
    found = evaluate([Case("a", case.probabilities, lambda: Label(label, labelled))], CLASSES)
    (score,) = [s for s in found.scores if (s.rule, s.structure) == ("present", "first")]
    assert (score.overlap, score.voxels, score.label_voxels) == (1.0, 5, 5)


def test_where_there_is_no_surface_there_is_no_distance() -> None:
    """One case is 4 mm off; healthy cases, and one where nothing is found, do not mend that."""
    classes = Classes.regions({"a": (1,)}, painted=(1,))

    def case(name: str, label: slice, found: slice) -> Case:
        held, p = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9))
        held[0, 2:5, label], p[0, 2:5, found] = True, 0.9
        return Case(name, lambda: p, lambda: Label(held), spacing=(1.0, 1.0))

    nothing = slice(0)
    cases = [case("off", slice(2, 5), slice(6, 9)), case("missed", slice(2, 5), nothing)]
    cases += [case(f"healthy {n}", nothing, nothing) for n in range(4)]
    found = evaluate(cases, classes, Settings(surface=True, candidates=()))
    for structure in (MEAN, "a"):
        (row,) = [r for r in found.comparisons if (r.rule, r.structure) == ("present", structure)]
        assert row.surface == 4.0


@pytest.mark.parametrize("rule", ["present", "optimal", "platt"])
def test_promises_are_of_the_voxels_that_somebody_labelled(rule) -> None:
    """The other half of the map promises something else, and would change the promise."""
    classes = Classes.regions({"a": (1,)}, painted=(1,))
    half = np.arange(10) < 5

    def case(seed: int) -> Case:
        noise = np.random.default_rng(seed)
        p = np.full((1, 10, 10, 10), 0.3)
        p[0, half, :5], p[0, half, 5:] = 0.9, 0.05
        label = noise.uniform(size=p.shape) < p
        labelled = np.broadcast_to(half[:, None, None], p.shape[1:])
        return Case(f"case_{seed}", lambda: p, lambda: Label(label, labelled))

    found = evaluate([case(seed) for seed in range(6)], classes)
    for score in found.scores:
        if score.rule != rule:
            continue
        used = found.fitted.get((score.case, rule), found.rules[rule])
        p = case(int(score.case[-1])).probabilities()
        calibrated = p if used.calibration is None else used.calibration.apply(torch.tensor(p))
        within, mask = np.asarray(calibrated)[0][half], used.masks(p)[0][half]
        promised = 2 * within[mask].sum() / (within.sum() + mask.sum())
        assert score.promised == pytest.approx(promised, abs=1e-9)
        assert score.promised == pytest.approx(score.overlap, abs=0.05)  # the map is honest


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([], "at least one"),
        ([_disc(np.zeros((2, 5, 5), bool))] * 2, "a twice"),
        (
            [Case("a", lambda: np.ones((2, 3)), lambda: Label(np.zeros((2, 4), bool)))],
            r"a: .*\(2, 3\).*\(2, 4\)",
        ),
        ([_disc(np.zeros((2, 5, 5), bool), np.zeros((5, 4), int))], "a: .*segmentation"),
        (
            [Case("a", lambda: np.full((2, 3), 2.0), lambda: Label(np.zeros((2, 3), bool)))],
            "a: .*within",
        ),
        (
            [Case("a", lambda: np.ones((1, 3)), lambda: Label(np.zeros((2, 3), bool)))],
            "a: .*channels",
        ),
    ],
)
def test_what_is_no_case_is_refused(cases, words) -> None:
    with pytest.raises(ValueError, match=words):
        evaluate(cases, CLASSES)


@pytest.mark.parametrize("surface", [False, True])
def test_a_spacing_has_a_number_for_each_axis(surface) -> None:
    plane = _disc(np.zeros((2, 5, 5), bool))
    case = Case("a", plane.probabilities, plane.label, spacing=(1.0, 1.0, 3.0))
    with pytest.raises(ValueError, match=r"^a: expected a spacing of 2 .* got \(1.0, 1.0, 3.0\)"):
        evaluate([case], CLASSES, Settings(surface=surface))


def test_no_class_has_the_name_of_the_mean() -> None:
    classes = Classes.regions({"first": (1,), MEAN: (2,)}, painted=(1, 2))
    with pytest.raises(ValueError, match=f"^classes: .*'{MEAN}'"):
        evaluate([_disc(np.zeros((2, 5, 5), bool))], classes)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="^rules: .*'best'"):
        Settings(candidates=("best",))
    with pytest.raises(ValueError, match="^empty: expected one of one, nan, skip, got 'zero'"):
        Settings(empty="zero")
