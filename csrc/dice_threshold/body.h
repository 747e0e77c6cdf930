// The arithmetic of Dice at a cut.
//
// Masses are sums of two doubles (Knuth's TwoSum), some 106 bits: whatever the order of the values,
// the mass and the Dice rounded from it are the same. That is why the iteration and the sorted scan
// agree to the last bit, on any number of threads.
#pragma once

#include <cmath>
#include <cstdint>

namespace marginseg::dice {

// An unevaluated sum high + low, |low| <= ulp(high) / 2.
struct Sum {
  double high = 0.0;
  double low = 0.0;

  void add(const double value) {
    const double total = high + value;
    const double shadow = total - high;
    low += (high - (total - shadow)) + (value - shadow);
    high = total;
  }

  void add(const Sum& other) {
    add(other.high);
    low += other.low;
  }

  Sum normalised() const {
    const double total = high + low;
    return {total, low - (total - high)};
  }
};

// What {m >= t} holds.
struct Cut {
  Sum mass;
  int64_t volume = 0;

  void add(const Cut& other) {
    mass.add(other.mass);
    volume += other.volume;
  }
};

// D = 2 A / (S + n): A the mass within the cut, n its volume, S the mass of the whole map.
inline double dice_of(const Cut& cut, const Sum& whole) {
  Sum denominator = whole;
  denominator.add(static_cast<double>(cut.volume));
  const Sum below = denominator.normalised();
  const Sum mass = cut.mass.normalised();
  const Sum above{2.0 * mass.high, 2.0 * mass.low};
  const double quotient = above.high / below.high;
  const double remainder =
      std::fma(-quotient, below.high, above.high) + (above.low - quotient * below.low);
  return quotient + remainder / below.high;
}

}  // namespace marginseg::dice
