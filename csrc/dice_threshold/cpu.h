#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace marginseg::dice_threshold {

// For each of `count` maps of `size` values, or segments values[offsets[k] .. offsets[k + 1]) where
// `offsets` is not 0: sup_s D_m(s), half of it, and how many values reach that threshold. `sorted`:
// by the sorted scan, else by the iteration.
void run(uintptr_t values, Dtype dtype, uintptr_t offsets, int64_t count, int64_t size, bool sorted,
         uintptr_t threshold, uintptr_t dice, uintptr_t volume);

// For each of `count` maps of `size` values: the values in descending order, and Dice and volume of
// {m >= value} for each. `sorted` has the dtype of the values.
void run_curve(uintptr_t values, Dtype dtype, int64_t count, int64_t size, uintptr_t sorted,
               uintptr_t dice, uintptr_t volume);

}  // namespace marginseg::dice_threshold
