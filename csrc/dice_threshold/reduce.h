// Sums over the threads of a block, that all of them get.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "dice_threshold/body.h"
#include "dice_threshold/maps.h"

namespace marginseg::dice {

// What a pass over values learns, given a bracket.
struct Pass {
  Cut above;  // {m >= high}
  Sum rest;   // the mass of the others
  __device__ Sum whole() const {
    Sum sum = above.mass;
    add(sum, rest);
    return sum;
  }
};

__device__ inline void add(Pass& pass, const Pass& other) {
  add(pass.above, other.above);
  add(pass.rest, other.rest);
}

// What a sample tells of a threshold, in plain doubles.
struct Moments {
  double whole;
  double mass;
  double volume;
};

__device__ inline void add(Moments& moments, const Moments& other) {
  moments.whole += other.whole;
  moments.mass += other.mass;
  moments.volume += other.volume;
}

struct Largest {
  double value;
};

__device__ inline void add(Largest& largest, const Largest& other) {
  if (other.value > largest.value) largest = other;
}

__device__ inline double from_above(const double value, const int lanes) {
  return __shfl_down_sync(all_lanes, value, lanes);
}
__device__ inline Sum from_above(const Sum& sum, const int lanes) {
  return {from_above(sum.high, lanes), from_above(sum.low, lanes)};
}
__device__ inline Cut from_above(const Cut& cut, const int lanes) {
  return {from_above(cut.mass, lanes),
          __shfl_down_sync(all_lanes, static_cast<long long>(cut.volume), lanes)};
}
__device__ inline Pass from_above(const Pass& pass, const int lanes) {
  return {from_above(pass.above, lanes), from_above(pass.rest, lanes)};
}
__device__ inline Moments from_above(const Moments& moments, const int lanes) {
  return {from_above(moments.whole, lanes), from_above(moments.mass, lanes),
          from_above(moments.volume, lanes)};
}
__device__ inline Largest from_above(const Largest& largest, const int lanes) {
  return {from_above(largest.value, lanes)};
}

// The whole block takes part; every thread gets the same bits.
template <class Value>
__device__ Value block_sum(Value value) {
  __shared__ Value of_warps[warps];
#pragma unroll
  for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) add(value, from_above(value, lanes));
  __syncthreads();  // the last sum may still be read
  if (threadIdx.x % warp_size == 0) of_warps[threadIdx.x / warp_size] = value;
  __syncthreads();
  Value sum = of_warps[0];
#pragma unroll
  for (int warp = 1; warp < warps; ++warp) add(sum, of_warps[warp]);
  return sum;
}

}  // namespace marginseg::dice
