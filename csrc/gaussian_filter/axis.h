#pragma once

#include <cstdint>

namespace marginseg {

// One axis of the filter: its size and the radius + 1 weights w[0..radius] of the symmetric kernel.
struct FilterAxis {
  int64_t size;
  const double* weights;
  int64_t radius;
};

}  // namespace marginseg
