// Sums that many threads add to: in floating point, whose rounding depends on the order of the
// threads, or in integers, whose sum does not.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"

namespace marginseg::warp {

template <class T>
struct AtomicSums {
  T* values;
  int64_t volume;

  // Adds to places of an image.
  struct Image {
    T* values;
    __device__ void operator()(const int64_t place, const T value) const {
      atomicAdd(values + place, value);
    }
  };
  __device__ Image of(const int64_t image) const { return {values + image * volume}; }
};

// Fixed-point numbers in units of 1 / scale. The scale of an image is such that no sum of its
// contributions reaches 2^63; each is rounded by at most half a unit, 2^-62 of the bound.
template <class T>
struct FixedPointSums {
  unsigned long long* values;
  double* scale;
  int64_t volume;

  struct Image {
    unsigned long long* values;
    double scale;
    __device__ void operator()(const int64_t place, const T value) const {
      const auto units = static_cast<long long>(rint(static_cast<double>(value) * scale));
      atomicAdd(values + place, static_cast<unsigned long long>(units));
    }
  };
  __device__ Image of(const int64_t image) const { return {values + image * volume, scale[image]}; }
};

constexpr int bound_threads = 1024;

// The scale of each image, a block each: 2^62 over a bound of any sum of contributions, rounded up
// to a power of two.
//   First derivatives: sum |g|, since a voxel's weights are positive and their sum is at most 1.
//   Second (`displacement_weight` B given): 2 sum |g| sum_i |B_i|, since those of d_i w_k are at
//   most 1 and the sum of their magnitudes over the corners is 2.
// A bound that is infinite or NaN makes the scale, and with it all sums, NaN.
template <class T>
__global__ __launch_bounds__(bound_threads) void bound_sums(const T* const gradient,
                                                            const T* const displacement_weight,
                                                            const int axes, const int64_t channels,
                                                            const int64_t volume,
                                                            double* const scale) {
  __shared__ double partial[bound_threads];
  const int64_t image = blockIdx.x;
  double sum = 0.0;
  for (int64_t place = threadIdx.x; place < volume; place += bound_threads) {
    double bound = fabs(static_cast<double>(gradient[image * volume + place]));
    if (displacement_weight != nullptr) {
      double along = 0.0;
      for (int axis = 0; axis < axes; ++axis) {
        const int64_t component = image / channels * axes + axis;
        along += fabs(static_cast<double>(displacement_weight[component * volume + place]));
      }
      bound *= 2.0 * along;
    }
    sum += bound;
  }
  partial[threadIdx.x] = sum;
  // The threads' sums are added by halves, in one order: the same bits each time.
  for (int half = bound_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  int exponent = 0;
  const double bound = partial[0];
  frexp(bound, &exponent);
  // A scale beyond the range of doubles is not needed: the smallest contribution is 2^-1074.
  const int power = 62 - exponent < 1000 ? 62 - exponent : 1000;
  scale[image] = bound - bound == 0.0 ? ldexp(1.0, power) : bound - bound;
}

template <class T>
__global__ __launch_bounds__(threads) void finish_sums(const FixedPointSums<T> sums,
                                                       const int64_t count, T* const target) {
  const int64_t place = thread_number();
  if (place >= count) return;
  const double value = static_cast<double>(static_cast<long long>(sums.values[place]));
  target[place] = static_cast<T>(value / sums.scale[place / sums.volume]);
}

}  // namespace marginseg::warp
