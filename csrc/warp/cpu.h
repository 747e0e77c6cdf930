#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "warp/geometry.h"

namespace marginseg::warp {

// output(w) = input(w + X(w)), floating point; input, displacement and output share a dtype.
void run(uintptr_t input, uintptr_t displacement, uintptr_t output, Dtype dtype,
         const Geometry& geometry, double cval);

// The same for labels; `displacement` is float32 or float64.
void run_label(uintptr_t input, uintptr_t displacement, uintptr_t output, Dtype label_dtype,
               Dtype displacement_dtype, const Geometry& geometry, int64_t cval);

// The adjoint for `gradient` of the output's shape: adds to `input_gradient` (of the input's
// shape without stride 0, zeroed by the caller) and writes `displacement_gradient`.
void run_backward(uintptr_t gradient, uintptr_t input, uintptr_t displacement,
                  uintptr_t input_gradient, uintptr_t displacement_gradient, Dtype dtype,
                  const Geometry& geometry, double cval);

// The gradients of <input_gradient, input_weight> + <displacement_gradient, displacement_weight>
// of warp_backward, with respect to its gradient, input and displacement. `input_weight` is
// contiguous; `second_input` (of the input's shape without stride 0) is zeroed by the caller.
void run_double_backward(uintptr_t input_weight, uintptr_t displacement_weight, uintptr_t gradient,
                         uintptr_t input, uintptr_t displacement, uintptr_t second_gradient,
                         uintptr_t second_input, uintptr_t second_displacement, Dtype dtype,
                         const Geometry& geometry, double cval);

}  // namespace marginseg::warp
