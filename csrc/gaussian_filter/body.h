// The arithmetic of one filtered line, in a bundle of `lanes` lines side by side.
#pragma once

#include <cstdint>

namespace marginseg::gaussian_filter {

// Lines are filtered this many at a time, so that the innermost loop runs over independent
// neighbours in memory.
constexpr int64_t lanes = 16;

// `size` positions of `lanes` values each.
struct Bundle {
  double* data;
  double* operator[](const int64_t position) const { return data + position * lanes; }
};

// output = sum_{k = -radius}^{radius} w[|k|] bundle[centre + k], lane by lane.
inline void correlate(const Bundle bundle, const int64_t centre, const double* const weights,
                      const int64_t radius, double* const output) {
  const double* const middle = bundle[centre];
  for (int64_t lane = 0; lane < lanes; ++lane) output[lane] = weights[0] * middle[lane];
  for (int64_t k = 1; k <= radius; ++k) {
    const double* const before = bundle[centre - k];
    const double* const after = bundle[centre + k];
    for (int64_t lane = 0; lane < lanes; ++lane) {
      output[lane] += weights[k] * (before[lane] + after[lane]);
    }
  }
}

}  // namespace marginseg::gaussian_filter
