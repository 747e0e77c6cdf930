#pragma once

#include <cstdint>
#include <vector>

#include "common/dtype.h"

namespace marginseg::gaussian_field {

// X = (F_1 ⊗ … ⊗ F_n) ξ for each of `count` coefficient arrays ξ of shape `ranks`; n = 1, 2, 3.
// The factors F_i are contiguous (shape[i], ranks[i]) matrices; all arrays have one dtype.
void run(uintptr_t coefficients, uintptr_t output, Dtype dtype, int64_t count,
         const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& factors);

}  // namespace marginseg::gaussian_field
