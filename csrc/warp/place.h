// Where a warped position lies in a volume: the place of its nearest voxel.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/extension.h"
#include "common/host_device.h"

namespace marginseg::warp {

template <int N>
struct Shape {
  int64_t size[N];
};

template <int N>
MARGINSEG_HOST_DEVICE int64_t volume_of(const Shape<N>& shape) {
  int64_t volume = 1;
  for (int axis = 0; axis < N; ++axis) volume *= shape.size[axis];
  return volume;
}

// Positions are cut to [-farthest, farthest], so that they can be converted to int64. No volume
// reaches as far.
constexpr double farthest = 1e15;

template <class T>
MARGINSEG_HOST_DEVICE T bounded(const T position) {
  if (position > T(farthest)) return T(farthest);
  if (position < T(-farthest)) return T(-farthest);
  return position;
}

// The place of a voxel in memory, or `outside` where the extended volume has none.
template <int N>
MARGINSEG_HOST_DEVICE int64_t place_of(const int64_t (&index)[N], const Shape<N>& shape,
                                       const Extension extension) {
  int64_t place = 0;
  for (int axis = 0; axis < N; ++axis) {
    const int64_t inside = extend(index[axis], shape.size[axis], extension);
    if (inside == outside) return outside;
    place = place * shape.size[axis] + inside;
  }
  return place;
}

// Whether no coordinate is NaN.
template <int N, class T>
MARGINSEG_HOST_DEVICE bool is_number(const T (&position)[N]) {
  bool number = true;
  for (int axis = 0; axis < N; ++axis) number = number && position[axis] == position[axis];
  return number;
}

// The place of the voxel that is nearest to a position in the volume, floor(position + 1/2) along
// each axis; `outside` for positions that lie elsewhere, and for NaN, which fails both comparisons.
// nearest_to() in simd.cpp is the same for a vector of positions.
template <int N, class T>
MARGINSEG_HOST_DEVICE int64_t nearest_place(const T (&position)[N], const Shape<N>& shape) {
  bool inside = true;
  int64_t place = 0;
  for (int axis = 0; axis < N; ++axis) {
    const T index = std::floor(position[axis] + T(0.5));
    inside = inside && index >= T(0) && index < static_cast<T>(shape.size[axis]);
    place = place * shape.size[axis] + (inside ? static_cast<int64_t>(index) : 0);
  }
  return inside ? place : outside;
}

// The same in a volume that goes on beyond its ends, for positions that are numbers. Integers carry
// it all the way: to look inside the volume first, as above, takes a GPU more registers. Floor and
// conversion are one expression, of which GCC makes faster code than of a function for each.
template <int N, class T>
MARGINSEG_HOST_DEVICE int64_t nearest_place(const T (&position)[N], const Shape<N>& shape,
                                            const Extension extension) {
  int64_t index[N];
  for (int axis = 0; axis < N; ++axis) {
    index[axis] = static_cast<int64_t>(std::floor(bounded(position[axis]) + T(0.5)));
  }
  return place_of<N>(index, shape, extension);
}

}  // namespace marginseg::warp
