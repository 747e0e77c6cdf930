// marginseg._cpu: addresses, sizes and strides come as integers; Python has checked them.
#include "gaussian_field/cpu.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/dtype.h"
#include "common/extension.h"
#include "common/parallel.h"
#include "gaussian_filter/cpu.h"

namespace py = pybind11;
using namespace marginseg;

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "The CPU kernels of marginseg, behind addresses and sizes.";
  m.attr("version") = MARGINSEG_VERSION;

  const auto release = py::call_guard<py::gil_scoped_release>();

  m.def("set_parallel_for", [](const uintptr_t address) {
    torch_parallel_for() = reinterpret_cast<ParallelFor>(address);
  });

  m.def(
      "gaussian_filter_axis",
      [](const uintptr_t input, const uintptr_t output, const int dtype, const int64_t outer,
         const int64_t size, const int64_t inner, const uintptr_t weights, const int64_t radius,
         const int extension, const double cval, const bool adjoint) {
        gaussian_filter_axis(input, output, Dtype{dtype}, outer, size, inner, weights, radius,
                             Extension{extension}, cval, adjoint);
      },
      release);

  m.def(
      "gaussian_field",
      [](const uintptr_t coefficients, const uintptr_t output, const int dtype, const int64_t count,
         const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& factors) {
        evaluate_gaussian_field(coefficients, output, Dtype{dtype}, count, ranks, shape, factors);
      },
      release);
}
