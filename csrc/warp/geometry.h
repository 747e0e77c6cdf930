#pragma once

#include <cstdint>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "common/extension.h"
#include "warp/place.h"

namespace marginseg::warp {

// What one warp works on: `batch` displacements of shape (n, *shape), each applied to `channels`
// images of shape `shape`. The images of one batch entry are contiguous; `input_stride` elements
// lie between two entries (0: one input, many displacements).
struct Geometry {
  int64_t batch;
  int64_t channels;
  std::vector<int64_t> shape;
  int64_t input_stride;
  Extension extension;
  bool linear;
};

template <int N, class Index = int64_t>
Shape<N, Index> shape_of(const std::vector<int64_t>& sizes) {
  Shape<N, Index> shape;
  for (int axis = 0; axis < N; ++axis) shape.size[axis] = static_cast<Index>(sizes[axis]);
  return shape;
}

// Calls function(std::integral_constant<int, N>{}) for the number N of spatial axes.
template <class Function>
void dispatch_axes(const size_t axes, const Function& function) {
  switch (axes) {
    case 1:
      return function(std::integral_constant<int, 1>{});
    case 2:
      return function(std::integral_constant<int, 2>{});
    case 3:
      return function(std::integral_constant<int, 3>{});
    default:
      throw std::invalid_argument("expected 1 to 3 spatial axes");
  }
}

}  // namespace marginseg::warp
