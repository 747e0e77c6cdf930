// The value of an image or a label at a warped position: of the nearest voxel, or of the corners
// around, weighted by linear interpolation.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/extension.h"
#include "common/host_device.h"
#include "warp/place.h"

namespace marginseg::warp {

// The two voxels beside a position along one axis: the indices of those that exist in the extended
// volume, and how much each weighs.
template <class T, class Index>
struct Sides {
  Index index[2];
  bool exists[2];
  T weight[2];
};

// How much a position's fraction makes the voxels beside it weigh.
template <class T, class Index>
MARGINSEG_HOST_DEVICE void weigh(Sides<T, Index>& sides, const T fraction) {
  sides.weight[1] = fraction;
  sides.weight[0] = T(1) - fraction;
}

// A fraction just below 1 is rounded to it, where a voxel is moved back by next to nothing.
template <class T>
MARGINSEG_HOST_DEVICE Sides<T, int64_t> sides_of(const int64_t voxel, const T moved,
                                                 const int64_t size, const Extension extension) {
  const T within = bounded<int64_t>(moved);
  const int64_t first = voxel + floor_of<int64_t>(within);
  Sides<T, int64_t> sides;
  for (int side = 0; side < 2; ++side) {
    sides.index[side] = extend(first + side, size, extension);
    sides.exists[side] = sides.index[side] != outside;
  }
  weigh(sides, within - std::floor(within));
  return sides;
}

// The second index follows the first, whether they exist or not, so that a GPU reads both voxels by
// one address. Neither does two voxels away from the volume.
template <class T>
MARGINSEG_HOST_DEVICE Sides<T, int32_t> sides_of(const int32_t voxel, const T moved,
                                                 const int32_t size, Constant) {
  const T within = bounded<int32_t>(moved);
  const int32_t index = voxel + floor_of<int32_t>(within);
  const int32_t first = index < -2 ? -2 : index > size ? size : index;
  Sides<T, int32_t> sides;
  for (int side = 0; side < 2; ++side) {
    sides.index[side] = first + side;
    sides.exists[side] = static_cast<uint32_t>(first + side) < static_cast<uint32_t>(size);
  }
  weigh(sides, within - std::floor(within));
  return sides;
}

// Most voxels of a volume are moved to between two others, and for those no extension is asked.
template <class T>
MARGINSEG_HOST_DEVICE Sides<T, int32_t> sides_of(const int32_t voxel, const T moved,
                                                 const int32_t size, const Continued beyond) {
  const T within = near(bounded<int64_t>(moved), size, beyond.extension);
  const int32_t first = voxel + floor_of<int32_t>(within);
  const bool between = static_cast<uint32_t>(first) < static_cast<uint32_t>(size - 1);
  Sides<T, int32_t> sides;
  for (int side = 0; side < 2; ++side) {
    sides.index[side] = between ? first + side : extend(first + side, size, beyond.extension);
    sides.exists[side] = true;
  }
  weigh(sides, within - std::floor(within));
  return sides;
}

// The 2^N corners around a point: which of them exist, where they are, and how much each weighs.
// Bit i of a corner's number says on which side of the point it lies along axis i.
template <int N, class T, class Index = int64_t>
struct Corners {
  static constexpr int count = 1 << N;
  Index place[count];
  bool exists[count];
  T weight[count];
  // along[i][side]: the weight of a side of axis i; a corner's is the product over axes.
  T along[N][2];
};

template <int N, class T, class Index, class Beyond>
MARGINSEG_HOST_DEVICE Corners<N, T, Index> linear_corners(const Position<N, T, Index>& position,
                                                          const Shape<N, Index>& shape,
                                                          const Beyond beyond) {
  Corners<N, T, Index> corners;
  Sides<T, Index> sides[N];
  for (int axis = 0; axis < N; ++axis) {
    sides[axis] = sides_of(position.voxel[axis], position.moved[axis], shape.size[axis], beyond);
    for (int side = 0; side < 2; ++side) corners.along[axis][side] = sides[axis].weight[side];
  }
  for (int corner = 0; corner < corners.count; ++corner) {
    bool exists = true;
    Index place = 0;
    T weight = 1;
    for (int axis = 0; axis < N; ++axis) {
      const int side = (corner >> axis) & 1;
      exists = exists && sides[axis].exists[side];
      place = place * shape.size[axis] + sides[axis].index[side];
      weight *= sides[axis].weight[side];
    }
    corners.exists[corner] = exists;
    corners.place[corner] = place;
    corners.weight[corner] = weight;
  }
  return corners;
}

template <class T, class Index>
MARGINSEG_HOST_DEVICE T value_at(const T* const image, const Index place, const T cval) {
  return place == outside ? cval : image[place];
}

// The values at the corners.
template <int N, class V>
struct Values {
  V corner[1 << N];
};

template <int N, class V, class T, class Index>
MARGINSEG_HOST_DEVICE Values<N, V> values_at(const V* const image,
                                             const Corners<N, T, Index>& corners, const V cval) {
  Values<N, V> values;
  for (int corner = 0; corner < corners.count; ++corner) {
    values.corner[corner] = corners.exists[corner] ? image[corners.place[corner]] : cval;
  }
  return values;
}

template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE T interpolate(const Values<N, T>& values,
                                    const Corners<N, T, Index>& corners) {
  T sum = 0;
  for (int corner = 0; corner < corners.count; ++corner) {
    sum += corners.weight[corner] * values.corner[corner];
  }
  return sum;
}

// The label whose corners have the largest weight together; of two with equal weights, the larger
// one. For a binary label this is its linear interpolation, cut at 1/2.
template <int N, class L, class T, class Index>
MARGINSEG_HOST_DEVICE L heaviest_label(const L* const image, const Corners<N, T, Index>& corners,
                                       const L cval) {
  const Values<N, L> labels = values_at<N>(image, corners, cval);
  const auto& label = labels.corner;
  bool same = true;
  for (int corner = 1; corner < corners.count; ++corner) same = same && label[corner] == label[0];
  L best = label[0];
  if (same) return best;
  T best_weight = -1;
  for (int corner = 0; corner < corners.count; ++corner) {
    T weight = 0;
    for (int other = 0; other < corners.count; ++other) {
      if (label[other] == label[corner]) weight += corners.weight[other];
    }
    if (weight > best_weight || (weight == best_weight && label[corner] > best)) {
      best = label[corner];
      best_weight = weight;
    }
  }
  return best;
}

// An image or a label at a position.
template <int N, class V, class T, class Index, class Beyond>
MARGINSEG_HOST_DEVICE V warped_value(const V* const image, const Position<N, T, Index>& position,
                                     const Shape<N, Index>& shape, const Beyond beyond,
                                     const bool linear, const V cval) {
  // An image that ends needs no look: the weights of such a position are NaN themselves.
  constexpr bool weighs = std::is_same_v<Beyond, Constant> && std::is_floating_point_v<V>;
  if (!(weighs && linear) && !is_number(position)) {
    if constexpr (std::is_floating_point_v<V>) return std::numeric_limits<V>::quiet_NaN();
    return cval;
  }
  if (!linear) return value_at(image, nearest_place<N>(position, shape, beyond), cval);
  const auto corners = linear_corners<N>(position, shape, beyond);
  if constexpr (std::is_floating_point_v<V>) {
    return interpolate<N>(values_at<N>(image, corners, cval), corners);
  } else {
    return heaviest_label<N>(image, corners, cval);
  }
}

}  // namespace marginseg::warp
