// The arithmetic of one warped point, shared by CPU and GPU.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/extension.h"
#include "common/host_device.h"

namespace marginseg::warping {

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

// Calls function(axis) for each axis, as a constant: what is indexed by it can be registers.
template <int N, int first = 0, class Function>
MARGINSEG_HOST_DEVICE void for_each_axis(const Function& function) {
  if constexpr (first < N) {
    function(std::integral_constant<int, first>{});
    for_each_axis<N, first + 1>(function);
  }
}

// Beyond this the position of a voxel means nothing; it keeps the conversion to int64 defined.
constexpr double farthest = 1e15;

template <class T>
MARGINSEG_HOST_DEVICE T bounded(const T position) {
  if (position > T(farthest)) return T(farthest);
  if (position < T(-farthest)) return T(-farthest);
  return position;
}

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

// False where a coordinate is NaN.
template <int N, class T>
MARGINSEG_HOST_DEVICE bool is_number(const T (&position)[N]) {
  bool number = true;
  for (int axis = 0; axis < N; ++axis) number = number && position[axis] == position[axis];
  return number;
}

template <int N, class T>
MARGINSEG_HOST_DEVICE int64_t nearest_place(const T (&position)[N], const Shape<N>& shape,
                                            const Extension extension) {
  int64_t index[N];
  for (int axis = 0; axis < N; ++axis) {
    index[axis] = static_cast<int64_t>(std::floor(bounded(position[axis]) + T(0.5)));
  }
  return place_of<N>(index, shape, extension);
}

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

template <int N, class T>
MARGINSEG_HOST_DEVICE T value_at(const T* const image, const int64_t place, const T cval) {
  return place == outside ? cval : image[place];
}

// What stands at the corners.
template <int N, class V>
struct Values {
  V corner[1 << N];
};

template <int N, class V, class T>
MARGINSEG_HOST_DEVICE Values<N, V> values_at(const V* const image, const Corners<N, T>& corners,
                                             const V cval) {
  Values<N, V> values;
  for (int corner = 0; corner < corners.count; ++corner) {
    values.corner[corner] = value_at<N>(image, corners.place[corner], cval);
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

// A corner's weight, differentiated once with respect to the position along each axis in the set
// `axes` (bit i: axis i). Every factor is linear in its own axis, so a second time gives 0.
template <int N, class T>
MARGINSEG_HOST_DEVICE T weight_derivative(const Corners<N, T>& corners, const int corner,
                                          const int axes) {
  T weight = 1;
  for (int axis = 0; axis < N; ++axis) {
    const int side = (corner >> axis) & 1;
    weight *= ((axes >> axis) & 1) != 0 ? (side != 0 ? T(1) : T(-1)) : corners.along[axis][side];
  }
  return weight;
}

// `interpolate`, differentiated likewise.
template <int N, class T>
MARGINSEG_HOST_DEVICE T derivative(const Values<N, T>& values, const Corners<N, T>& corners,
                                   const int axes) {
  T sum = 0;
  for (int corner = 0; corner < corners.count; ++corner) {
    sum += weight_derivative<N>(corners, corner, axes) * values.corner[corner];
  }
  return sum;
}

// The label of largest interpolated weight; of equals the larger. For a binary label this is its
// linear interpolation cut at 1/2.
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
  if (!linear) return value_at<N>(image, nearest_place<N>(position, shape, extension), cval);
  const auto corners = linear_corners<N>(position, shape, extension);
  if constexpr (std::is_floating_point_v<V>) {
    return interpolate<N>(values_at<N>(image, corners, cval), corners);
  } else {
    return heaviest_label<N>(image, corners, cval);
  }
}

// The derivatives of out(w) = sum_k w_k I[k], w_k the weight of corner k of w + X(w), for the
// gradient g of out. scatter(place, value) adds to what stands at a place.

// dL/dI[k] += w_k g(w).
template <int N, class T, class Scatter>
MARGINSEG_HOST_DEVICE void spread_gradient(const Corners<N, T>& corners, const T gradient,
                                           const Scatter& scatter) {
  for (int corner = 0; corner < corners.count; ++corner) {
    if (corners.place[corner] == outside) continue;
    scatter(corners.place[corner], corners.weight[corner] * gradient);
  }
}

// dL/dX_i(w) += g(w) sum_k d_i w_k I[k], d_i the derivative along axis i.
template <int N, class T>
MARGINSEG_HOST_DEVICE void steer_gradient(const Corners<N, T>& corners, const T gradient,
                                          const T* const image, const T cval, T (&sum)[N]) {
  const Values<N, T> values = values_at<N>(image, corners, cval);
  for_each_axis<N>([&](const auto axis) {
    sum[axis.value] += gradient * derivative<N>(values, corners, 1 << axis.value);
  });
}

// Second derivatives. With A and B the weights given to dL/dI and dL/dX,
//   S = sum_w g(w) [ sum_k w_k A[k] + sum_i B_i(w) sum_k d_i w_k I[k] ]
// is differentiated, summed over the channels too. Outside, A is 0 and I is cval.

// dS/dI[k] += g(w) sum_i B_i(w) d_i w_k.
template <int N, class T, class Scatter>
MARGINSEG_HOST_DEVICE void spread_second(const Corners<N, T>& corners, const T gradient,
                                         const T (&along)[N], const Scatter& scatter) {
  for (int corner = 0; corner < corners.count; ++corner) {
    if (corners.place[corner] == outside) continue;
    T weight = 0;
    for (int axis = 0; axis < N; ++axis) {
      weight += along[axis] * weight_derivative<N>(corners, corner, 1 << axis);
    }
    scatter(corners.place[corner], weight * gradient);
  }
}

// dS/dX_j += g [ sum_k d_j w_k A[k] + sum_{i != j} B_i sum_k d_i d_j w_k I[k] ], and returns
// dS/dg = sum_k w_k A[k] + sum_i B_i sum_k d_i w_k I[k].
template <int N, class T>
MARGINSEG_HOST_DEVICE T steer_second(const Corners<N, T>& corners, const T gradient,
                                     const T* const input_weight, const T (&along)[N],
                                     const T* const image, const T cval, T (&sum)[N]) {
  const Values<N, T> weights = values_at<N>(input_weight, corners, T(0));
  const Values<N, T> values = values_at<N>(image, corners, cval);
  T response = interpolate<N>(weights, corners);
  for_each_axis<N>([&](const auto j) {
    T slope = derivative<N>(weights, corners, 1 << j.value);
    for_each_axis<N>([&](const auto i) {
      if constexpr (i.value != j.value) {
        constexpr int both = (1 << i.value) | (1 << j.value);
        slope += along[i.value] * derivative<N>(values, corners, both);
      }
    });
    sum[j.value] += gradient * slope;
    response += along[j.value] * derivative<N>(values, corners, 1 << j.value);
  });
  return response;
}

}  // namespace marginseg::warping
