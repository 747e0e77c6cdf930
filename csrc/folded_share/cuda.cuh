#pragma once

#include <cstdint>
#include <vector>

#include "common/cuda/context.cuh"
#include "common/dtype.h"

namespace marginseg::folded_share {

// As on the CPU. Fields of many coefficients along an axis (length scales of a few voxels) have
// their derivatives evaluated to memory, one field at a time.
void run(const Context& context, uintptr_t coefficients, uintptr_t shares, Dtype dtype,
         int64_t count, const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& factors);

}  // namespace marginseg::folded_share
