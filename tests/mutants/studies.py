"""Mistakes in files, data, studies and the report."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

FOLDER = "tests/study/test_folder.py"
RUN = "tests/study/test_run.py"
EVALUATION = "tests/study/test_evaluation.py"
SUMMARY = "tests/report/test_summary.py"
INTERVALS = "tests/test_intervals.py"
CLAIMS = "tests/report/test_claims.py"
ATOMIC = "tests/files/test_atomic.py"
LOCKS = "tests/files/test_locks.py"

FILES = (
    Mutant(
        "file-written-under-its-name",
        "python/marginseg/files/atomic.py",
        '    temporary = path.with_name(f"{LEFTOVER}{secrets.token_hex(8)}")\n'
        "    try:\n"
        '        with temporary.open("xb") as file:\n',
        '    temporary = path\n    try:\n        with temporary.open("wb") as file:\n',
        "Files are written under their final names, where a half of one can be seen.",
        (f"{ATOMIC}::test_what_is_interrupted_leaves_the_file_as_it_was",),
    ),
    Mutant(
        "lock-taken-over-unasked",
        "python/marginseg/files/locks.py",
        "if take_over and now - heard > SILENCE:",
        "if now - heard > SILENCE:",
        "A lock is passed over after a minute also by who has not asked for that.",
        (f"{LOCKS}::test_a_lock_that_outlives_its_machine",),
    ),
    Mutant(
        "lock-held-for-ever",
        "python/marginseg/files/locks.py",
        "return bool(holder) and age < SILENCE",
        "return bool(holder)",
        "A machine that died counts as at work for ever.",
        (f"{LOCKS}::test_is_locked",),
    ),
    Mutant(
        "sparse-block-written-twice",
        "python/marginseg/files/sparse.py",
        "pending = begin + BLOCK",
        "pending = begin",
        "A block of zeros is skipped, and then written as well.",
        ("tests/files/test_sparse.py::test_the_file_reads_as_what_was_written",),
    ),
    Mutant(
        "probabilities-below-0-left-out",
        "python/marginseg/files/probabilities.py",
        'if block.view(f"u{dtype.itemsize}").max():',
        "if block.max():",
        "Negative values among zeros are read as 0, and so not refused.",
        ("tests/cli/test_threshold.py::test_nor_is_it_taken_among_zeros",),
    ),
)

DATA = (
    Mutant(
        "folds-overlap",
        "python/marginseg/data/folds.py",
        "parts[:i] + parts[i + 1 :]",
        "parts[:i] + parts[i:]",
        "Every case is trained on, those of the test set too.",
        ("tests/data/test_folds.py::test_every_case_is_tested_once_and_never_trained_on",),
    ),
    Mutant(
        "cache-without-times",
        "python/marginseg/data/cache.py",
        "[str(file.path.resolve()), file.size, file.mtime_ns]",
        "[str(file.path.resolve()), file.size]",
        "A source that has changed and kept its size is not read again.",
        ("tests/data/test_cache.py::test_a_changed_source_is_read_again",),
    ),
    Mutant(
        "rotation-in-reciprocal-spacing",
        "python/marginseg/training/augmentation.py",
        "rotation = rotation * scale / scale[:, None]",
        "rotation = rotation / scale * scale[:, None]",
        "A rotation takes voxels for millimetres the wrong way round, and shears.",
        ("tests/training/test_augmentation.py::test_displacement_is_a_rigid_motion_in_space",),
    ),
)

STUDY = (
    Mutant(
        "study-one-seed-for-all-levels",
        "python/marginseg/study/evaluation.py",
        "identity = json.dumps([seed, structure, noise.std, name, repeat])",
        "identity = json.dumps([seed, structure, name, repeat])",
        "The noise of one level is that of every other, scaled.",
        (
            "tests/study/test_evaluation.py::test_the_noise_of_one_level_is_not_that_of_another_scaled",
        ),
    ),
    Mutant(
        "run-case-twice",
        "python/marginseg/study/run_folder.py",
        '0 < len({case["name"] for case in cases}) == len(cases)',
        "0 < len(cases)",
        "A result that has a case twice counts as whole.",
        (f"{FOLDER}::test_a_result_with_anything_out_of_its_place_is_none",),
    ),
    Mutant(
        "run-of-fewer-epochs",
        "python/marginseg/study/run_folder.py",
        'done = result is not None and len(result["epochs"]) == config.epochs',
        "done = result is not None",
        "A result of too few epochs counts as that of the whole training.",
        (f"{FOLDER}::test_a_result_is_whole_or_none",),
    ),
    Mutant(
        "run-score-beyond-its-bounds",
        "python/marginseg/study/evaluation.py",
        "low, high = BOUNDS.get(name, (0.0, 1.0))",
        "low, high = BOUNDS.get(name, (0.0, MOST_VOXELS))",
        "sup D may be larger than 1 in a result.",
        (f"{FOLDER}::test_a_result_with_anything_out_of_its_place_is_none",),
    ),
    Mutant(
        "run-without-its-lock",
        "python/marginseg/study/run.py",
        "with folder.locked(patience=PATIENCE):",
        "if True:",
        "Two processes train in one run's folder.",
        (f"{RUN}::test_two_processes_do_not_share_a_run",),
    ),
    Mutant(
        "run-marginals-of-the-noisy-label",
        "python/marginseg/study/run.py",
        "marginal = noise.marginals(case.label)",
        "marginal = noise.marginals(case.noisy)",
        "Maps are compared with the marginals of the noisy label, not of the clean one.",
        (f"{RUN}::test_a_run_is_judged_by_the_marginals_of_the_clean_label",),
    ),
)

REPORT = (
    Mutant(
        "bootstrap-without-the-largest",
        "python/marginseg/intervals.py",
        "drawn = generator.integers(n, size=(rows, n))",
        "drawn = generator.integers(n - 1, size=(rows, n))",
        "The largest value is in no resample.",
        (f"{INTERVALS}::test_intervals_are_those_of_scipy",),
    ),
    Mutant(
        "bootstrap-repeats-itself",
        "python/marginseg/intervals.py",
        "drawn = generator.integers(n, size=(rows, n))",
        "drawn = np.random.default_rng(seed).integers(n, size=(rows, n))",
        "Of many values the resamples are drawn in parts, which all begin with the same seed.",
        (f"{INTERVALS}::test_the_parts_in_which_resamples_are_drawn_make_no_difference",),
    ),
    Mutant(
        "bootstrap-ties-below",
        "python/marginseg/intervals.py",
        "below = (less.sum(axis=0) + up_to.sum(axis=0)) / (2 * count)",
        "below = up_to.sum(axis=0) / count",
        "Resamples with the sample's own mean count as below it, not half.",
        (f"{INTERVALS}::test_of_two_values_as_often_the_interval_is_the_binomial_one",),
    ),
    Mutant(
        "claim-without-its-margin",
        "python/marginseg/report/claims.py",
        'return "holds" if mean > -self.margin else "fails"',
        'return "holds" if mean > 0 else "fails"',
        "What is as good within its margin counts as worse.",
        (f"{CLAIMS}::test_verdicts",),
    ),
    Mutant(
        "holm-without-steps",
        "python/marginseg/intervals.py",
        "(len(order) - rank) * p_values[place]",
        "p_values[place]",
        "Verdicts are not corrected for their number.",
        (f"{INTERVALS}::test_holm_rejects_what_its_steps_reject",),
    ),
    Mutant(
        "repeats-of-one-network",
        "python/marginseg/report/repeats.py",
        "by_networks = of_networks.value / repeats",
        "by_networks = of_networks.value / (repeats * cases)",
        "A network counts as if each case had been tested by another.",
        ("tests/report/test_repeats.py::test_parts_are_those_of_an_analysis_of_variance",),
    ),
    Mutant(
        "folds-are-as-they-are",
        "python/marginseg/report/repeats.py",
        "FEWEST_FOLDS = 3",
        "FEWEST_FOLDS = 99",
        "What other training cases would give is left out of the intervals.",
        ("tests/report/test_repeats.py::test_intervals_know_that_folds_differ",),
    ),
    Mutant(
        "bootstrap-too-narrow-for-few",
        "python/marginseg/intervals.py",
        "reach = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, (1 + level) / 2))",
        "reach = float(ndtri((1 + level) / 2))",
        "Intervals of few values are narrower than Student's.",
        (f"{INTERVALS}::test_intervals_of_few_values_are_about_as_wide_as_students",),
    ),
    Mutant(
        "repeats-of-the-same-labels",
        "python/marginseg/study/evaluation.py",
        "identity = json.dumps([seed, structure, noise.std, name, repeat])",
        "identity = json.dumps([seed, structure, noise.std, name])",
        "All repeats see the same noisy labels.",
        (f"{EVALUATION}::test_each_repeat_has_noisy_labels_of_its_own",),
    ),
    Mutant(
        "differences-by-place",
        "python/marginseg/report/summary.py",
        "both = {case: ours[case] - theirs[case] for case in ours if case in theirs}",
        "both = {case: a - b for (case, a), b in zip(ours.items(), theirs.values(), strict=False)}",
        "Two methods are compared on the first cases of each, not on the same ones.",
        (
            f"{SUMMARY}::test_differences_are_paired_by_name",
            f"{SUMMARY}::test_cases_that_one_loss_lacks_are_left_out_of_differences",
        ),
    ),
    Mutant(
        "spread-of-a-population",
        "python/marginseg/report/summary.py",
        "return statistics.stdev(means) if len(means) > 1 else 0.0",
        "return statistics.pstdev(means)",
        "The spread over folds is divided by their number, not by one less.",
        (f"{SUMMARY}::test_means_spreads_and_intervals_are_those_of_the_scores",),
    ),
)
