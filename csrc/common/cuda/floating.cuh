// The floating-point types that kernels read and write, and those that they compute in.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "common/dtype.h"

namespace marginseg {

template <class T>
struct Computing {
  using type = float;
};
template <>
struct Computing<double> {
  using type = double;
};
// What an element of type T is computed in: float, or double for double.
template <class T>
using computing = typename Computing<T>::type;

template <class T>
__device__ __forceinline__ computing<T> widen(const T value) {
  return static_cast<computing<T>>(value);
}
template <>
__device__ __forceinline__ float widen(const __half value) {
  return __half2float(value);
}
template <>
__device__ __forceinline__ float widen(const __nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <class T>
__device__ __forceinline__ T narrow(const computing<T> value) {
  return static_cast<T>(value);
}
template <>
__device__ __forceinline__ __half narrow(const float value) {
  return __float2half(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 narrow(const float value) {
  return __float2bfloat16(value);
}

__device__ __forceinline__ float multiply_add(const float a, const float b, const float c) {
  return fmaf(a, b, c);
}
__device__ __forceinline__ double multiply_add(const double a, const double b, const double c) {
  return fma(a, b, c);
}

// Calls function(Type<T>{}) for the floating-point type behind `dtype`, half types included.
template <class Function>
auto dispatch_stored(const Dtype dtype, const Function& function) {
  switch (dtype) {
    case Dtype::float16:
      return function(Type<__half>{});
    case Dtype::bfloat16:
      return function(Type<__nv_bfloat16>{});
    default:
      return dispatch_floating(dtype, function);
  }
}

}  // namespace marginseg
