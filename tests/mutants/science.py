"""Mistakes in the ops' Python, the noise, the threshold, the metrics and the losses."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

FILTER = "tests/ops/test_gaussian_filter.py"
TRANSFORMS = "tests/ops/test_transforms.py"
FOLDED = "tests/ops/test_folded_share.py"
ROOT = "tests/ops/test_root_kernel.py"
NOISE = "tests/test_noise.py"
THRESHOLD = "tests/test_threshold.py"
METRICS = "tests/test_metrics.py"
LOSSES = "tests/test_losses.py"

OPS = (
    Mutant(
        "kernel-shifted",
        "python/marginseg/ops/gaussian_filter.py",
        "math.erf((edge - 0.5) / scale) for edge in range(count + 1)",
        "math.erf(edge / scale) for edge in range(count + 1)",
        "The integrated kernel's voxels begin at their centres, not half a voxel before.",
        (f"{FILTER}::test_integrated_kernel_is_the_probability_of_each_voxel",),
    ),
    Mutant(
        "kernel-summed-on-one-side",
        "python/marginseg/ops/gaussian_filter.py",
        "total = 1.0 + 2.0 * np.exp(",
        "total = 1.0 + np.exp(",
        "A kernel that is longer than its axis is normalised by one of its sides.",
        (f"{FILTER}::test_of_kernels_longer_than_the_volume_only_the_middle_counts",),
    ),
    Mutant(
        "adjoint-of-another-mode",
        "python/marginseg/ops/gaussian_filter.py",
        'repeated = 1 if mode == "reflect" else 0',
        'repeated = 1 if mode == "mirror" else 0',
        "The derivative takes reflect for mirror, and mirror for reflect.",
        (f"{FILTER}::test_the_adjoint_is_the_transposed_map",),
    ),
    Mutant(
        "convolution-by-the-whole-length-scale",
        "python/marginseg/ops/gaussian_field.py",
        "tuple(scale / math.sqrt(2.0) for scale in scales)",
        "tuple(scales)",
        "White noise is filtered by N(0, b²), where Theorem 3 says N(0, b²/2).",
        ("tests/ops/test_gaussian_field.py::test_variance_and_covariance_at_every_voxel",),
    ),
    Mutant(
        "vmap-of-the-first-axis",
        "python/marginseg/ops/transforms.py",
        "value if dim is None else value.select(dim, entry)",
        "value if dim is None else value.select(0, entry)",
        "vmap takes the entries of a batch from the first axis, whichever was asked for.",
        (f"{TRANSFORMS}::test_vmap",),
    ),
    Mutant(
        "tangent-with-cval",
        "python/marginseg/ops/warp.py",
        "torch.ops.marginseg.warp(moved, displacement, *options[:-1], 0.0)",
        "torch.ops.marginseg.warp(moved, displacement, *options)",
        "The forward derivative with respect to the image has cval outside, where it is 0.",
        (
            f"{TRANSFORMS}::test_derivatives_of_both_modes",
            "tests/ops/test_warp_derivatives.py::test_derivatives",
        ),
    ),
    Mutant(
        "folded-planes-out-of-step",
        "python/marginseg/ops/folded_share.py",
        "determinant.narrow(-n, begin - first, end - begin)",
        "determinant.narrow(-n, 0, end - begin)",
        "Of planes that are taken in parts, a neighbour is counted in the place of the last one.",
        (f"{FOLDED}::test_a_few_planes_at_a_time_give_what_all_do",),
    ),
)

MODEL = (
    Mutant(
        "noise-spacing-times",
        "python/marginseg/noise.py",
        "tuple(value / step for value, step in zip(values, spacing, strict=True))",
        "tuple(value * step for value, step in zip(values, spacing, strict=True))",
        "Millimetres are turned into voxels by multiplying with the spacing.",
        (f"{NOISE}::test_units_say_the_same_thing",),
    ),
    Mutant(
        "noise-std-in-the-wrong-order",
        "python/marginseg/noise.py",
        "return label, std[::-1] if reverse else std, reverse",
        "return label, std, reverse",
        "A label in Fortran's order is filtered by the deviations of its axes in reverse.",
        (f"{NOISE}::test_a_label_in_fortran_s_order_is_deformed_and_filtered_as_it_lies",),
    ),
    Mutant(
        "noise-std-for-length-scale",
        "python/marginseg/noise.py",
        "field = gaussian_field(\n"
        "            spatial,\n"
        "            self.std_in_voxels(spatial),\n"
        "            self.length_scale_in_voxels(spatial),\n",
        "field = gaussian_field(\n"
        "            spatial,\n"
        "            self.length_scale_in_voxels(spatial),\n"
        "            self.std_in_voxels(spatial),\n",
        "Samples of a short length scale have a for b, and b for a.",
        (f"{ROOT}::test_samples_of_a_short_length_scale_have_their_marginals",),
    ),
    Mutant(
        "noise-one-field-for-all-cases",
        "python/marginseg/noise.py",
        "            batch_shape=(n, *label.shape[:batch_dims]),\n"
        "            device=label.device,\n"
        "        )\n"
        "        samples = warp(\n"
        "            label.expand(n, *label.shape),\n"
        "            field,\n",
        "            batch_shape=(n,),\n"
        "            device=label.device,\n"
        "        )\n"
        "        samples = warp(\n"
        "            label.expand(n, *label.shape),\n"
        "            field,\n",
        "With a short length scale all cases of a batch are deformed by one field.",
        (f"{ROOT}::test_samples_of_a_short_length_scale_have_their_marginals",),
    ),
    Mutant(
        "noise-loss-of-the-whole-batch",
        "python/marginseg/noise.py",
        "(mass - kept_mass(soft, std)) / math.prod(spatial)",
        "(mass - kept_mass(soft, std)) / soft.numel()",
        "The lost volume of a label is a share of all labels of its batch together.",
        (f"{NOISE}::test_the_volumes_of_a_batch_are_those_of_each_label",),
    ),
    Mutant(
        "kernel-rounded-weight-by-weight",
        "python/marginseg/ops/gaussian_filter.py",
        "    outer = np.round(outer / unit) * unit\n",
        "    outer = outer.astype(np.float32).astype(np.float64)\n",
        "Weights are no multiples of the last digit of their sums, which are rounded.",
        (
            f"{FILTER}::test_what_is_one_stays_one",
            f"{NOISE}::test_marginals_are_at_most_1_and_1_in_the_middle",
        ),
    ),
    Mutant(
        "values-nan-is-a-probability",
        "python/marginseg/values.py",
        "    if low >= 0.0 and high <= 1.0:\n",
        "    if not (low < 0.0 or high > 1.0):\n",
        "Probabilities and soft labels with NaN are taken.",
        (
            f"{NOISE}::test_bad_labels_are_named",
            f"{THRESHOLD}::test_what_is_no_probability_is_refused",
        ),
    ),
    Mutant(
        "values-beyond-are-not-clamped",
        "python/marginseg/values.py",
        "return values.clamp(0.0, 1.0)",
        "return values",
        "What rounding has put beyond 1 makes a Dice above 1.",
        ("tests/test_values.py::test_a_rounding_beyond_counts_as_0_and_as_1",),
    ),
    Mutant(
        "axes-a-channel-of-one-is-space",
        "python/marginseg/axes.py",
        "elif n == 3 and shape[0] == 1:",
        "elif n == 3 and shape[0] == 0:",
        "Noise moves a slice along its axis of channels.",
        ("tests/test_axes.py::test_a_first_axis_of_one_may_be_a_channel",),
    ),
    Mutant(
        "arrays-read-backwards",
        "python/marginseg/arrays.py",
        'array.astype(array.dtype.newbyteorder("="))',
        'array.view(array.dtype.newbyteorder("="))',
        "The bytes of an array of another order are taken as they lie.",
        ("tests/test_arrays.py::test_arrays_give_arrays_of_the_same_numbers",),
    ),
    Mutant(
        "kept-share-of-the-lower-face",
        "python/marginseg/ops/kept_mass.py",
        "torch.erf((j - size + 0.5) / scale)",
        "torch.erf((j - size - 0.5) / scale)",
        "The domain of Theorem 2 ends a voxel further on than the volume does.",
        (f"{NOISE}::test_expected_volume_is_the_mean_of_the_marginals",),
    ),
)

SCORES = (
    Mutant(
        "threshold-rounded-to-the-nearest",
        "python/marginseg/threshold.py",
        "return torch.where(rounded.double() < threshold, above, rounded)",
        "return rounded",
        "A value just below t* is let in where t* is rounded down to it.",
        (
            f"{THRESHOLD}::test_cut_is_exact_in_the_maps_own_dtype",
            f"{THRESHOLD}::test_value_just_below_the_threshold_stays_out",
        ),
    ),
    Mutant(
        "threshold-itself-left-out",
        "python/marginseg/threshold.py",
        "return rounded if rounded >= threshold else",
        "return rounded if rounded > threshold else",
        "A value that equals the threshold is left out.",
        (f"{THRESHOLD}::test_accuracy_is_cut_at_a_half",),
    ),
    Mutant(
        "threshold-of-no-probabilities",
        "python/marginseg/threshold.py",
        'return within_unit("probabilities", values), n',
        "return values, n",
        "What is no probability is cut all the same.",
        (f"{THRESHOLD}::test_what_is_no_probability_is_refused",),
    ),
    Mutant(
        "threshold-along-the-last-axes",
        "python/marginseg/threshold.py",
        "bounds.reshape((*threshold.shape, *spatial))",
        "bounds.reshape((*spatial, *threshold.shape))",
        "The thresholds of several maps are laid along their voxels.",
        (f"{THRESHOLD}::test_each_case_and_class_has_its_own_threshold",),
    ),
    Mutant(
        "metrics-in-float32",
        "python/marginseg/metrics.py",
        "return within_unit(name, s).double(), within_unit(other, m).double()",
        "return within_unit(name, s).float(), within_unit(other, m).float()",
        "Voxels are added up in float32.",
        (f"{METRICS}::test_sums_are_in_float64",),
    ),
    Mutant(
        "labels-from-the-own-cuts-alone",
        "python/marginseg/exclusive.py",
        "if bool(far.any()):",
        "if False:",
        "No second climb begins with the argmax, so that the result can be below it.",
        (
            "tests/test_exclusive.py::test_it_is_worth_what_it_says_and_never_less_than_argmax",
            "tests/test_exclusive.py::test_a_second_climb_ends_higher_on_some_maps",
        ),
    ),
    Mutant(
        "labels-background-counts",
        "python/marginseg/exclusive.py",
        "return values[:, self.foreground].mean(-1)",
        "return values.mean(-1)",
        "The background's Dice is one of those whose mean is made large.",
        ("tests/test_exclusive.py::test_it_is_worth_what_it_says_and_never_less_than_argmax",),
    ),
    Mutant(
        "metrics-bins-around-their-edges",
        "python/marginseg/metrics.py",
        "(c.flatten() * bins).long().clamp_max(bins - 1)",
        "(c.flatten() * (bins - 1)).round().long()",
        "The bins of a calibration curve are centred at 0 and 1, so that the outer ones are half "
        "as wide.",
        (f"{METRICS}::test_the_bins_of_a_calibration_curve_are_those_of_a_histogram",),
    ),
    Mutant(
        "metrics-ratio-to-nothing",
        "python/marginseg/metrics.py",
        "torch.where(ratio.isnan(), 1.0, ratio)",
        "torch.where(ratio.isfinite(), ratio, 1.0)",
        "A segmentation of what is not there has the volume ratio 1.",
        (f"{METRICS}::test_empty_structures",),
    ),
    Mutant(
        "losses-over-the-channels",
        "python/marginseg/losses.py",
        "n = prediction.ndim - 2 if prediction.ndim > 2 else prediction.ndim",
        "n = prediction.ndim - 1 if prediction.ndim > 2 else prediction.ndim",
        "Soft-Dice adds up the channels of a case before it divides.",
        (f"{LOSSES}::test_values_against_the_definitions",),
    ),
    Mutant(
        "losses-over-the-first-axes",
        "python/marginseg/losses.py",
        "axes = [*range(prediction.ndim - n, prediction.ndim)]",
        "axes = [*range(n)]",
        "Soft-Dice integrates over the leading axes.",
        (f"{LOSSES}::test_values_against_the_definitions",),
    ),
)
