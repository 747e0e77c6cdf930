// A guess of t* from a sample of the map, and whether a pass over the map confirms it. Shared by
// CPU and GPU, which draw and add up their samples each in its own way.
#pragma once

#include <math.h>

#include <cstdint>
#include <limits>

#include "common/host_device.h"

namespace marginseg::dice_threshold {

// A sample of a smaller map would cost as much as the passes that it saves.
constexpr int64_t smallest_sampled = 1 << 15;

// Where the search for t* begins when nothing is known: t* lies in (0, 1 / (1 + w)].
MARGINSEG_HOST_DEVICE constexpr double middle_threshold(const double weight) {
  return 0.5 / (1.0 + weight);
}

// The smallest positive T that is not below `bound`. Among values of type T it cuts as `bound`
// does, except that zeros, which have no mass, are never in the cut.
template <class T>
MARGINSEG_HOST_DEVICE T rounded_up(const double bound) {
  constexpr T smallest = std::numeric_limits<T>::denorm_min();
  if (!(bound > static_cast<double>(smallest))) return smallest;
  const T rounded = static_cast<T>(bound);
  if (static_cast<double>(rounded) >= bound) return rounded;
  return nextafter(rounded, std::numeric_limits<T>::infinity());
}

// t* is most likely close to `threshold`, and almost certainly in the bracket [low, high).
struct Guess {
  double low;
  double threshold;
  double high;

  // Whether t* lies in the bracket, given T(t) of {m >= t} for t = low and t = high: a threshold t
  // is at most t* exactly where t <= T(t) / 2.
  MARGINSEG_HOST_DEVICE bool holds(const double twice_at_low, const double twice_at_high) const {
    return twice_at_low / 2.0 >= low && twice_at_high / 2.0 < high;
  }
};

// Iterates t -> T(t) / 2 = mass / (whole + volume) on a sample. With t the last threshold that it
// was asked for, `sample` has
//   moments(t)         `whole`, w times the sum of the sample, `mass` and `volume`, the sum and the
//                      number of its values from t on
//   error(moments, u)  the standard deviation of mass - u (whole + volume), mass and volume at t.
template <class Sample>
MARGINSEG_HOST_DEVICE Guess guess_from(Sample& sample, const double weight) {
  // A step of less than this share of t is less than a sample can tell. Where the steps are used up
  // before, the bracket may miss t*; then the whole map is searched.
  constexpr double settled = 1e-4;
  constexpr int most_steps = 16;
  const double middle = middle_threshold(weight);
  double threshold = middle;
  for (int step = 1;; ++step) {
    const auto moments = sample.moments(threshold);
    if (!(moments.whole > 0.0)) return {0.0, middle, 2.0 * middle};
    const double previous = threshold;
    const double slope = moments.whole + moments.volume;
    threshold = moments.mass / slope;
    if (step < most_steps && !(fabs(threshold - previous) <= settled * threshold)) continue;
    // t* solves mass - t (whole + volume) = 0, whose derivative is -(whole + volume). The bracket
    // reaches five standard deviations to either side, and ten times as far as the last step.
    const double reach = 5.0 * (sample.error(moments, threshold) / slope) + 1e-3 * threshold;
    return {threshold - reach, threshold, threshold + reach};
  }
}

}  // namespace marginseg::dice_threshold
