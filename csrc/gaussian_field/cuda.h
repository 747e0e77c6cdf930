#pragma once

#include <cstdint>
#include <vector>

#include "common/cuda/context.h"
#include "common/dtype.h"

namespace marginseg {

// As on the CPU.
void evaluate_gaussian_field(const Context& context, uintptr_t coefficients, uintptr_t output,
                             Dtype dtype, int64_t count, const std::vector<int64_t>& ranks,
                             const std::vector<int64_t>& shape,
                             const std::vector<uintptr_t>& factors);

}  // namespace marginseg
