#pragma once

#include <cstdint>

#include "common/cuda/context.cuh"
#include "common/dtype.h"
#include "warp/geometry.h"

namespace marginseg::warp {

// All as on the CPU. Gradients of the input are summed by atomics, in whatever order; where the
// context asks for determinism, as integers, whose sum does not depend on it.

void run(const Context& context, uintptr_t input, uintptr_t displacement, uintptr_t output,
         Dtype dtype, const Geometry& geometry, double cval);

void run_label(const Context& context, uintptr_t input, uintptr_t displacement, uintptr_t output,
               Dtype label_dtype, Dtype displacement_dtype, const Geometry& geometry, int64_t cval);

void run_backward(const Context& context, uintptr_t gradient, uintptr_t input,
                  uintptr_t displacement, uintptr_t input_gradient, uintptr_t displacement_gradient,
                  Dtype dtype, const Geometry& geometry, double cval);

void run_double_backward(const Context& context, uintptr_t input_weight,
                         uintptr_t displacement_weight, uintptr_t gradient, uintptr_t input,
                         uintptr_t displacement, uintptr_t second_gradient, uintptr_t second_input,
                         uintptr_t second_displacement, Dtype dtype, const Geometry& geometry,
                         double cval);

}  // namespace marginseg::warp
