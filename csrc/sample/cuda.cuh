#pragma once

#include <cstdint>
#include <vector>

#include "common/cuda/context.cuh"
#include "common/dtype.h"
#include "sample/geometry.h"

namespace marginseg::sample {

// As on the CPU, but every voxel is looked up: to find out which rows cannot see the label takes a
// pass over it, and gains little. Fields of many coefficients along an axis (length scales of a few
// voxels) are evaluated to memory first.
void run(const Context& context, uintptr_t label, Dtype dtype, uintptr_t coefficients,
         uintptr_t output, const Geometry& geometry, const std::vector<int64_t>& ranks,
         const std::vector<uintptr_t>& factors);

}  // namespace marginseg::sample
