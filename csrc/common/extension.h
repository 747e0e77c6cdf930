// How an axis goes on beyond its ends: SciPy's boundary modes as a map of indices.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace marginseg {

// The values are those of `marginseg.ops.boundary.MODES`.
enum class Extension : int { constant = 0, nearest = 1, reflect = 2, mirror = 3, wrap = 4 };

constexpr int64_t outside = -1;

// The index within [0, size) that stands at `index` of the extended axis, or `outside` for
// Extension::constant.
//   nearest  a a a | a b c d | d d d
//   reflect  c b a | a b c d | d c b
//   mirror   d c b | a b c d | c b a
//   wrap     b c d | a b c d | a b c
MARGINSEG_HOST_DEVICE constexpr int64_t extend(const int64_t index, const int64_t size,
                                               const Extension extension) {
  if (index >= 0 && index < size) return index;
  switch (extension) {
    case Extension::constant:
      return outside;
    case Extension::nearest:
      return index < 0 ? 0 : size - 1;
    case Extension::wrap: {
      const int64_t remainder = index % size;
      return remainder < 0 ? remainder + size : remainder;
    }
    case Extension::reflect: {
      const int64_t period = 2 * size;
      const int64_t remainder = index % period;
      const int64_t phase = remainder < 0 ? remainder + period : remainder;
      return phase < size ? phase : period - 1 - phase;
    }
    case Extension::mirror: {
      if (size == 1) return 0;
      const int64_t period = 2 * size - 2;
      const int64_t remainder = index % period;
      const int64_t phase = remainder < 0 ? remainder + period : remainder;
      return phase < size ? phase : period - phase;
    }
  }
  return outside;
}

}  // namespace marginseg
