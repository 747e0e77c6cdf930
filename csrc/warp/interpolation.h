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

// The 2^N corners around a point: where they are (`outside` for none) and how much each weighs.
// Bit i of a corner's number says on which side of the point it lies along axis i.
template <int N, class T>
struct Corners {
  static constexpr int count = 1 << N;
  int64_t place[count];
  T weight[count];
  // along[i][side]: the weight of a side of axis i; a corner's is the product over axes.
  T along[N][2];
};

template <int N, class T>
MARGINSEG_HOST_DEVICE Corners<N, T> linear_corners(const T (&position)[N], const Shape<N>& shape,
                                                   const Extension extension) {
  Corners<N, T> corners;
  int64_t index[N][2];
  for (int axis = 0; axis < N; ++axis) {
    const T inside = bounded(position[axis]);
    const T floor = std::floor(inside);
    const auto first = static_cast<int64_t>(floor);
    for (int side = 0; side < 2; ++side) {
      index[axis][side] = extend(first + side, shape.size[axis], extension);
    }
    corners.along[axis][1] = inside - floor;
    corners.along[axis][0] = T(1) - corners.along[axis][1];
  }
  for (int corner = 0; corner < corners.count; ++corner) {
    bool exists = true;
    int64_t place = 0;
    T weight = 1;
    for (int axis = 0; axis < N; ++axis) {
      const int side = (corner >> axis) & 1;
      exists = exists && index[axis][side] != outside;
      place = place * shape.size[axis] + index[axis][side];
      weight *= corners.along[axis][side];
    }
    corners.place[corner] = exists ? place : outside;
    corners.weight[corner] = weight;
  }
  return corners;
}

template <class T>
MARGINSEG_HOST_DEVICE T value_at(const T* const image, const int64_t place, const T cval) {
  return place == outside ? cval : image[place];
}

// The values at the corners.
template <int N, class V>
struct Values {
  V corner[1 << N];
};

template <int N, class V, class T>
MARGINSEG_HOST_DEVICE Values<N, V> values_at(const V* const image, const Corners<N, T>& corners,
                                             const V cval) {
  Values<N, V> values;
  for (int corner = 0; corner < corners.count; ++corner) {
    values.corner[corner] = value_at(image, corners.place[corner], cval);
  }
  return values;
}

template <int N, class T>
MARGINSEG_HOST_DEVICE T interpolate(const Values<N, T>& values, const Corners<N, T>& corners) {
  T sum = 0;
  for (int corner = 0; corner < corners.count; ++corner) {
    sum += corners.weight[corner] * values.corner[corner];
  }
  return sum;
}

// The label whose corners have the largest weight together; of two with equal weights, the larger
// one. For a binary label this is its linear interpolation, cut at 1/2.
template <int N, class L, class T>
MARGINSEG_HOST_DEVICE L heaviest_label(const L* const image, const Corners<N, T>& corners,
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
template <int N, class V, class T>
MARGINSEG_HOST_DEVICE V warped_value(const V* const image, const T (&position)[N],
                                     const Shape<N>& shape, const Extension extension,
                                     const bool linear, const V cval) {
  if (!is_number(position)) {
    if constexpr (std::is_floating_point_v<V>) return std::numeric_limits<V>::quiet_NaN();
    return cval;
  }
  if (!linear) return value_at(image, nearest_place<N>(position, shape, extension), cval);
  const auto corners = linear_corners<N>(position, shape, extension);
  if constexpr (std::is_floating_point_v<V>) {
    return interpolate<N>(values_at<N>(image, corners, cval), corners);
  } else {
    return heaviest_label<N>(image, corners, cval);
  }
}

}  // namespace marginseg::warp
