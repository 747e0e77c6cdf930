#pragma once

#include <cstdint>
#include <vector>

#include "common/dtype.h"

namespace marginseg::folded_share {

// shares[k] = the share of voxels w at which w + X(w) folds over, det(I + grad X) <= 0, for each of
// `count` fields X = (F_1 ⊗ … ⊗ F_n) ξ; n = 1, 2, 3. Gradients are central differences. Contiguous
// arrays:
//   coefficients  (count, n, *ranks)
//   shares        (count), float64
//   factors       (shape[i], ranks[i]) each, of the coefficients' dtype
void run(uintptr_t coefficients, uintptr_t shares, Dtype dtype, int64_t count,
         const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& factors);

}  // namespace marginseg::folded_share
