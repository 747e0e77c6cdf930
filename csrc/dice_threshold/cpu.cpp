#include "dice_threshold/cpu.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "common/dispatch.h"
#include "common/parallel.h"
#include "common/parts.h"
#include "dice_threshold/simd.h"

namespace marginseg::dice_threshold {
namespace {

struct Optimum {
  double dice;
  int64_t volume;
};

// A map with no mass is segmented as empty, which is right: Dice 1, cut at 1/2.
constexpr Optimum nothing{1.0, 0};

// What a map with NaN gets.
constexpr Optimum unknown{std::numeric_limits<double>::quiet_NaN(), 0};

bool is_known(const Sum& whole) { return std::isfinite(whole.high); }

// The smallest T that is not below `bound`, and not 0.
template <class T>
T rounded_up(const double bound) {
  constexpr T smallest = std::numeric_limits<T>::denorm_min();
  if (!(bound > static_cast<double>(smallest))) return smallest;
  const T rounded = static_cast<T>(bound);
  if (static_cast<double>(rounded) >= bound) return rounded;
  return std::nextafter(rounded, std::numeric_limits<T>::infinity());
}

// What a whole map holds, given a bracket: the Survey of its blocks.
template <class T>
struct Pass {
  Sum whole{0.0, 0.0};
  Cut above = empty_cut;
  std::vector<T> kept;
  bool complete = true;  // all values within the bracket are kept
};

// Blocks are taken by any thread, and their sums added in the order of the blocks.
template <class T>
Pass<T> survey(const Values<T> values, const double low, const double high,
               const int64_t room_per_block) {
  const auto& kernels = kernels_in_use<Simd<T>>();
  const int64_t blocks = parts(values.size, largest_block);
  const int64_t stride = room_per_block + spare;
  std::vector<Survey<T>> surveys(blocks);
  const std::unique_ptr<T[]> kept(new T[blocks * stride]);
  parallel_for(blocks, 1, [&](const int64_t begin, const int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * largest_block;
      surveys[block] = {rounded_up<T>(low),
                        rounded_up<T>(high),
                        kept.get() + block * stride,
                        room_per_block,
                        0,
                        {0.0, 0.0},
                        empty_cut};
      kernels.survey({values.data + first, std::min(largest_block, values.size - first)},
                     surveys[block]);
    }
  });
  Pass<T> pass;
  int64_t count = 0;
  for (const Survey<T>& block : surveys) count += std::min(block.count, room_per_block);
  pass.kept.reserve(count);
  for (const Survey<T>& block : surveys) {
    add(pass.whole, block.whole);
    add(pass.above, block.above);
    pass.complete = pass.complete && block.count <= room_per_block;
    pass.kept.insert(pass.kept.end(), block.kept,
                     block.kept + std::min(block.count, room_per_block));
  }
  return pass;
}

// The values in descending order; NaN last, so that the order stays a strict one.
template <class T>
std::vector<T> descending(const Values<T> values) {
  std::vector<T> sorted(values.data, values.data + values.size);
  std::sort(sorted.begin(), sorted.end(),
            [](const T a, const T b) { return a > b || (a == a && b != b); });
  return sorted;
}

// Calls visit(first, last, cut) for each run [first, last) of equal values, in descending order;
// `cut` grows from what it holds already.
template <class T, class Visit>
void scan(const std::vector<T>& sorted, Cut cut, const Visit& visit) {
  const auto size = static_cast<int64_t>(sorted.size());
  for (int64_t first = 0; first < size;) {
    int64_t last = first;
    do {
      add(cut, {{static_cast<double>(sorted[last]), 0.0}, 1});
      ++last;
    } while (last < size && sorted[last] == sorted[first]);
    visit(first, last, cut);
    first = last;
  }
}

template <class T>
int64_t count_at_least(const std::vector<T>& sorted, const double threshold) {
  const auto below = std::partition_point(sorted.begin(), sorted.end(), [&](const T value) {
    return static_cast<double>(value) >= threshold;
  });
  return below - sorted.begin();
}

template <class T>
Sum mass_of(const std::vector<T>& values) {
  Sum mass{0.0, 0.0};
  for (const T value : values) add(mass, static_cast<double>(value));
  return mass;
}

// sup D of a map of mass `whole`, whose values are `certain`, which are all above t*, and
// `values`, and others below t*. `start` is a guess of t*.
//
// D(t) of the cut {m >= t} is <= sup D, and t -> D(t) / 2 climbs to its fixpoint t* (Dinkelbach's
// method for max 2 A(s) - D (S + n(s)), whose maximiser is {m >= D/2}). It ends where the rounded D
// no longer grows, within a few roundings of t*; the few cuts around are then compared one by one.
template <class T>
Optimum climb(const Values<T> values, const Cut& certain, const Sum& whole, const double start) {
  const auto above = [&](const Pass<T>& pass) {
    Cut cut = certain;
    add(cut, pass.above);
    return cut;
  };
  double best = 0.0;
  for (double threshold = start;;) {
    for (;;) {
      const double dice = dice_of(above(survey(values, threshold, threshold, 0)), whole);
      if (!(dice > best)) break;
      best = dice;
      threshold = dice / 2.0;
    }
    threshold = best / 2.0;
    const double margin =
        std::max(std::ldexp(threshold, -40), 16.0 * std::numeric_limits<double>::denorm_min());
    const double high = threshold + margin;
    Pass<T> around = survey(values, threshold - margin, high, std::min(values.size, largest_block));
    Cut cut = above(around);
    best = dice_of(cut, whole);
    threshold = best / 2.0;
    if (threshold >= high) continue;
    std::sort(around.kept.begin(), around.kept.end(), std::greater<T>());
    const int64_t volume = cut.volume;
    scan(around.kept, cut,
         [&](int64_t, int64_t, const Cut& wider) { best = std::max(best, dice_of(wider, whole)); });
    return {best, volume + count_at_least(around.kept, best / 2.0)};
  }
}

// Where t* lies, most likely.
struct Guess {
  double low;
  double threshold;
  double high;
};

// From runs of neighbours, one at a random place of each of equal parts of the map: not at regular
// places, because the map's rows are regular.
template <class T>
Guess guess(const Values<T> values) {
  constexpr int64_t run = sample_run;
  // More would narrow the guess, but each is a cache line from anywhere.
  const int64_t runs = values.size < (int64_t{1} << 20) ? 512 : 1024;
  const int64_t part = values.size / runs;
  std::vector<T> sample(runs * run);
  uint64_t state = 0x9e3779b97f4a7c15u;
  for (int64_t i = 0; i < runs; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto jump = static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(part - run + 1));
    std::copy_n(values.data + i * part + jump, run, sample.data() + i * run);
  }
  const auto& kernels = kernels_in_use<Simd<T>>();
  const Values<T> drawn{sample.data(), static_cast<int64_t>(sample.size())};
  double threshold = 0.25;
  Estimate estimate = kernels.estimate(drawn, static_cast<T>(threshold));
  if (!(estimate.whole > 0.0)) return {0.0, threshold, 0.5};
  for (int pass = 0; pass < 16; ++pass) {
    const double previous = threshold;
    threshold = estimate.mass / (estimate.whole + estimate.volume);
    estimate = kernels.estimate(drawn, rounded_up<T>(threshold));
    if (std::abs(threshold - previous) <= 1e-4 * threshold) break;
  }
  // t* solves mass - t (whole + volume) = 0, whose slope is -(whole + volume).
  const double error = estimate.error / (estimate.whole + estimate.volume);
  const double reach = 5.0 * error + 1e-3 * threshold;
  return {threshold - reach, threshold, threshold + reach};
}

