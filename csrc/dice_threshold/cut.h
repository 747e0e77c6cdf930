// The arithmetic of Dice, and of the other F_beta, at a cut. Shared by CPU and GPU.
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
//
// F_beta needs the products w S and (1 + w) A besides, w = beta^2. They are rounded, after the sums
// and in one way only, by some 2^-105 of themselves: where the sums are exact, F has the same bits
// in any order too, and is the exact one rounded unless that lies so close to a middle.
#pragma once

#include <math.h>

#include <cstdint>
#include <limits>

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

// What is to be as large as it can be for a map: F = (1 + w) A / (w S + n), A the mass within the
// cut, n its volume, S the mass of the whole map, w = beta^2. Dice is w = 1.
struct Overlap {
  double weight;  // w
  Sum whole;      // w S
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

// The product of two normalised sums.
MARGINSEG_HOST_DEVICE inline Sum product(const Sum& left, const Sum& right) {
  const double high = left.high * right.high;
  return {high,
          fma(left.high, right.high, -high) + (left.high * right.low + left.low * right.high)};
}

// S is taken as it is for Dice, with the bits that it has. Else it is normalised first: then equal
// sums have equal products. What is left of none is more than nothing, for F divides by it where
// the cut is empty.
MARGINSEG_HOST_DEVICE inline Overlap overlap_of(const Sum& whole, const double weight) {
  if (weight == 1.0) return {weight, whole};
  const Sum weighted = product({weight, 0.0}, normalised(whole));
  if (weighted.high == 0.0) return {weight, {std::numeric_limits<double>::denorm_min(), 0.0}};
  return {weight, weighted};
}

// above / (w S + n). The quotient of the high parts is corrected by its remainder, which keeps the
// low parts' share.
MARGINSEG_HOST_DEVICE inline double over_volumes(const Sum& above, const int64_t volume,
                                                 const Overlap& overlap) {
  Sum denominator = overlap.whole;
  add(denominator, static_cast<double>(volume));
  const Sum below = normalised(denominator);
  const double quotient = above.high / below.high;
  const double remainder =
      fma(-quotient, below.high, above.high) + (above.low - quotient * below.low);
  return quotient + remainder / below.high;
}

// F of a cut.
MARGINSEG_HOST_DEVICE inline double value_of(const Cut& cut, const Overlap& overlap) {
  Sum factor{1.0, 0.0};
  add(factor, overlap.weight);
  return over_volumes(product(normalised(factor), normalised(cut.mass)), cut.volume, overlap);
}

// 2 A / (w S + n), which is Dice for w = 1. With T(t) that of {m >= t}, a threshold t is at most
// t* = sup F / (1 + w) exactly where t <= T(t) / 2, and t* = sup T / 2. The search is for the
// largest T: halved it is a threshold, with one rounding less than a quotient of F.
MARGINSEG_HOST_DEVICE inline double twice_threshold(const Cut& cut, const Overlap& overlap) {
  const Sum mass = normalised(cut.mass);
  return over_volumes({2.0 * mass.high, 2.0 * mass.low}, cut.volume, overlap);
}

}  // namespace MARGINSEG_INSTRUCTION_SET
}  // namespace marginseg::dice_threshold
