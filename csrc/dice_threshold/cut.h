// The arithmetic of Dice at a cut, shared by CPU and GPU.
//
// Masses are sums of two doubles (Knuth's TwoSum): the rounding of each addition goes to the low
// part. The low part is at most n 2^-53 times the mass of n values, so where all values are
// multiples of some q, each is <= 1, and n^2 <= 2^106 q, it is a multiple of q below 2^53 q, and
// nothing is ever rounded. The mass and the Dice rounded from it are then the same in any order of
// the values. So it is for every map of float16 (q = 2^-24), and for one of 2^27 float32 values if
// none lies between 0 and 2^-29.
//
// Elsewhere the roundings of the low parts remain, at most n^2 2^-106 of the mass together and
// some n 2^-107 of it as they mostly cancel. The iteration and the sorted scan then still agree to
// the last bit, on any number of threads, with any instruction set and on a GPU, unless the exact
// Dice lies so close to the middle between two doubles, which about one map in 2^53 / n does.
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
