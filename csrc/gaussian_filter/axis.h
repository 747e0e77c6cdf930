#pragma once

#include <cstdint>
#include <type_traits>

namespace marginseg::gaussian_filter {

// One axis of the filter: its size and the radius + 1 weights w[0..radius] of the symmetric kernel.
struct Axis {
  int64_t size;
  const double* weights;
  int64_t radius;

  // A weight as a T. That at the centre takes up what rounding the others to floats adds or takes
  // away: else what is constant would come out higher or lower by it, everywhere.
  template <class T>
  T weight(const int64_t k) const {
    if (k > 0 || std::is_same_v<T, double>) return static_cast<T>(weights[k]);
    double lost = 0.0;
    for (int64_t i = 1; i <= radius; ++i) {
      lost += weights[i] - static_cast<double>(static_cast<T>(weights[i]));
    }
    return static_cast<T>(weights[0] + 2.0 * lost);
  }
};

}  // namespace marginseg::gaussian_filter
