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
  __device__ __forceinline__ bool nearest(const warp::Position<N, float, int32_t>& position,
                                          uint32_t& place) const {
    bool inside = true;
    place = 0;
#pragma unroll
    for (int axis = 0; axis < N; ++axis) {
      const uint32_t index =
          nearest_along(static_cast<uint32_t>(position.voxel[axis]), position.moved[axis]);
      inside = inside && index < size[axis];
      place = place * size[axis] + index;
    }
    return inside;
  }

 private:
  static constexpr int64_t longest = int64_t{1} << 21;

  // Floats of [2^22, 2^23) are the multiples of 1/2, in order. The sum of `origin` and a movement
  // of less than 2^21 voxels, rounded down, is therefore floor(2 moved) floats beyond `origin`, and
  // half of that, rounded up, is floor(moved + 1/2): `origin` is half a voxel after `first` for
  // that, so that a shift to the right, which rounds down, does it. All other sums, infinite ones
  // and NaN among them, are floats that differ from `first` by at least 2^22 as integers that wrap
  // around, and their halves take no voxel of so short an axis to another.
  __device__ __forceinline__ static uint32_t nearest_along(const uint32_t voxel,
                                                           const float moved) {
    constexpr float origin = 6291456.5f;
    constexpr uint32_t first = 0x4ac00000u;  // the bits of 6291456, 2^22 + 2^21
    const uint32_t halves = __float_as_uint(__fadd_rd(moved, origin)) - first + 2 * voxel;
    return static_cast<uint32_t>(static_cast<int32_t>(halves) >> 1);
  }
};

}  // namespace marginseg::sample
