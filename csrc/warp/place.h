// Where a moved voxel comes to lie in a volume: the place of the voxel that is nearest there.
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

// A position: a voxel, and by how much it is moved along each axis. The two are added as integers
// once the movement is split into its floor and the rest; a sum of floats would be rounded the more
// the longer the axis is.
template <int N, class T, class Index = int64_t>
struct Position {
  Index voxel[N];
  T moved[N];
};

// Volumes whose voxels Index = int32_t may count. Places of voxels up to two beyond every end,
// which may be computed though nothing is read there, are less than 6 volumes away from 0 and so do
// not overflow. No image has a longer axis.
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

// Movements are cut to [-farthest, farthest], so that an Index holds twice as much, and a voxel
// besides. No volume that it counts reaches as far.
template <class Index>
constexpr double farthest = sizeof(Index) == 8 ? 1e15 : double(1 << 29);

// Two selections, of which a GPU makes two instructions; NaN stays NaN.
template <class Index, class T>
MARGINSEG_HOST_DEVICE T bounded(const T moved) {
  constexpr T most = T(farthest<Index>);
  const T above = moved < -most ? -most : moved;
  return above > most ? most : above;
}

// The floor of a value that an Index can hold; some integer for NaN. A GPU has an instruction for
// all of it.
template <class Index, class T>
MARGINSEG_HOST_DEVICE Index floor_of(const T value) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(Index) == 4 && sizeof(T) == 4) return __float2int_rd(value);
  if constexpr (sizeof(Index) == 4 && sizeof(T) == 8) return __double2int_rd(value);
  if constexpr (sizeof(Index) == 8 && sizeof(T) == 4) return __float2ll_rd(value);
  if constexpr (sizeof(Index) == 8 && sizeof(T) == 8) return __double2ll_rd(value);
#else
  return value == value ? static_cast<Index>(std::floor(value)) : Index(0);
#endif
}

// A movement within reach of int32_t in place of a very far one, along an axis that goes on: one
// by which extend() finds the same voxels.
template <class T>
MARGINSEG_HOST_DEVICE T near(const T moved, const int32_t size, const Extension extension) {
  constexpr T reach = T(farthest<int32_t>);
  if (moved >= -reach && moved <= reach) return moved;
  const T floor = std::floor(moved);
  auto whole = static_cast<int64_t>(floor);
  if (extension == Extension::nearest) {
    whole = whole < 0 ? -2 - size : size;
  } else {
    whole = modulo<int64_t>(whole, period_of(size, extension));
  }
  return static_cast<T>(whole) + (moved - floor);
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
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE bool is_number(const Position<N, T, Index>& position) {
  bool number = true;
  for (int axis = 0; axis < N; ++axis) {
    number = number && position.moved[axis] == position.moved[axis];
  }
  return number;
}

// The index nearest to a position along one axis, floor(position + 1/2). It is exact: nothing is
// rounded where a movement is doubled, and half of the floor, rounded up, is an integer's matter.
template <class T, class Index>
MARGINSEG_HOST_DEVICE Index nearest_along(const Index voxel, const T moved) {
  const Index halves = floor_of<Index>(T(2) * moved);
  return voxel + (halves >> 1) + (halves & 1);
}

// The place of the voxel that is nearest to a position in the volume; `outside` for positions that
// lie elsewhere, and for NaN. nearest_to() in simd.cpp is the same for a vector of positions.
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE Index nearest_place(const Position<N, T, Index>& position,
                                          const Shape<N, Index>& shape) {
  bool inside = is_number(position);
  Index place = 0;
  for (int axis = 0; axis < N; ++axis) {
    const Index index = nearest_along(position.voxel[axis], bounded<Index>(position.moved[axis]));
    inside = inside && index >= 0 && index < shape.size[axis];
    place = place * shape.size[axis] + (inside ? index : 0);
  }
  return inside ? place : static_cast<Index>(outside);
}

// The same in a volume that goes on beyond its ends, for positions that are numbers.
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE Index nearest_place(const Position<N, T, Index>& position,
                                          const Shape<N, Index>& shape, const Extension extension) {
  int64_t index[N];
  for (int axis = 0; axis < N; ++axis) {
    index[axis] =
        nearest_along<T, int64_t>(position.voxel[axis], bounded<int64_t>(position.moved[axis]));
  }
  return place_of<N>(index, shape, extension);
}

// The same for the kinds of which kernels know.
template <int N, class T>
MARGINSEG_HOST_DEVICE int32_t nearest_place(const Position<N, T, int32_t>& position,
                                            const Shape<N, int32_t>& shape, Constant) {
  return nearest_place<N>(position, shape);
}

template <int N, class T>
MARGINSEG_HOST_DEVICE int32_t nearest_place(const Position<N, T, int32_t>& position,
                                            const Shape<N, int32_t>& shape,
                                            const Continued beyond) {
  const int32_t inside = nearest_place<N>(position, shape);
  if (inside != outside) return inside;
  int32_t place = 0;
  for (int axis = 0; axis < N; ++axis) {
    const int32_t size = shape.size[axis];
    const T moved = near(bounded<int64_t>(position.moved[axis]), size, beyond.extension);
    const int32_t index = nearest_along(position.voxel[axis], moved);
    place = place * size + extend(index, size, beyond.extension);
  }
  return place;
}

}  // namespace marginseg::warp
