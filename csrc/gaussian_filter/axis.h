#pragma once

#include <cstdint>

namespace marginseg::gaussian_filter {

// One axis of the filter: its size and the radius + 1 weights w[0..radius] of the symmetric kernel.
// They are numbers of the type in which the filter adds, so that nothing is lost by a cast to it.
struct Axis {
  int64_t size;
  const double* weights;
  int64_t radius;
};

}  // namespace marginseg::gaussian_filter
