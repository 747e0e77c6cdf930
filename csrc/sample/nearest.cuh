// The voxel nearest to a position, in few instructions.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "warp/place.h"

namespace marginseg::sample {

// A volume whose places are integers of 32 bits, and whose axes are short enough for the sum below.
template <int N>
struct SmallVolume {
  uint32_t size[N];

  static bool holds(const warp::Shape<N>& shape) {
    bool result = warp::volume_of(shape) <= INT32_MAX;
    for (const int64_t size : shape.size) result = result && size <= longest;
    return result;
  }

  explicit SmallVolume(const warp::Shape<N>& shape) {
    for (int axis = 0; axis < N; ++axis) size[axis] = static_cast<uint32_t>(shape.size[axis]);
  }

  // Finds the place of the voxel that warp::nearest_place() finds. Returns whether there is one.
  __device__ __forceinline__ bool nearest(const float (&position)[N], uint32_t& place) const {
    bool inside = true;
    place = 0;
#pragma unroll
    for (int axis = 0; axis < N; ++axis) {
      const uint32_t index = floor_of(position[axis] + 0.5f);
      inside = inside && index < size[axis];
      place = place * size[axis] + index;
    }
    return inside;
  }

 private:
  static constexpr int64_t longest = int64_t{1} << 23;

  // Floats of [2^23, 2^24) are the integers, in order. The sum of 2^23 and a value of [0, 2^23),
  // rounded down, is therefore 2^23 + floor(value), and lies floor(value) floats beyond 2^23. All
  // other sums, infinite ones and NaN among them, are floats that lie before 2^23 or at least 2^23
  // floats behind it, which differences that wrap around show as integers of 2^23 and more.
  __device__ __forceinline__ static uint32_t floor_of(const float value) {
    constexpr float first = 8388608.0f;                             // 2^23
    return __float_as_uint(__fadd_rd(value, first)) - 0x4b000000u;  // the bits of 2^23
  }
};

}  // namespace marginseg::sample
