#pragma once

#include <array>
#include <cstdint>

#include "common/cuda/context.h"
#include "common/dtype.h"
#include "common/extension.h"
#include "gaussian_filter/axis.h"

namespace marginseg {

// As on the CPU. The output has `dtype`, any floating one, and the input the same or uint8 (then
// `dtype` is float32). Half types are computed in float32 and rounded once, at the end.
void gaussian_filter(const Context& context, uintptr_t input, Dtype input_dtype, uintptr_t output,
                     Dtype dtype, int64_t batch, const std::array<FilterAxis, 3>& axes,
                     Extension extension, double cval, double ceiling);

}  // namespace marginseg
