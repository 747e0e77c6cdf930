// The derivatives of a linearly interpolated value with respect to the image and to the position.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/extension.h"
#include "common/host_device.h"
#include "warp/interpolation.h"

namespace marginseg::warp {

// Calls function(axis) for each axis, as a constant: what is indexed by it can be registers.
template <int N, int first = 0, class Function>
MARGINSEG_HOST_DEVICE void for_each_axis(const Function& function) {
  if constexpr (first < N) {
    function(std::integral_constant<int, first>{});
    for_each_axis<N, first + 1>(function);
  }
}

// A corner's weight, differentiated once with respect to the position along each axis in the set
// `axes` (bit i: axis i). Every factor is linear in its own axis, so a second time gives 0.
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE T weight_derivative(const Corners<N, T, Index>& corners, const int corner,
                                          const int axes) {
  T weight = 1;
  for (int axis = 0; axis < N; ++axis) {
    const int side = (corner >> axis) & 1;
    weight *= ((axes >> axis) & 1) != 0 ? (side != 0 ? T(1) : T(-1)) : corners.along[axis][side];
  }
  return weight;
}

// `interpolate`, differentiated likewise.
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE T derivative(const Values<N, T>& values, const Corners<N, T, Index>& corners,
                                   const int axes) {
  T sum = 0;
  for (int corner = 0; corner < corners.count; ++corner) {
    sum += weight_derivative<N>(corners, corner, axes) * values.corner[corner];
  }
  return sum;
}

// The derivatives of out(w) = sum_k w_k I[k], w_k the weight of corner k of w + X(w), for the
// gradient g of out. scatter(place, value) adds to what stands at a place.

// dL/dI[k] += w_k g(w).
template <int N, class T, class Index, class Scatter>
MARGINSEG_HOST_DEVICE void spread_gradient(const Corners<N, T, Index>& corners, const T gradient,
                                           const Scatter& scatter) {
  for (int corner = 0; corner < corners.count; ++corner) {
    if (!corners.exists[corner]) continue;
    scatter(corners.place[corner], corners.weight[corner] * gradient);
  }
}

// dL/dX_i(w) += g(w) sum_k d_i w_k I[k], d_i the derivative along axis i.
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE void steer_gradient(const Corners<N, T, Index>& corners, const T gradient,
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
template <int N, class T, class Index, class Scatter>
MARGINSEG_HOST_DEVICE void spread_second(const Corners<N, T, Index>& corners, const T gradient,
                                         const T (&along)[N], const Scatter& scatter) {
  for (int corner = 0; corner < corners.count; ++corner) {
    if (!corners.exists[corner]) continue;
    T weight = 0;
    for (int axis = 0; axis < N; ++axis) {
      weight += along[axis] * weight_derivative<N>(corners, corner, 1 << axis);
    }
    scatter(corners.place[corner], weight * gradient);
  }
}

// dS/dX_j += g [ sum_k d_j w_k A[k] + sum_{i != j} B_i sum_k d_i d_j w_k I[k] ], and returns
// dS/dg = sum_k w_k A[k] + sum_i B_i sum_k d_i w_k I[k].
template <int N, class T, class Index>
MARGINSEG_HOST_DEVICE T steer_second(const Corners<N, T, Index>& corners, const T gradient,
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

}  // namespace marginseg::warp