// Below this a sample saves nothing.
constexpr int64_t smallest_sampled = 1 << 15;

// Enough for the values near t* of most maps.
constexpr int64_t usual_room = largest_block / 8;

template <class T>
Optimum iterate(const Values<T> values) {
  if (values.size < smallest_sampled) {
    const Pass<T> pass = survey(values, 1.0, 1.0, 0);
    if (!is_known(pass.whole)) return unknown;
    if (pass.whole.high <= 0.0) return nothing;
    return climb(values, empty_cut, pass.whole, 0.25);
  }
  const Guess first = guess(values);
  const Pass<T> pass = survey(values, first.low, first.high, usual_room);
  if (!is_known(pass.whole)) return unknown;
  if (pass.whole.high <= 0.0) return nothing;
  if (pass.complete) {
    const Values<T> kept{pass.kept.data(), static_cast<int64_t>(pass.kept.size())};
    // t <= t* where D(t) / 2 >= t.
    const bool below = dice_of(pass.above, pass.whole) / 2.0 < first.high;
    Cut wider = pass.above;
    add(wider, survey(kept, first.low, first.low, 0).above);
    const bool above = dice_of(wider, pass.whole) / 2.0 >= first.low;
    if (below && above) return climb(kept, pass.above, pass.whole, first.threshold);
  }
  return climb(values, empty_cut, pass.whole, dice_of(pass.above, pass.whole) / 2.0);
}

