#pragma once

#include <array>
#include <cstdint>

#include "common/dtype.h"
#include "common/extension.h"
#include "gaussian_filter/axis.h"

namespace marginseg::gaussian_filter {

// output[i] = sum_k w[|k|] input[extend(i + k)] along each of three axes, for `batch` contiguous
// images. The output has `dtype`, and the input the same or
// uint8 (then `dtype` is float32).
void run(uintptr_t input, Dtype input_dtype, uintptr_t output, Dtype dtype, int64_t batch,
         const std::array<Axis, 3>& axes, Extension extension, double cval);

}  // namespace marginseg::gaussian_filter
