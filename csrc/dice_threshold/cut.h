// The arithmetic of Dice at a cut, shared by CPU and GPU.
//
// Masses are sums of two doubles (Knuth's TwoSum), some 106 bits: whatever the order of the values,
// the mass and the Dice rounded from it are the same. That is why the iteration and the sorted scan
// agree to the last bit, on any number of threads and with any instruction set.
#pragma once

#include <math.h>

#include <cstdint>

#include "common/host_device.h"
#include "common/instruction_set.h"

namespace marginseg::dice_threshold {

// An unevaluated sum high + low.
struct Sum {
  double high;
  double low;
};

// What {m >= t} holds.
struct Cut {
  Sum mass;
  int64_t volume;
};

inline namespace MARGINSEG_INSTRUCTION_SET {

constexpr Cut empty_cut{{0.0, 0.0}, 0};

MARGINSEG_HOST_DEVICE inline void add(Sum& sum, const double value) {
  const double total = sum.high + value;
  const double shadow = total - sum.high;
  sum.low += (sum.high - (total - shadow)) + (value - shadow);
  sum.high = total;
}

MARGINSEG_HOST_DEVICE inline void add(Sum& sum, const Sum& other) {
  add(sum, other.high);
  sum.low += other.low;
}

MARGINSEG_HOST_DEVICE inline void add(Cut& cut, const Cut& other) {
  add(cut.mass, other.mass);
  cut.volume += other.volume;
}

// The same sum with |low| <= ulp(high) / 2.
MARGINSEG_HOST_DEVICE inline Sum normalised(const Sum& sum) {
  const double total = sum.high + sum.low;
  return {total, sum.low - (total - sum.high)};
}

// D = 2 A / (S + n): A the mass within the cut, n its volume, S the mass of the whole map. The
// quotient of the high parts is corrected by its remainder, which keeps the low parts' share.
MARGINSEG_HOST_DEVICE inline double dice_of(const Cut& cut, const Sum& whole) {
  Sum denominator = whole;
  add(denominator, static_cast<double>(cut.volume));
  const Sum below = normalised(denominator);
  const Sum mass = normalised(cut.mass);
  const Sum above{2.0 * mass.high, 2.0 * mass.low};
  const double quotient = above.high / below.high;
  const double remainder =
      fma(-quotient, below.high, above.high) + (above.low - quotient * below.low);
  return quotient + remainder / below.high;
}

}  // namespace MARGINSEG_INSTRUCTION_SET
}  // namespace marginseg::dice_threshold