template <class T>
Optimum sort_and_scan(const Values<T> values) {
  const std::vector<T> sorted = descending(values);
  const Sum whole = mass_of(sorted);
  if (!is_known(whole)) return unknown;
  if (whole.high <= 0.0) return nothing;
  double best = 0.0;
  scan(sorted, empty_cut,
       [&](int64_t, int64_t, const Cut& cut) { best = std::max(best, dice_of(cut, whole)); });
  return {best, count_at_least(sorted, best / 2.0)};
}

// So many maps keep the threads busy one by one; fewer are shared out in blocks.
constexpr int64_t enough_maps = 16;

}  // namespace

void run(const uintptr_t values, const Dtype dtype, const uintptr_t offsets, const int64_t count,
         const int64_t size, const bool sorted, const uintptr_t threshold, const uintptr_t dice,
         const uintptr_t volume) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const auto* const all = reinterpret_cast<const T*>(values);
    const auto* const bounds = reinterpret_cast<const int64_t*>(offsets);
    const auto solve = [&](const int64_t number) {
      const Values<T> map =
          bounds == nullptr ? Values<T>{all + number * size, size}
                            : Values<T>{all + bounds[number], bounds[number + 1] - bounds[number]};
      const Optimum best = sorted ? sort_and_scan(map) : iterate(map);
      reinterpret_cast<double*>(threshold)[number] = best.dice / 2.0;
      reinterpret_cast<double*>(dice)[number] = best.dice;
      reinterpret_cast<int64_t*>(volume)[number] = best.volume;
    };
    if (count < enough_maps) {
      for (int64_t number = 0; number < count; ++number) solve(number);
    } else {
      parallel_for(count, 1, [&](const int64_t begin, const int64_t end) {
        for (int64_t number = begin; number < end; ++number) solve(number);
      });
    }
  });
}

void run_curve(const uintptr_t values, const Dtype dtype, const int64_t count, const int64_t size,
               const uintptr_t sorted, const uintptr_t dice, const uintptr_t volume) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    parallel_for(count, 1, [&](const int64_t begin, const int64_t end) {
      for (int64_t map = begin; map < end; ++map) {
        const auto* const source = reinterpret_cast<const T*>(values) + map * size;
        auto* const curve = reinterpret_cast<double*>(dice) + map * size;
        auto* const volumes = reinterpret_cast<int64_t*>(volume) + map * size;
        const std::vector<T> order = descending(Values<T>{source, size});
        std::copy(order.begin(), order.end(), reinterpret_cast<T*>(sorted) + map * size);
        const Sum whole = mass_of(order);
        scan(order, empty_cut, [&](const int64_t first, const int64_t last, const Cut& cut) {
          std::fill(curve + first, curve + last, dice_of(cut, whole));
          std::fill(volumes + first, volumes + last, cut.volume);
        });
      }
    });
  });
}

}  // namespace marginseg::dice_threshold
