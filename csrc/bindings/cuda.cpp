// marginseg._cuda: the functions of marginseg._cpu, with the arguments of a Context at the end: the
// address of the stream, whether sums must be deterministic, and a function that allocates bytes on
// the device.
#include "dice_threshold/cuda.cuh"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "assign_labels/cuda.cuh"
#include "common/cuda/context.cuh"
#include "common/dtype.h"
#include "common/extension.h"
#include "folded_share/cuda.cuh"
#include "gaussian_field/cuda.cuh"
#include "gaussian_filter/cuda.cuh"
#include "sample/cuda.cuh"
#include "warp/cuda.cuh"

namespace py = pybind11;
using namespace marginseg;

PYBIND11_MODULE(MARGINSEG_MODULE, m) {
  m.doc() = "The CUDA kernels of marginseg, behind addresses and sizes.";
  m.attr("version") = MARGINSEG_VERSION;

  m.def("assign_labels", [](const uintptr_t values, const int dtype,
                            const std::array<int64_t, 3>& shape, const uintptr_t scale,
                            const uintptr_t offset, const int64_t fallback, const double floor,
                            const int bits, const uintptr_t labels, const int label_dtype,
                            const uintptr_t volumes, const uintptr_t masses, const uintptr_t stream,
                            const bool deterministic, const Allocate& allocate) {
    assign_labels::run({"assign_labels", stream, deterministic, allocate},
                       {shape[0], shape[1], shape[2], fallback, floor, bits}, values, Dtype{dtype},
                       scale, offset, labels, Dtype{label_dtype}, volumes, masses);
  });

  m.def("dice_threshold", [](const uintptr_t values, const int dtype, const uintptr_t offsets,
                             const int64_t count, const int64_t size, const bool sorted,
                             const double weight, const uintptr_t threshold, const uintptr_t value,
                             const uintptr_t volume, const uintptr_t stream,
                             const bool deterministic, const Allocate& allocate) {
    dice_threshold::run({"dice_threshold", stream, deterministic, allocate}, values, Dtype{dtype},
                        offsets, count, size, sorted, weight, threshold, value, volume);
  });

  m.def("dice_curve", [](const uintptr_t values, const int dtype, const int64_t count,
                         const int64_t size, const double weight, const uintptr_t sorted,
                         const uintptr_t value, const uintptr_t volume, const uintptr_t stream,
                         const bool deterministic, const Allocate& allocate) {
    dice_threshold::run_curve({"dice_curve", stream, deterministic, allocate}, values, Dtype{dtype},
                              count, size, weight, sorted, value, volume);
  });

  m.def("folded_share",
        [](const uintptr_t coefficients, const uintptr_t shares, const int dtype,
           const int64_t count, const std::vector<int64_t>& ranks,
           const std::vector<int64_t>& shape, const std::vector<uintptr_t>& factors,
           const uintptr_t stream, const bool deterministic, const Allocate& allocate) {
          folded_share::run({"folded_share", stream, deterministic, allocate}, coefficients, shares,
                            Dtype{dtype}, count, ranks, shape, factors);
        });

  m.def("gaussian_filter",
        [](const uintptr_t input, const int input_dtype, const uintptr_t output, const int dtype,
           const int64_t batch, const std::array<int64_t, 3>& shape,
           const std::array<uintptr_t, 3>& weights, const std::array<int64_t, 3>& radii,
           const int extension, const double cval, const uintptr_t stream, const bool deterministic,
           const Allocate& allocate) {
          std::array<gaussian_filter::Axis, 3> axes;
          for (int axis = 0; axis < 3; ++axis) {
            axes[axis] = {shape[axis], reinterpret_cast<const double*>(weights[axis]), radii[axis]};
          }
          gaussian_filter::run({"gaussian_filter", stream, deterministic, allocate}, input,
                               Dtype{input_dtype}, output, Dtype{dtype}, batch, axes,
                               Extension{extension}, cval);
        });

  m.def("gaussian_field",
        [](const uintptr_t coefficients, const uintptr_t output, const int dtype,
           const int64_t count, const std::vector<int64_t>& ranks,
           const std::vector<int64_t>& shape, const std::vector<uintptr_t>& factors,
           const uintptr_t stream, const bool deterministic, const Allocate& allocate) {
          gaussian_field::run({"gaussian_field", stream, deterministic, allocate}, coefficients,
                              output, Dtype{dtype}, count, ranks, shape, factors);
        });

  m.def("sample", [](const uintptr_t label, const int dtype, const uintptr_t coefficients,
                     const uintptr_t output, const int64_t samples, const int64_t batch,
                     const int64_t channels, const std::vector<int64_t>& shape, const bool linear,
                     const std::vector<int64_t>& ranks, const std::vector<uintptr_t>& factors,
                     const uintptr_t stream, const bool deterministic, const Allocate& allocate) {
    sample::run({"sample", stream, deterministic, allocate}, label, Dtype{dtype}, coefficients,
                output, {samples, batch, channels, shape, linear}, ranks, factors);
  });

  m.def("warp", [](const uintptr_t input, const uintptr_t displacement, const uintptr_t output,
                   const int dtype, const int64_t batch, const int64_t channels,
                   const std::vector<int64_t>& shape, const int64_t input_stride,
                   const int extension, const bool linear, const double cval,
                   const uintptr_t stream, const bool deterministic, const Allocate& allocate) {
    warp::run({"warp", stream, deterministic, allocate}, input, displacement, output, Dtype{dtype},
              {batch, channels, shape, input_stride, Extension{extension}, linear}, cval);
  });

  m.def("warp_label",
        [](const uintptr_t input, const uintptr_t displacement, const uintptr_t output,
           const int label_dtype, const int displacement_dtype, const int64_t batch,
           const int64_t channels, const std::vector<int64_t>& shape, const int64_t input_stride,
           const int extension, const bool linear, const int64_t cval, const uintptr_t stream,
           const bool deterministic, const Allocate& allocate) {
          warp::run_label({"warp", stream, deterministic, allocate}, input, displacement, output,
                          Dtype{label_dtype}, Dtype{displacement_dtype},
                          {batch, channels, shape, input_stride, Extension{extension}, linear},
                          cval);
        });

  m.def("warp_backward",
        [](const uintptr_t gradient, const uintptr_t input, const uintptr_t displacement,
           const uintptr_t input_gradient, const uintptr_t displacement_gradient, const int dtype,
           const int64_t batch, const int64_t channels, const std::vector<int64_t>& shape,
           const int64_t input_stride, const int extension, const bool linear, const double cval,
           const uintptr_t stream, const bool deterministic, const Allocate& allocate) {
          warp::run_backward({"warp_backward", stream, deterministic, allocate}, gradient, input,
                             displacement, input_gradient, displacement_gradient, Dtype{dtype},
                             {batch, channels, shape, input_stride, Extension{extension}, linear},
                             cval);
        });

  m.def("warp_double_backward",
        [](const uintptr_t input_weight, const uintptr_t displacement_weight,
           const uintptr_t gradient, const uintptr_t input, const uintptr_t displacement,
           const uintptr_t second_gradient, const uintptr_t second_input,
           const uintptr_t second_displacement, const int dtype, const int64_t batch,
           const int64_t channels, const std::vector<int64_t>& shape, const int64_t input_stride,
           const int extension, const bool linear, const double cval, const uintptr_t stream,
           const bool deterministic, const Allocate& allocate) {
          warp::run_double_backward(
              {"warp_double_backward", stream, deterministic, allocate}, input_weight,
              displacement_weight, gradient, input, displacement, second_gradient, second_input,
              second_displacement, Dtype{dtype},
              {batch, channels, shape, input_stride, Extension{extension}, linear}, cval);
        });
}
