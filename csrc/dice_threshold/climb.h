// The climb to t*, and the maps that need none. Shared by CPU and GPU.
#pragma once

#include <math.h>

#include <cstdint>
#include <limits>

#include "common/host_device.h"
#include "dice_threshold/cut.h"

namespace marginseg::dice_threshold {

// t* = sup F / (1 + w) of a map, sup F, and the volume of {m >= t*}.
struct Optimum {
  double threshold;
  double value;
  int64_t volume;
};

// A map with no mass is segmented as empty, which is right: F is 1, cut at 1 / (1 + w).
MARGINSEG_HOST_DEVICE constexpr Optimum nothing(const double weight) {
  return {1.0 / (1.0 + weight), 1.0, 0};
}

// What a map gets that holds NaN, or whose mass is infinite.
MARGINSEG_HOST_DEVICE constexpr Optimum unknown() {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  return {nan, nan, 0};
}

MARGINSEG_HOST_DEVICE inline bool is_known(const Sum& whole) {
  return whole.high - whole.high == 0.0;
}

// Whether the mass of the whole map says it all: then trivial_optimum() is the answer.
MARGINSEG_HOST_DEVICE inline bool is_trivial(const Sum& whole) {
  return !is_known(whole) || whole.high <= 0.0;
}

MARGINSEG_HOST_DEVICE inline Optimum trivial_optimum(const Sum& whole, const double weight) {
  return is_known(whole) ? nothing(weight) : unknown();
}

// The best of the cuts that it was shown.
class Best {
 public:
  // Returns T of the cut.
  MARGINSEG_HOST_DEVICE double show(const Cut& cut, const Overlap& overlap) {
    const double twice = twice_threshold(cut, overlap);
    if (twice > twice_ || (twice == twice_ && value_of(cut, overlap) > value(overlap))) {
      twice_ = twice;
      cut_ = cut;
    }
    return twice;
  }

  MARGINSEG_HOST_DEVICE double threshold() const { return twice_ / 2.0; }
  MARGINSEG_HOST_DEVICE double value(const Overlap& overlap) const {
    return twice_ > 0.0 ? value_of(cut_, overlap) : 0.0;
  }

 private:
  double twice_ = 0.0;
  Cut cut_ = empty_cut;
};

// sup F of a map, from a guess of t*. `map` has
//   cut(t)             {m >= t}
//   around(low, high)  the cuts at the values within [low, high), an object with
//     cut()            {m >= high} at first
//     widen()          adds the largest value that is not in the cut yet, with all that are equal;
//                      false where no value is left
//     volume(t)        the volume of {m >= t}, low <= t < high.
//
// T(t) / 2 of the cut {m >= t} is <= t*, and t -> T(t) / 2 climbs to its fixpoint t* (Dinkelbach's
// method for max A(s) - t (w S + n(s)), whose maximiser is {m >= t}). It ends where the rounded T
// no longer grows, within a few roundings of 2 t*; the few cuts around are then compared one by
// one.
template <class Map>
MARGINSEG_HOST_DEVICE Optimum climb(const Map& map, const Overlap& overlap, const double start) {
  double reached = 0.0;
  for (double threshold = start;;) {
    for (;;) {
      const double twice = twice_threshold(map.cut(threshold), overlap);
      if (!(twice > reached)) break;
      reached = twice;
      threshold = twice / 2.0;
    }
    threshold = reached / 2.0;
    // 2^13 roundings of a double, and more than nothing where t* is close to 0.
    constexpr double least_margin = 16.0 * std::numeric_limits<double>::denorm_min();
    const double share = ldexp(threshold, -40);
    const double margin = share > least_margin ? share : least_margin;
    const double high = threshold + margin;
    auto cuts = map.around(threshold - margin, high);
    Best best;
    reached = best.show(cuts.cut(), overlap);
    threshold = reached / 2.0;
    if (threshold >= high) continue;  // t* lies further up
    while (cuts.widen()) best.show(cuts.cut(), overlap);
    return {best.threshold(), best.value(overlap), cuts.volume(best.threshold())};
  }
}

}  // namespace marginseg::dice_threshold
