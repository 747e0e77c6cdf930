// The threads of a block: how every kernel arranges them, and how they combine their values.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/parts.h"

namespace marginseg {

constexpr int warp_size = 32;
constexpr int warps = 8;
constexpr int threads = warps * warp_size;

// Shuffles and votes are always taken by a whole warp.
constexpr unsigned all_lanes = 0xffffffffu;

// How many blocks have a thread for each of `count` items.
constexpr int64_t blocks_for(const int64_t count) { return parts(count, threads); }

__device__ inline int lane_number() { return static_cast<int>(threadIdx.x % warp_size); }
__device__ inline int warp_number() { return static_cast<int>(threadIdx.x / warp_size); }

// The number of this thread among those of all blocks.
__device__ inline int64_t thread_number() {
  return static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
}

// The value of the lane that is `distance` lanes further up; its own where the warp ends before.
template <class Value>
__device__ inline Value from_above(const Value& value, const int distance) {
  using Word = unsigned long long;
  static_assert(std::is_trivially_copyable_v<Value> && sizeof(Value) % sizeof(Word) == 0);
  Word words[sizeof(Value) / sizeof(Word)];
  memcpy(words, &value, sizeof(Value));
#pragma unroll
  for (Word& word : words) word = __shfl_down_sync(all_lanes, word, distance);
  Value result;
  memcpy(&result, words, sizeof(Value));
  return result;
}

// The values of a warp's lanes, combined by combine(value, other), which changes `value`. Only
// lane 0 gets the result.
template <class Value, class Combine>
__device__ inline Value warp_reduce(Value value, const Combine& combine) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    combine(value, from_above(value, distance));
  }
  return value;
}

// The same for a block, whose threads must all take part. They are combined in a fixed order, and
// every thread gets the same bits.
template <class Value, class Combine>
__device__ inline Value block_reduce(const Value& value, const Combine& combine) {
  __shared__ Value of_warps[warps];
  const Value of_warp = warp_reduce(value, combine);
  __syncthreads();  // a thread may still be reading the result of the last call
  if (lane_number() == 0) of_warps[warp_number()] = of_warp;
  __syncthreads();
  Value result = of_warps[0];
#pragma unroll
  for (int warp = 1; warp < warps; ++warp) combine(result, of_warps[warp]);
  return result;
}

// The sum over a block's threads, by the function add(sum, other) that belongs to the values.
template <class Value>
__device__ inline Value block_sum(const Value& value) {
  return block_reduce(value, [](Value& sum, const Value& other) { add(sum, other); });
}

// Combines values to the largest.
struct KeepLarger {
  template <class Value>
  __device__ void operator()(Value& largest, const Value& other) const {
    if (other > largest) largest = other;
  }
};

}  // namespace marginseg
