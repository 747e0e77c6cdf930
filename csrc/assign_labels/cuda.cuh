#pragma once

#include <cstdint>

#include "assign_labels/pass.h"
#include "common/cuda/context.cuh"
#include "common/dtype.h"

namespace marginseg::assign_labels {

// As on the CPU, for values of half types too; `scale` and `offset` have the type that the values
// are computed in.
void run(const Context& context, const Pass& pass, uintptr_t values, Dtype dtype, uintptr_t scale,
         uintptr_t offset, uintptr_t labels, Dtype label_dtype, uintptr_t volumes,
         uintptr_t masses);

}  // namespace marginseg::assign_labels
