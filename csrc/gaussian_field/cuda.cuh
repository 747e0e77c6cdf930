#pragma once

#include <cstdint>
#include <vector>

#include "common/cuda/context.cuh"
#include "common/dtype.h"

namespace marginseg::gaussian_field {

// As on the CPU.
void run(const Context& context, uintptr_t coefficients, uintptr_t output, Dtype dtype,
         int64_t count, const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& factors);

}  // namespace marginseg::gaussian_field
