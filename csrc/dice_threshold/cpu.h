#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace marginseg::dice_threshold {

// For each of `count` maps of `size` values, or segments values[offsets[k] .. offsets[k + 1]) where
// `offsets` is not 0: t*, sup F, and how many values reach t*. `sorted`: by the sorted scan, else
// by the iteration. `weight`: w = beta^2, from 1e-18 to 1e18; Dice is 1.
void run(uintptr_t values, Dtype dtype, uintptr_t offsets, int64_t count, int64_t size, bool sorted,
         double weight, uintptr_t threshold, uintptr_t value, uintptr_t volume);

// For each of `count` maps of `size` values: the values in descending order, and F and volume of
// {m >= value} for each. `sorted` has the dtype of the values.
void run_curve(uintptr_t values, Dtype dtype, int64_t count, int64_t size, double weight,
               uintptr_t sorted, uintptr_t value, uintptr_t volume);

}  // namespace marginseg::dice_threshold
