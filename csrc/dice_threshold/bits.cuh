// The bits of floating-point numbers as integers, and back. Those of positive numbers, read as
// integers, grow with the numbers.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

namespace marginseg::dice_threshold {

template <class C>
using Bits = std::conditional_t<sizeof(C) == 8, unsigned long long, unsigned>;

__device__ inline unsigned bits_of(const float value) { return __float_as_uint(value); }
__device__ inline unsigned long long bits_of(const double value) {
  return static_cast<unsigned long long>(__double_as_longlong(value));
}
__device__ inline float value_of_bits(const unsigned bits) { return __uint_as_float(bits); }
__device__ inline double value_of_bits(const unsigned long long bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}

}  // namespace marginseg::dice_threshold
