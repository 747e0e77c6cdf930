// Stands in for CUDA's header; see README.md.
#pragma once

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
// Blocks run one after another, so one copy serves them all.
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)
// A CPU reads and writes vectors anywhere, a GPU does not: a promise that is not kept is an error.
#define __builtin_assume_aligned(address, alignment) emulation::aligned(address, alignment)

using dim3 = emulation::Index;
using emulation::warpSize;

struct cudaStream;
using cudaStream_t = cudaStream*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorName(cudaError_t) { return "cudaErrorInvalidValue"; }
inline const char* cudaGetErrorString(cudaError_t) { return "invalid argument"; }
inline cudaError_t cudaMemsetAsync(void* const data, const int value, const size_t bytes,
                                   cudaStream_t) {
  std::memset(data, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* const to, const void* const from, const size_t bytes, int,
                                   cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
constexpr int cudaMemcpyDeviceToDevice = 3;

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* const configuration,
                               void (*const kernel)(Parameters...), Arguments&&... arguments) {
  if (configuration->blockDim.x > 1024 || configuration->dynamicSmemBytes != 0) {
    return cudaErrorInvalidValue;
  }
  const auto bank = emulation::parameter_bank<Parameters...>(arguments...);
  emulation::launch({reinterpret_cast<uintptr_t>(kernel), bank.data(), bank.size(),
                     configuration->gridDim.x, configuration->blockDim.x, 0},
                    [&] { kernel(arguments...); });
  return cudaSuccess;
}

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned = 0xffffffffu) { emulation::exchange(0); }
inline void __threadfence() {}

namespace emulation {

template <class T>
T value_of_lane(const T value, const int lane) {
  static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const Warp& warp = exchange(bits);
  T result = value;
  if (lane >= 0 && lane < warpSize) std::memcpy(&result, &warp.bits[lane], sizeof(T));
  return result;
}

}  // namespace emulation

template <class T>
T __shfl_sync(unsigned, const T value, const int lane) {
  return emulation::value_of_lane(value, lane % warpSize);
}
template <class T>
T __shfl_down_sync(unsigned, const T value, const unsigned delta) {
  return emulation::value_of_lane(value, emulation::lane() + static_cast<int>(delta));
}
template <class T>
T __shfl_up_sync(unsigned, const T value, const unsigned delta) {
  return emulation::value_of_lane(value, emulation::lane() - static_cast<int>(delta));
}
template <class T>
T __shfl_xor_sync(unsigned, const T value, const int mask) {
  return emulation::value_of_lane(value, emulation::lane() ^ mask);
}
inline unsigned __ballot_sync(unsigned, const int predicate) {
  const emulation::Warp& warp = emulation::exchange(predicate != 0 ? 1 : 0);
  unsigned ballot = 0;
  for (int lane = 0; lane < warpSize; ++lane) {
    ballot |= static_cast<unsigned>(warp.bits[lane] & 1u) << lane;
  }
  return ballot;
}
inline int __any_sync(const unsigned mask, const int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(const unsigned mask, const int predicate) {
  return __ballot_sync(mask, predicate == 0) == 0;
}

// One fibre runs at a time: nothing comes between.
template <class T, class V>
T atomicAdd(T* const address, const V value) {
  const T old = *address;
  *address = static_cast<T>(old + static_cast<T>(value));
  return old;
}
template <class T, class V>
T atomicMax(T* const address, const V value) {
  const T old = *address;
  if (static_cast<T>(value) > old) *address = static_cast<T>(value);
  return old;
}
template <class T, class V>
T atomicMin(T* const address, const V value) {
  const T old = *address;
  if (static_cast<T>(value) < old) *address = static_cast<T>(value);
  return old;
}
template <class T, class V>
T atomicOr(T* const address, const V value) {
  const T old = *address;
  *address = static_cast<T>(old | static_cast<T>(value));
  return old;
}

template <class T>
T min(const T a, const T b) {
  return b < a ? b : a;
}
template <class T>
T max(const T a, const T b) {
  return a < b ? b : a;
}
template <class T>
T __ldg(const T* const address) {
  return *address;
}
inline int __popc(const unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(const int bits) { return __builtin_ffs(bits); }
inline int __clz(const int bits) { return bits == 0 ? 32 : __builtin_clz(bits); }

namespace emulation {

template <class To, class From>
To same_bits(const From value) {
  static_assert(sizeof(To) == sizeof(From), "of one size");
  To result;
  std::memcpy(&result, &value, sizeof(To));
  return result;
}

}  // namespace emulation

inline unsigned __float_as_uint(const float value) { return emulation::same_bits<unsigned>(value); }
inline float __uint_as_float(const unsigned bits) { return emulation::same_bits<float>(bits); }
inline long long __double_as_longlong(const double value) {
  return emulation::same_bits<long long>(value);
}
inline double __longlong_as_double(const long long bits) {
  return emulation::same_bits<double>(bits);
}

// a + b, rounded down.
inline float __fadd_rd(const float a, const float b) {
  // The compiler must not add before the rounding is set, nor after.
  const volatile float first = a;
  const volatile float second = b;
  const int before = std::fegetround();
  std::fesetround(FE_DOWNWARD);
  const volatile float sum = first + second;
  std::fesetround(before);
  return sum;
}
