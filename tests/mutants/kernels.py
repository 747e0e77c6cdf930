"""Mistakes in the kernels of the CPU."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

FILTER = "tests/ops/test_gaussian_filter.py"
WARP = "tests/ops/test_warp.py"
DERIVATIVES = "tests/ops/test_warp_derivatives.py"
SAMPLE = "tests/ops/test_sample.py"
FIELD = "tests/ops/test_gaussian_field.py"
DICE = "tests/ops/test_dice_threshold.py"
FBETA = "tests/ops/test_fbeta_threshold.py"
LARGE = "tests/ops/test_dice_threshold_large.py"
STREAMED = "tests/ops/test_streamed_dice_threshold.py"
FOLDED = "tests/ops/test_folded_share.py"
ASSIGNED = "tests/ops/test_assign_labels.py"

KERNELS = (
    Mutant(
        "filter-grown-support",
        "csrc/gaussian_filter/support.h",
        "std::min(size, range.end + radius)};",
        "std::min(size, range.end + radius - 1)};",
        "The last voxel that the kernel reaches beyond a label's upper end stays 0.",
        (f"{FILTER}::test_sparse_inputs_of_any_shape_against_scipy",),
    ),
    Mutant(
        "filter-wrapped-support",
        "csrc/gaussian_filter/support.h",
        "filter.extension == Extension::mirror;",
        "filter.extension == Extension::mirror ||\n"
        "                      filter.extension == Extension::wrap;",
        "Where an axis wraps, what comes round from the other end is left out.",
        (f"{FILTER}::test_sparse_inputs_of_any_shape_against_scipy",),
    ),
    Mutant(
        "filter-cval-of-rows",
        "csrc/gaussian_filter/tile.h",
        "inside ? T{0} : filter.cval;",
        "T{0};",
        "Beyond the ends of the last axis stands 0 in the place of cval.",
        (f"{FILTER}::test_sampled_kernel_equals_scipy",),
    ),
    Mutant(
        "filter-two-steps-of-one-axis",
        "csrc/gaussian_filter/cpu.cpp",
        "  leave_unfiltered(rest.axes[0]);\n",
        "",
        "Where the first axis is filtered on its own, it is filtered again with the others.",
        (f"{FILTER}::test_margins_too_large_for_a_tile",),
    ),
    Mutant(
        "filter-value-of-runs",
        "csrc/gaussian_filter/runs.h",
        "if (value != 0) visit(begin, end, value);",
        "if (value != 0) visit(begin, end, uint8_t{1});",
        "Labels above 1 are filtered as if they were 1.",
        (f"{FILTER}::test_sparse_inputs_of_any_shape_against_scipy",),
    ),
    Mutant(
        "warp-tie-goes-down",
        "csrc/warp/simd.cpp",
        "along.fraction >= 0.5f",
        "along.fraction > 0.5f",
        "Half-way between two voxels the vector kernels take the lower one.",
        (f"{WARP}::test_half_way_along_every_axis_in_rows_longer_than_a_vector",),
    ),
    Mutant(
        "warp-beyond-the-last-corner",
        "csrc/warp/simd.cpp",
        "volume.size[i] > 1 ? volume.size[i] - 1 : 1;",
        "volume.size[i];",
        "Beside the last voxel of an axis the next one in memory is interpolated, not cval.",
        (f"{WARP}::test_rows_longer_than_a_vector_equal_scipy",),
    ),
    Mutant(
        "warp-smaller-of-equal-labels",
        "csrc/warp/interpolation.h",
        "(weight == best_weight && label[corner] > best)",
        "(weight == best_weight && label[corner] < best)",
        "Of two labels of equal weight the smaller one is taken.",
        (
            f"{WARP}::test_binary_label_at_exactly_a_half_is_foreground",
            f"{WARP}::test_multi_label_takes_the_largest_summed_weight",
        ),
    ),
    Mutant(
        "warp-second-derivative-of-another-field",
        "csrc/warp/derivatives.cpp",
        "gather(displacement_weight + image / geometry.channels * N * volume + place",
        "gather(displacement_weight + image % geometry.batch * N * volume + place",
        "With several channels the second derivatives take the weights of another batch entry.",
        (f"{DERIVATIVES}::test_derivatives",),
    ),
    Mutant(
        "sample-reach-of-the-floor",
        "csrc/sample/cpu.cpp",
        "return static_cast<int64_t>(bound * 1.0001f) + 1;",
        "return static_cast<int64_t>(bound * 1.0001f);",
        "A voxel that is moved by less than one voxel counts as one that sees itself alone.",
        (
            f"{SAMPLE}::test_equals_the_warp_by_the_whole_field",
            f"{SAMPLE}::test_nearest_labels_against_numpy",
            f"{SAMPLE}::test_positions_between_voxels_and_far_away",
        ),
    ),
    Mutant(
        "sample-entries-in-another-order",
        "csrc/sample/cpu.cpp",
        "const int64_t entry = volume % geometry.batch;",
        "const int64_t entry = volume / geometry.samples;",
        "The samples count as sorted by label, and not the labels by sample.",
        (f"{SAMPLE}::test_each_entry_of_a_batch_has_its_label_and_its_field",),
    ),
    Mutant(
        "field-keeps-the-coefficients",
        "csrc/gaussian_field/cpu.cpp",
        "if (plane == begin || plane % planes == 0) {",
        "if (plane == begin) {",
        "A thread that goes on to the next field repeats the one before.",
        (f"{FIELD}::test_every_rank_against_numpy",),
    ),
    Mutant(
        "field-loses-a-row",
        "csrc/gaussian_field/simd.cpp",
        "if (count == 3) step(Index<3>{});",
        "if (count == 3) step(Index<2>{});",
        "Where three rows are left over, the last of them is not computed.",
        (f"{FIELD}::test_every_rank_against_numpy",),
    ),
    Mutant(
        "dice-low-part-of-the-denominator",
        "csrc/dice_threshold/cut.h",
        "(above.low - quotient * below.low);",
        "above.low;",
        "Dice is rounded from a denominator without its low part.",
        (
            f"{DICE}::test_both_methods_give_the_exact_maximum_to_the_last_bit",
            f"{STREAMED}::test_any_chunks_give_the_exact_maximum_to_the_last_bit",
        ),
    ),
    Mutant(
        "fbeta-low-part-of-the-weighted-mass",
        "csrc/dice_threshold/cut.h",
        "return {weight, product({weight, 0.0}, normalised(whole))};",
        "return {weight, {weight * whole.high, weight * whole.low}};",
        "beta^2 S is rounded to a double.",
        (
            f"{FBETA}::test_every_way_gives_the_exact_maximum_to_the_last_bit",
            f"{FBETA}::test_segments_and_curve",
        ),
    ),
    Mutant(
        "fbeta-of-the-first-of-equal-cuts",
        "csrc/dice_threshold/climb.h",
        "if (twice > twice_ || (twice == twice_ && value_of(cut, overlap) > value(overlap))) {",
        "if (twice > twice_) {",
        "Of cuts whose thresholds are rounded to one double the first gives F, not the best.",
        (f"{FBETA}::test_values_within_a_few_roundings_of_the_threshold",),
    ),
    Mutant(
        "dice-climb-ends-early",
        "csrc/dice_threshold/climb.h",
        "    if (threshold >= high) continue;  // t* lies further up\n",
        "",
        "The climb ends at the first cut that is not below its bracket.",
        (f"{DICE}::test_both_methods_give_the_exact_maximum_to_the_last_bit",),
    ),
    Mutant(
        "dice-bracket-below-the-threshold",
        "csrc/dice_threshold/guess.h",
        "return twice_at_low / 2.0 >= low && twice_at_high / 2.0 < high;",
        "return twice_at_low / 2.0 >= low;",
        "A bracket that lies below t* counts as one that holds it.",
        (f"{LARGE}::test_maps_that_a_sample_misjudges",),
    ),
    Mutant(
        "dice-small-values-in-one-double",
        "csrc/dice_threshold/simd.cpp",
        "static constexpr float large = 0x1p-14f;",
        "static constexpr float large = 0x1p-28f;",
        "Small floats are added up in doubles that cannot hold the sum.",
        (f"{LARGE}::test_small_values_beside_large_ones",),
    ),
    Mutant(
        "streamed-rounding-is-not-counted",
        "csrc/dice_threshold/tally.cpp",
        "add(true, Format::one & rest);",
        "add(false, Format::one & rest);",
        "Values that rounding has put beyond 1 are left out.",
        (f"{STREAMED}::test_a_rounding_beyond_counts_as_0_and_as_1",),
    ),
    Mutant(
        "streamed-value-at-the-threshold",
        "csrc/dice_threshold/tally.cpp",
        "if (Format::value(bits) >= optimum_.threshold) optimum_.volume += entry.count;",
        "if (Format::value(bits) > optimum_.threshold) optimum_.volume += entry.count;",
        "Values that equal t* are left out of the segmentation's volume.",
        (
            f"{STREAMED}::test_any_chunks_give_the_exact_maximum_to_the_last_bit",
            f"{STREAMED}::test_values_next_to_the_threshold",
            f"{STREAMED}::test_threshold_at_the_edge_of_a_prefix",
        ),
    ),
    Mutant(
        "streamed-entries-overflow",
        "csrc/dice_threshold/entry.h",
        "most_values = int64_t{1} << 23;",
        "most_values = int64_t{1} << 25;",
        "Of more than 2^24 values with one prefix the sums of the rests run into the counts.",
        (f"{STREAMED}::test_more_equal_values_than_one_word_counts",),
    ),
    Mutant(
        "folded-slope-at-the-end",
        "csrc/folded_share/jacobian.h",
        "return here[0] - here[-stride];",
        "return (here[0] - here[-stride]) * T(0.5);",
        "At the last voxel of an axis the one-sided difference is halved as if it were central.",
        (f"{FOLDED}::test_against_numpy",),
    ),
    Mutant(
        "folded-without-zero",
        "csrc/folded_share/simd.cpp",
        "folds -= determinant(entry) <= Pack<T>{};",
        "folds -= determinant(entry) < Pack<T>{};",
        "A voxel that is flattened does not count as folded.",
        (f"{FOLDED}::test_linear_maps",),
    ),
    Mutant(
        "assign-last-of-equal-gains",
        "csrc/assign_labels/simd.cpp",
        "const auto more = gains > found;",
        "const auto more = gains >= found;",
        "Of equal gains the last channel counts where a vector has them, and the first elsewhere.",
        (f"{ASSIGNED}::test_it_is_what_numpy_does",),
    ),
    Mutant(
        "assign-sums-of-another-case",
        "csrc/assign_labels/cpu.cpp",
        "if (i + 1 == last || (i + 1) % rows == 0) {",
        "if (i + 1 == last) {",
        "What a thread has summed of one case is added to the next one.",
        (f"{ASSIGNED}::test_it_is_what_numpy_does",),
    ),
)
