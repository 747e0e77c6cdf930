// The climb to t*, and the maps that need none. Shared by CPU and GPU.
#pragma once

#include <math.h>

#include <cstdint>
#include <limits>

#include "common/host_device.h"
#include "dice_threshold/cut.h"

namespace marginseg::dice_threshold {

// sup D of a map, and the volume of {m >= t*}, t* = sup D / 2.
struct Optimum {
  double dice;
  int64_t volume;
};

// A map with no mass is segmented as empty, which is right: Dice 1, cut at 1/2.
MARGINSEG_HOST_DEVICE constexpr Optimum nothing() { return {1.0, 0}; }

// What a map gets that holds NaN, or whose mass is infinite.
MARGINSEG_HOST_DEVICE constexpr Optimum unknown() {
  return {std::numeric_limits<double>::quiet_NaN(), 0};
}

MARGINSEG_HOST_DEVICE inline bool is_known(const Sum& whole) {
  return whole.high - whole.high == 0.0;
}

// Whether the mass of the whole map says it all: then trivial_optimum() is the answer.
MARGINSEG_HOST_DEVICE inline bool is_trivial(const Sum& whole) {
  return !is_known(whole) || whole.high <= 0.0;
}

MARGINSEG_HOST_DEVICE inline Optimum trivial_optimum(const Sum& whole) {
  return is_known(whole) ? nothing() : unknown();
}

// sup D of a map of mass `whole`, from a guess of t*. `map` has
//   cut(t)             {m >= t}
//   around(low, high)  the cuts at the values within [low, high), an object with
//     cut()            {m >= high} at first
//     widen()          adds the largest value that is not in the cut yet, with all that are equal;
//                      false where no value is left
//     volume(t)        the volume of {m >= t}, low <= t < high.
//
// D(t) of the cut {m >= t} is <= sup D, and t -> D(t) / 2 climbs to its fixpoint t* (Dinkelbach's
// method for max 2 A(s) - D (S + n(s)), whose maximiser is {m >= D/2}). It ends where the rounded D
// no longer grows, within a few roundings of t*; the few cuts around are then compared one by one.
template <class Map>
MARGINSEG_HOST_DEVICE Optimum climb(const Map& map, const Sum& whole, const double start) {
  double best = 0.0;
  for (double threshold = start;;) {
    for (;;) {
      const double dice = dice_of(map.cut(threshold), whole);
      if (!(dice > best)) break;
      best = dice;
      threshold = dice / 2.0;
    }
    threshold = best / 2.0;
    // 2^13 roundings of a double, and more than nothing where t* is close to 0.
    constexpr double least_margin = 16.0 * std::numeric_limits<double>::denorm_min();
    const double share = ldexp(threshold, -40);
    const double margin = share > least_margin ? share : least_margin;
    const double high = threshold + margin;
    auto cuts = map.around(threshold - margin, high);
    best = dice_of(cuts.cut(), whole);
    threshold = best / 2.0;
    if (threshold >= high) continue;  // t* lies further up
    while (cuts.widen()) {
      const double dice = dice_of(cuts.cut(), whole);
      if (dice > best) best = dice;
    }
    return {best, cuts.volume(best / 2.0)};
  }
}

}  // namespace marginseg::dice_threshold
