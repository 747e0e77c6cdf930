// What tells where a deformation w -> w + X(w) folds over: the differences of the field, and the
// determinant of the deformation's Jacobian.
#pragma once

#include <cstdint>

#include "common/host_device.h"
#include "common/instruction_set.h"

namespace marginseg::folded_share {
inline namespace MARGINSEG_INSTRUCTION_SET {

// The derivative at a position of an axis, whose values lie `stride` apart: the central difference,
// the one-sided one at the ends, and 0 along an axis of one voxel. A field that is a product of
// factors is differentiated along an axis by taking the differences of that axis's factor.
template <class T>
MARGINSEG_HOST_DEVICE T slope(const T* const values, const int64_t position, const int64_t size,
                              const int64_t stride) {
  if (size == 1) return T(0);
  if (position == 0) return values[stride] - values[0];
  const T* const here = values + position * stride;
  if (position == size - 1) return here[0] - here[-stride];
  return (here[stride] - here[-stride]) * T(0.5);
}

// det(I + G), where G[i][j] is the derivative of component i along axis j. T is a number, or a
// vector of them.
template <class T>
MARGINSEG_HOST_DEVICE T determinant(const T (&g)[1][1]) {
  return g[0][0] + 1.0f;
}

template <class T>
MARGINSEG_HOST_DEVICE T determinant(const T (&g)[2][2]) {
  return (g[0][0] + 1.0f) * (g[1][1] + 1.0f) - g[0][1] * g[1][0];
}

template <class T>
MARGINSEG_HOST_DEVICE T determinant(const T (&g)[3][3]) {
  const T a = g[0][0] + 1.0f;
  const T b = g[1][1] + 1.0f;
  const T c = g[2][2] + 1.0f;
  return a * (b * c - g[1][2] * g[2][1]) - g[0][1] * (g[1][0] * c - g[1][2] * g[2][0]) +
         g[0][2] * (g[1][0] * g[2][1] - b * g[2][0]);
}

}  // namespace MARGINSEG_INSTRUCTION_SET
}  // namespace marginseg::folded_share
