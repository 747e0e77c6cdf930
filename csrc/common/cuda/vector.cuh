// Vectors of neighbours in memory, which one instruction reads or writes if they have up to 16
// bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/floating.cuh"

namespace marginseg {

template <class T, int N>
struct alignas(N * sizeof(T)) Vector {
  T lane[N];
};

// A GPU ends the program where a vector does not lie at a multiple of its size: is_aligned() tells.

template <int N, class T>
__device__ __forceinline__ Vector<computing<T>, N> load(const T* const source) {
  using Stored = Vector<T, N>;
  const auto* const place =
      static_cast<const Stored*>(__builtin_assume_aligned(source, sizeof(Stored)));
  const Stored stored = *place;
  Vector<computing<T>, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result.lane[i] = widen(stored.lane[i]);
  return result;
}

template <int N, class T>
__device__ __forceinline__ void store(T* const target, const Vector<computing<T>, N>& values) {
  Vector<T, N> stored;
#pragma unroll
  for (int i = 0; i < N; ++i) stored.lane[i] = narrow<T>(values.lane[i]);
  auto* const place = static_cast<Vector<T, N>*>(__builtin_assume_aligned(target, sizeof(stored)));
  *place = stored;
}

// Whether rows of `length` elements that begin at `data` can be read and written as vectors of N.
template <int N, class T>
bool is_aligned(const T* const data, const int64_t length) {
  return reinterpret_cast<uintptr_t>(data) % (N * sizeof(T)) == 0 && length % N == 0;
}

}  // namespace marginseg
