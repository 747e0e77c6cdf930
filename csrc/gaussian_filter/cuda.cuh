#pragma once

#include <array>
#include <cstdint>

#include "common/cuda/context.cuh"
#include "common/dtype.h"
#include "common/extension.h"
#include "gaussian_filter/axis.h"

namespace marginseg::gaussian_filter {

// As on the CPU. The output has `dtype`, any floating one, and the input the same or uint8 (then
// `dtype` is float32). Half types are computed in float32 and rounded once, at the end.
void run(const Context& context, uintptr_t input, Dtype input_dtype, uintptr_t output, Dtype dtype,
         int64_t batch, const std::array<Axis, 3>& axes, Extension extension, double cval);

}  // namespace marginseg::gaussian_filter
