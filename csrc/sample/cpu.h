#pragma once

#include <cstdint>
#include <vector>

#include "common/dtype.h"
#include "sample/geometry.h"

namespace marginseg::sample {

// output(w) = label(w + X(w)), 0 outside, X = (F_1 ⊗ … ⊗ F_n) ξ. Contiguous arrays:
//   label         (batch, channels, *shape)
//   coefficients  (samples, batch, n, *ranks), float32
//   output        (samples, batch, channels, *shape)
//   factors       (shape[i], ranks[i]) each, float32
void run(uintptr_t label, Dtype dtype, uintptr_t coefficients, uintptr_t output,
         const Geometry& geometry, const std::vector<int64_t>& ranks,
         const std::vector<uintptr_t>& factors);

}  // namespace marginseg::sample
