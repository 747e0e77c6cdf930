// marginseg._cuda: the functions of marginseg._cpu, with three more arguments at the end: the
// device's number, the address of the stream, and a function that allocates bytes on the device.
#include "gaussian_filter/cuda.h"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "common/cuda/context.h"
#include "common/dtype.h"
#include "common/extension.h"

namespace py = pybind11;
using namespace marginseg;

PYBIND11_MODULE(MARGINSEG_MODULE, m) {
  m.doc() = "The CUDA kernels of marginseg, behind addresses and sizes.";
  m.attr("version") = MARGINSEG_VERSION;

  m.def("gaussian_filter",
        [](const uintptr_t input, const int input_dtype, const uintptr_t output, const int dtype,
           const int64_t batch, const std::array<int64_t, 3>& shape,
           const std::array<uintptr_t, 3>& weights, const std::array<int64_t, 3>& radii,
           const int extension, const double cval, const double ceiling, const int device,
           const uintptr_t stream, const Allocate& allocate) {
          std::array<FilterAxis, 3> axes;
          for (int axis = 0; axis < 3; ++axis) {
            axes[axis] = {shape[axis], reinterpret_cast<const double*>(weights[axis]), radii[axis]};
          }
          gaussian_filter({"gaussian_filter", device, stream, allocate}, input, Dtype{input_dtype},
                          output, Dtype{dtype}, batch, axes, Extension{extension}, cval, ceiling);
        });
}
