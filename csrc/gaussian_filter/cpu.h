#pragma once

#include <array>
#include <cstdint>

#include "common/dtype.h"
#include "common/extension.h"

namespace marginseg {

// One axis of the filter: its size and the radius + 1 weights w[0..radius] of the symmetric kernel.
struct FilterAxis {
  int64_t size;
  const double* weights;
  int64_t radius;
};

// output[i] = sum_k w[|k|] input[extend(i + k)] along each of three axes, for `batch` contiguous
// images; what is above `ceiling` becomes that. The output has `dtype`, and the input the same or
// uint8 (then `dtype` is float32).
void gaussian_filter(uintptr_t input, Dtype input_dtype, uintptr_t output, Dtype dtype,
                     int64_t batch, const std::array<FilterAxis, 3>& axes, Extension extension,
                     double cval, double ceiling);

}  // namespace marginseg
