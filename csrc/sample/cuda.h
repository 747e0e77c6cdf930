#pragma once

#include <cstdint>
#include <vector>

#include "common/cuda/context.h"
#include "common/dtype.h"
#include "sample/geometry.h"

namespace marginseg {

// As on the CPU, in one launch. Fields of many coefficients along an axis (length scales of a few
// voxels) are evaluated to memory first.
void sample(const Context& context, uintptr_t label, Dtype dtype, uintptr_t coefficients,
            uintptr_t output, const SampleGeometry& geometry, const std::vector<int64_t>& ranks,
            const std::vector<uintptr_t>& factors);

}  // namespace marginseg
