"""Mistakes in the calibration of maps."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

ROOM = "python/marginseg/calibration"
TABLE = "tests/calibration/test_table.py"
BINNED = "tests/calibration/test_binned.py"
APPLIED = "tests/calibration/test_calibration.py"
JOINT = "tests/calibration/test_joint.py"

CALIBRATION = (
    Mutant(
        "bins-coarse-near-1",
        f"{ROOM}/table.py",
        "distance = values - end",
        "distance = values - 0.0 * end",
        "Values near 1 are told apart as coarsely as those near ½.",
        (f"{TABLE}::test_bins_are_narrow_however_near_to_an_end",),
    ),
    Mutant(
        "ones-among-zeros",
        f"{ROOM}/table.py",
        "codes.masked_fill_(values == 1.0, 1 - _SIGN)",
        "codes.add_(0)",
        "What is exactly 1 goes into the bin of 0.",
        (f"{TABLE}::test_the_ends_have_bins_of_their_own",),
    ),
    Mutant(
        "count-outside-alone",
        f"{ROOM}/table.py",
        "count = both[:_CODES] + found",
        "count = both[:_CODES]",
        "The voxels of the class are not counted.",
        (f"{TABLE}::test_sums_are_those_of_the_voxels",),
    ),
    Mutant(
        "zeros-learnt-from",
        f"{ROOM}/binned.py",
        "filled[0] = False",
        "filled[0] = filled[0]",
        "The zeros outside a network's crop drown the fit.",
        (f"{BINNED}::test_zeros_teach_nothing_and_stay_zeros",),
    ),
    Mutant(
        "intercept-of-another-mean",
        f"{ROOM}/binned.py",
        "total, first = w.sum(), w @ self.logit",
        "total, first = w.sum(), 0.5 * (w @ self.logit)",
        "Newton's steps have another Hessian, and end elsewhere or nowhere.",
        (f"{BINNED}::test_platt_step_is_newtons",),
    ),
    Mutant(
        "slope-unbounded",
        f"{ROOM}/binned.py",
        "if found is not None and SLOPES[0] <= found[0] <= SLOPES[1]:",
        "if found is not None:",
        "A line may turn the order of the voxels round.",
        (f"{BINNED}::test_at_a_bound_platt_still_promises_as_much_as_is_held",),
    ),
    Mutant(
        "knots-at-the-beginnings",
        f"{ROOM}/binned.py",
        "promised = np.add.reduceat(bins.weight * bins.probability, starts) / weight",
        "promised = bins.probability[starts]",
        "Plateaus are joined at their first values instead of their means.",
        (f"{BINNED}::test_a_plateau_stands_at_its_mean",),
    ),
    Mutant(
        "background-as-it-was",
        f"{ROOM}/calibration.py",
        "if self.background is not None:",
        "if self.background == -1:",
        "The background keeps what it had before the classes changed.",
        (f"{APPLIED}::test_the_background_gets_what_is_left",),
    ),
    Mutant(
        "zeros-get-a-share",
        f"{ROOM}/joint.py",
        "logits[p == 0] = -np.inf",
        "logits[p == -1] = -np.inf",
        "A class that is impossible at a voxel becomes possible.",
        (f"{JOINT}::test_what_is_0_stays_0_and_what_is_alone_stays",),
    ),
    Mutant(
        "draws-of-the-last-case",
        f"{ROOM}/sample.py",
        "return int(self._random.hypergeometric(new, old, self._most))",
        "return min(new, self._most)",
        "Later cases push the draws of earlier ones out.",
        (f"{JOINT}::test_draws_are_uniform_among_cases",),
    ),
)
