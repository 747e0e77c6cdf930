// marginseg._cpu: addresses, sizes and strides come as integers; Python has checked them.
#include "dice_threshold/cpu.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <tuple>

#include "assign_labels/cpu.h"
#include "common/dtype.h"
#include "common/extension.h"
#include "common/instruction_set.h"
#include "common/parallel.h"
#include "dice_threshold/tally.h"
#include "folded_share/cpu.h"
#include "gaussian_field/cpu.h"
#include "gaussian_filter/cpu.h"
#include "sample/cpu.h"
#include "warp/cpu.h"

namespace py = pybind11;
using namespace marginseg;

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "The CPU kernels of marginseg, behind addresses and sizes.";
  m.attr("version") = MARGINSEG_VERSION;

  const auto release = py::call_guard<py::gil_scoped_release>();

  instruction_set();  // an unknown MARGINSEG_SIMD is told when the package is imported
  m.def("instruction_set", [] { return name_of(instruction_set()); });

  m.def("set_parallel_for", [](const uintptr_t address) {
    torch_parallel_for() = reinterpret_cast<ParallelFor>(address);
  });

  m.def(
      "assign_labels",
      [](const uintptr_t values, const int dtype, const std::array<int64_t, 3>& shape,
         const uintptr_t scale, const uintptr_t offset, const int64_t fallback, const double floor,
         const int bits, const uintptr_t labels, const int label_dtype, const uintptr_t volumes,
         const uintptr_t masses) {
        assign_labels::run({shape[0], shape[1], shape[2], fallback, floor, bits}, values,
                           Dtype{dtype}, scale, offset, labels, Dtype{label_dtype}, volumes,
                           masses);
      },
      release);

  m.def(
      "dice_threshold",
      [](const uintptr_t values, const int dtype, const uintptr_t offsets, const int64_t count,
         const int64_t size, const bool sorted, const double weight, const uintptr_t threshold,
         const uintptr_t value, const uintptr_t volume) {
        dice_threshold::run(values, Dtype{dtype}, offsets, count, size, sorted, weight, threshold,
                            value, volume);
      },
      release);

  m.def(
      "dice_curve",
      [](const uintptr_t values, const int dtype, const int64_t count, const int64_t size,
         const double weight, const uintptr_t sorted, const uintptr_t value,
         const uintptr_t volume) {
        dice_threshold::run_curve(values, Dtype{dtype}, count, size, weight, sorted, value, volume);
      },
      release);

  using dice_threshold::Tally;
  py::class_<Tally>(m, "Tally")
      .def(py::init(
          [](const int dtype, const int64_t count, const double weight, const bool at_half) {
            return dice_threshold::make_tally(Dtype{dtype}, count, weight, at_half);
          }))
      .def("add", &Tally::add, release)
      .def("finish_pass", &Tally::finish_pass, release)
      .def("misfits",
           [](const Tally& tally) {
             const auto [count, any_nan, least, greatest] = tally.misfits();
             return std::make_tuple(count, any_nan, least, greatest);
           })
      .def("changed", &Tally::changed)
      .def("results", &Tally::results);

  m.def(
      "folded_share",
      [](const uintptr_t coefficients, const uintptr_t shares, const int dtype, const int64_t count,
         const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& factors) {
        folded_share::run(coefficients, shares, Dtype{dtype}, count, ranks, shape, factors);
      },
      release);

  m.def(
      "gaussian_filter",
      [](const uintptr_t input, const int input_dtype, const uintptr_t output, const int dtype,
         const int64_t batch, const std::array<int64_t, 3>& shape,
         const std::array<uintptr_t, 3>& weights, const std::array<int64_t, 3>& radii,
         const int extension, const double cval) {
        std::array<gaussian_filter::Axis, 3> axes;
        for (int axis = 0; axis < 3; ++axis) {
          axes[axis] = {shape[axis], reinterpret_cast<const double*>(weights[axis]), radii[axis]};
        }
        gaussian_filter::run(input, Dtype{input_dtype}, output, Dtype{dtype}, batch, axes,
                             Extension{extension}, cval);
      },
      release);

  m.def(
      "gaussian_field",
      [](const uintptr_t coefficients, const uintptr_t output, const int dtype, const int64_t count,
         const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& factors) {
        gaussian_field::run(coefficients, output, Dtype{dtype}, count, ranks, shape, factors);
      },
      release);

  m.def(
      "sample",
      [](const uintptr_t label, const int dtype, const uintptr_t coefficients,
         const uintptr_t output, const int64_t samples, const int64_t batch, const int64_t channels,
         const std::vector<int64_t>& shape, const bool linear, const std::vector<int64_t>& ranks,
         const std::vector<uintptr_t>& factors) {
        sample::run(label, Dtype{dtype}, coefficients, output,
                    {samples, batch, channels, shape, linear}, ranks, factors);
      },
      release);

  m.def(
      "warp",
      [](const uintptr_t input, const uintptr_t displacement, const uintptr_t output,
         const int dtype, const int64_t batch, const int64_t channels,
         const std::vector<int64_t>& shape, const int64_t input_stride, const int extension,
         const bool linear, const double cval) {
        warp::run(input, displacement, output, Dtype{dtype},
                  {batch, channels, shape, input_stride, Extension{extension}, linear}, cval);
      },
      release);

  m.def(
      "warp_label",
      [](const uintptr_t input, const uintptr_t displacement, const uintptr_t output,
         const int label_dtype, const int displacement_dtype, const int64_t batch,
         const int64_t channels, const std::vector<int64_t>& shape, const int64_t input_stride,
         const int extension, const bool linear, const int64_t cval) {
        warp::run_label(input, displacement, output, Dtype{label_dtype}, Dtype{displacement_dtype},
                        {batch, channels, shape, input_stride, Extension{extension}, linear}, cval);
      },
      release);

  m.def(
      "warp_backward",
      [](const uintptr_t gradient, const uintptr_t input, const uintptr_t displacement,
         const uintptr_t input_gradient, const uintptr_t displacement_gradient, const int dtype,
         const int64_t batch, const int64_t channels, const std::vector<int64_t>& shape,
         const int64_t input_stride, const int extension, const bool linear, const double cval) {
        warp::run_backward(
            gradient, input, displacement, input_gradient, displacement_gradient, Dtype{dtype},
            {batch, channels, shape, input_stride, Extension{extension}, linear}, cval);
      },
      release);

  m.def(
      "warp_double_backward",
      [](const uintptr_t input_weight, const uintptr_t displacement_weight,
         const uintptr_t gradient, const uintptr_t input, const uintptr_t displacement,
         const uintptr_t second_gradient, const uintptr_t second_input,
         const uintptr_t second_displacement, const int dtype, const int64_t batch,
         const int64_t channels, const std::vector<int64_t>& shape, const int64_t input_stride,
         const int extension, const bool linear, const double cval) {
        warp::run_double_backward(
            input_weight, displacement_weight, gradient, input, displacement, second_gradient,
            second_input, second_displacement, Dtype{dtype},
            {batch, channels, shape, input_stride, Extension{extension}, linear}, cval);
      },
      release);
}
