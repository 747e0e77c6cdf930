#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/extension.h"

namespace marginseg {

// One axis of the separable filter. The array is seen as (outer, size, inner), contiguous;
// `weights` are the radius + 1 weights w[0..radius] of the symmetric kernel. `input` may be
// `output`: every line is read whole before it is written.
//
// forward:  output[i] = sum_k w[|k|] input[extend(i + k)]
// adjoint:  output[j] = sum_{i, k: extend(i + k) = j} w[|k|] input[i], the transposed map
void gaussian_filter_axis(uintptr_t input, uintptr_t output, Dtype dtype, int64_t outer,
                          int64_t size, int64_t inner, uintptr_t weights, int64_t radius,
                          Extension extension, double cval, bool adjoint);

}  // namespace marginseg
