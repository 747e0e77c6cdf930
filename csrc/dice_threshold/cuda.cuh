#pragma once

#include <cstdint>

#include "common/cuda/context.cuh"
#include "common/dtype.h"

namespace marginseg::dice_threshold {

// As on the CPU, with the same bits (cut.h says when), for values of any floating dtype. Offsets
// lie on the device, and the host never sees them: if they decrease, or lie outside the values,
// every segment gets the threshold NaN, the value NaN and the volume 0.
void run(const Context& context, uintptr_t values, Dtype dtype, uintptr_t offsets, int64_t count,
         int64_t size, bool sorted, double weight, uintptr_t threshold, uintptr_t value,
         uintptr_t volume);

// `sorted` has the dtype that the values are computed in.
void run_curve(const Context& context, uintptr_t values, Dtype dtype, int64_t count, int64_t size,
               double weight, uintptr_t sorted, uintptr_t value, uintptr_t volume);

}  // namespace marginseg::dice_threshold
