// Where a warped position lies in a volume: the place of its nearest voxel.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "common/extension.h"
#include "common/host_device.h"

namespace marginseg::warp {

// The sizes of a volume's axes. `Index` counts its voxels; int32_t takes a GPU fewer instructions
// than int64_t and does for volumes of up to `most_voxels`.
template <int N, class Index = int64_t>
struct Shape {
  Index size[N];
};

template <int N, class Index>
MARGINSEG_HOST_DEVICE Index volume_of(const Shape<N, Index>& shape) {
  Index volume = 1;
  for (int axis = 0; axis < N; ++axis) volume *= shape.size[axis];
  return volume;
}

// Volumes whose voxels Index = int32_t may count. Places of voxels up to two beyond every end,
// which may be computed though nothing is read there, are less than 6 volumes away from 0 and so do
// not overflow. Every index along an axis, and every period of an extension, is exact as a float;
// no image has a longer axis.
constexpr int64_t most_voxels = int64_t{1} << 28;
constexpr int64_t longest_axis = int64_t{1} << 20;

template <int N>
bool fits_int32(const Shape<N>& shape) {
  bool fits = volume_of(shape) <= most_voxels;
  for (int axis = 0; axis < N; ++axis) fits = fits && shape.size[axis] <= longest_axis;
  return fits;
}

// What lies beyond the ends of a volume is given as an Extension, or, for Index = int32_t, as one
// of these types, by which a kernel is compiled for one kind alone: nothing but cval, or the volume
// continued in one of the other ways.
struct Constant {};
struct Continued {
  Extension extension;
};
template <class Beyond>
using IndexFor = std::conditional_t<std::is_same_v<Beyond, Extension>, int64_t, int32_t>;

// Positions are cut to [-farthest, farthest], so that they can be converted to int64. No volume
// reaches as far.
constexpr double farthest = 1e15;

// Two selections, of which a GPU makes two instructions; NaN stays NaN.
template <class T>
MARGINSEG_HOST_DEVICE T bounded(const T position) {
  const T above = position < T(-farthest) ? T(-farthest) : position;
  return above > T(farthest) ? T(farthest) : above;
}

// A position within reach of int32_t in place of one very far away, on an axis that goes on: at the
// same distance from a voxel that extend() takes to the same index.
template <class T>
MARGINSEG_HOST_DEVICE T near(const T position, const int32_t size, const Extension extension) {
  constexpr T reach = T(1 << 30);
  if (position >= -reach && position <= reach) return position;
  const T floor = std::floor(position);
  auto index = static_cast<int64_t>(floor);
  if (extension == Extension::nearest) {
    index = index < 0 ? -2 : size;
  } else {
    index = modulo<int64_t>(index, period_of(size, extension));
  }
  return static_cast<T>(index) + (position - floor);
}

// The place of a voxel in memory, or `outside` where the extended volume has none.
template <int N, class Index>
MARGINSEG_HOST_DEVICE Index place_of(const int64_t (&index)[N], const Shape<N, Index>& shape,
                                     const Extension extension) {
  Index place = 0;
  for (int axis = 0; axis < N; ++axis) {
    const int64_t inside = extend(index[axis], shape.size[axis], extension);
    if (inside == outside) return outside;
    place = place * shape.size[axis] + static_cast<Index>(inside);
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
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE Index nearest_place(const T (&position)[N], const Shape<N, Index>& shape) {
  bool inside = true;
  Index place = 0;
  for (int axis = 0; axis < N; ++axis) {
    const T index = std::floor(position[axis] + T(0.5));
    inside = inside && index >= T(0) && index < static_cast<T>(shape.size[axis]);
    place = place * shape.size[axis] + (inside ? static_cast<Index>(index) : 0);
  }
  return inside ? place : static_cast<Index>(outside);
}

// The same in a volume that goes on beyond its ends, for positions that are numbers. Integers carry
// it all the way: to look inside the volume first, as above, takes a GPU more registers. Floor and
// conversion are one expression, of which GCC makes faster code than of a function for each.
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE Index nearest_place(const T (&position)[N], const Shape<N, Index>& shape,
                                          const Extension extension) {
  int64_t index[N];
  for (int axis = 0; axis < N; ++axis) {
    index[axis] = static_cast<int64_t>(std::floor(bounded(position[axis]) + T(0.5)));
  }
  return place_of<N>(index, shape, extension);
}

// The same for the kinds of which kernels know.
template <int N, class T>
MARGINSEG_HOST_DEVICE int32_t nearest_place(const T (&position)[N], const Shape<N, int32_t>& shape,
                                            Constant) {
  return nearest_place<N>(position, shape);
}

template <int N, class T>
MARGINSEG_HOST_DEVICE int32_t nearest_place(const T (&position)[N], const Shape<N, int32_t>& shape,
                                            const Continued beyond) {
  const int32_t inside = nearest_place<N>(position, shape);
  if (inside != outside) return inside;
  int32_t place = 0;
  for (int axis = 0; axis < N; ++axis) {
    const T half = near(bounded(position[axis]) + T(0.5), shape.size[axis], beyond.extension);
    const auto index = static_cast<int32_t>(std::floor(half));
    place = place * shape.size[axis] + extend(index, shape.size[axis], beyond.extension);
  }
  return place;
}

}  // namespace marginseg::warp
