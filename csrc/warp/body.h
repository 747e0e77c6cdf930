// The arithmetic of one warped point, shared by CPU and GPU.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/extension.h"

namespace marginseg::warping {

template <int N>
struct Shape {
  int64_t size[N];
};

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

// Beyond this the position of a voxel means nothing; it keeps the conversion to int64 defined.
constexpr double farthest = 1e15;

template <class T>
T bounded(const T position) {
  if (position > T(farthest)) return T(farthest);
  if (position < T(-farthest)) return T(-farthest);
  return position;
}

template <int N>
int64_t place_of(const int64_t (&index)[N], const Shape<N>& shape, const Extension extension) {
  int64_t place = 0;
  for (int axis = 0; axis < N; ++axis) {
    const int64_t inside = extend(index[axis], shape.size[axis], extension);
    if (inside == outside) return outside;
    place = place * shape.size[axis] + inside;
  }
  return place;
}

// False where a coordinate is NaN.
template <int N, class T>
bool is_number(const T (&position)[N]) {
  bool number = true;
  for (int axis = 0; axis < N; ++axis) number = number && position[axis] == position[axis];
  return number;
}

template <int N, class T>
int64_t nearest_place(const T (&position)[N], const Shape<N>& shape, const Extension extension) {
  int64_t index[N];
  for (int axis = 0; axis < N; ++axis) {
    index[axis] = static_cast<int64_t>(std::floor(bounded(position[axis]) + T(0.5)));
  }
  return place_of<N>(index, shape, extension);
}

template <int N, class T>
Corners<N, T> linear_corners(const T (&position)[N], const Shape<N>& shape,
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

template <int N, class T>
T value_at(const T* const image, const int64_t place, const T cval) {
  return place == outside ? cval : image[place];
}

template <int N, class T>
T interpolate(const T* const image, const Corners<N, T>& corners, const T cval) {
  T sum = 0;
  for (int corner = 0; corner < corners.count; ++corner) {
    sum += corners.weight[corner] * value_at<N>(image, corners.place[corner], cval);
  }
  return sum;
}

// A corner's weight, differentiated once with respect to the position along each axis in the set
// `axes` (bit i: axis i). Every factor is linear in its own axis, so a second time gives 0.
template <int N, class T>
T weight_derivative(const Corners<N, T>& corners, const int corner, const int axes) {
  T weight = 1;
  for (int axis = 0; axis < N; ++axis) {
    const int side = (corner >> axis) & 1;
    weight *= ((axes >> axis) & 1) != 0 ? (side != 0 ? T(1) : T(-1)) : corners.along[axis][side];
  }
  return weight;
}

// `interpolate`, differentiated likewise.
template <int N, class T>
T derivative(const T* const image, const Corners<N, T>& corners, const T cval, const int axes) {
  T sum = 0;
  for (int corner = 0; corner < corners.count; ++corner) {
    sum += weight_derivative<N>(corners, corner, axes) *
           value_at<N>(image, corners.place[corner], cval);
  }
  return sum;
}

// The label of largest interpolated weight; of equals the larger. For a binary label this is its
// linear interpolation cut at 1/2.
template <int N, class L, class T>
L heaviest_label(const L* const image, const Corners<N, T>& corners, const L cval) {
  L label[Corners<N, T>::count];
  bool same = true;
  for (int corner = 0; corner < corners.count; ++corner) {
    label[corner] = value_at<N>(image, corners.place[corner], cval);
    same = same && label[corner] == label[0];
  }
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

}  // namespace marginseg::warping
