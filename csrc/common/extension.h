// How an axis goes on beyond its ends: SciPy's boundary modes as a map of indices.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace marginseg {

// The values are those of `marginseg.ops.boundary.MODES`.
enum class Extension : int { constant = 0, nearest = 1, reflect = 2, mirror = 3, wrap = 4 };

constexpr int64_t outside = -1;

// `index` modulo `period`, within [0, period). Most are less than a period away and take no
// division, the slowest operation on integers.
template <class Index>
MARGINSEG_HOST_DEVICE constexpr Index modulo(const Index index, const Index period) {
  const Index near = index < 0 ? index + period : index;
  if (near >= 0 && near < period) return near;
  const Index remainder = index % period;
  return remainder < 0 ? remainder + period : remainder;
}

// After how many voxels an axis repeats itself, where it does.
template <class Index>
MARGINSEG_HOST_DEVICE constexpr Index period_of(const Index size, const Extension extension) {
  if (extension == Extension::reflect) return 2 * size;
  if (extension == Extension::mirror && size > 1) return 2 * size - 2;
  return size;
}

// The index within [0, size) that stands at `index` of the extended axis, or `outside` for
// Extension::constant.
//   nearest  a a a | a b c d | d d d
//   reflect  c b a | a b c d | d c b
//   mirror   d c b | a b c d | c b a
//   wrap     b c d | a b c d | a b c
template <class Index>
MARGINSEG_HOST_DEVICE constexpr Index extend(const Index index, const Index size,
                                             const Extension extension) {
  if (index >= 0 && index < size) return index;
  if (extension == Extension::constant) return static_cast<Index>(outside);
  if (extension == Extension::nearest) return index < 0 ? 0 : size - 1;
  const Index period = period_of(size, extension);
  const Index phase = modulo(index, period);
  if (phase < size) return phase;
  return extension == Extension::reflect ? period - 1 - phase : period - phase;
}

}  // namespace marginseg
