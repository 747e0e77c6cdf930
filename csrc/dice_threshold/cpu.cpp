#include "dice_threshold/cpu.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "common/parallel.h"
#include "dice_threshold/body.h"

namespace marginseg {
namespace {

using dice::Cut;
using dice::dice_of;
using dice::Sum;

template <class T>
struct Values {
  const T* data;
  int64_t size;
  const T* begin() const { return data; }
  const T* end() const { return data + size; }
};

struct Optimum {
  double dice;
  int64_t volume;
};

// A map with no mass is segmented as empty, which is right: Dice 1, cut at 1/2.
constexpr Optimum nothing{1.0, 0};

// What a map with NaN gets.
constexpr Optimum unknown{std::numeric_limits<double>::quiet_NaN(), 0};

constexpr int64_t values_per_task = 32768;
constexpr int lanes = 8;

template <class T>
Cut cut_serially(const Values<T> values, const double threshold) {
  Sum masses[lanes];
  int64_t volumes[lanes] = {};
  const int64_t whole = values.size / lanes * lanes;
  for (int64_t i = 0; i < whole; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) {
      const double value = values.data[i + lane];
      const bool inside = value >= threshold;
      masses[lane].add(inside ? value : 0.0);
      volumes[lane] += inside ? 1 : 0;
    }
  }
  Cut cut;
  for (int lane = 0; lane < lanes; ++lane) cut.add({masses[lane], volumes[lane]});
  for (int64_t i = whole; i < values.size; ++i) {
    const double value = values.data[i];
    if (value >= threshold) cut.add({{value, 0.0}, 1});
  }
  return cut;
}

// {m >= threshold}, in blocks that do not depend on the number of threads.
template <class T>
Cut cut_at(const Values<T> values, const double threshold) {
  const int64_t blocks = (values.size + values_per_task - 1) / values_per_task;
  if (blocks <= 1) return cut_serially(values, threshold);
  std::vector<Cut> cuts(blocks);
  parallel_for(blocks, 1, [&](const int64_t begin, const int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * values_per_task;
      const int64_t size = std::min(values_per_task, values.size - first);
      cuts[block] = cut_serially(Values<T>{values.data + first, size}, threshold);
    }
  });
  Cut total;
  for (const Cut& cut : cuts) total.add(cut);
  return total;
}

template <class T>
bool has_nan(const Values<T> values) {
  return std::any_of(values.begin(), values.end(), [](const T value) { return value != value; });
}

// D -> 2 A(D/2) / (S + n(D/2)) grows until D = sup D and stays there (Dinkelbach's method for
// max 2 A(s) - D (S + n(s)), whose maximiser is {m >= D/2}).
template <class T>
Optimum iterate(const Values<T> values) {
  const Cut all = cut_at(values, -std::numeric_limits<double>::infinity());
  if (all.mass.high == 0.0) return nothing;
  Optimum best{dice_of(all, all.mass), all.volume};
  while (true) {
    const Cut cut = cut_at(values, best.dice / 2.0);
    const double dice = dice_of(cut, all.mass);
    best.volume = cut.volume;
    if (!(dice > best.dice)) return best;
    best.dice = dice;
  }
}

template <class T>
std::vector<T> descending(const Values<T> values) {
  std::vector<T> sorted(values.begin(), values.end());
  // NaN last: the order stays a strict one.
  std::sort(sorted.begin(), sorted.end(),
            [](const T a, const T b) { return a > b || (a == a && b != b); });
  return sorted;
}

// Calls visit(first, last, cut) for each run [first, last) of equal values, in descending order.
template <class T, class Visit>
void scan(const std::vector<T>& sorted, const Visit& visit) {
  const auto size = static_cast<int64_t>(sorted.size());
  Cut cut;
  for (int64_t first = 0; first < size;) {
    int64_t last = first;
    do {
      cut.add({{static_cast<double>(sorted[last]), 0.0}, 1});
      ++last;
    } while (last < size && sorted[last] == sorted[first]);
    visit(first, last, cut);
    first = last;
  }
}

template <class T>
Optimum sort_and_scan(const Values<T> values) {
  const std::vector<T> sorted = descending(values);
  Sum whole;
  for (const T value : sorted) whole.add(static_cast<double>(value));
  if (whole.high == 0.0) return nothing;
  Optimum best{0.0, 0};
  scan(sorted, [&](int64_t, int64_t, const Cut& cut) {
    best.dice = std::max(best.dice, dice_of(cut, whole));
  });
  const double threshold = best.dice / 2.0;
  const auto below = std::partition_point(sorted.begin(), sorted.end(), [&](const T value) {
    return static_cast<double>(value) >= threshold;
  });
  best.volume = below - sorted.begin();
  return best;
}

}  // namespace

void dice_threshold(const uintptr_t values, const Dtype dtype, const uintptr_t offsets,
                    const int64_t segments, const bool sorted, const uintptr_t threshold,
                    const uintptr_t dice, const uintptr_t volume) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const auto* const all = reinterpret_cast<const T*>(values);
    const auto* const bounds = reinterpret_cast<const int64_t*>(offsets);
    const auto solve = [&](const int64_t segment) {
      const Values<T> map{all + bounds[segment], bounds[segment + 1] - bounds[segment]};
      const Optimum best = has_nan(map) ? unknown : sorted ? sort_and_scan(map) : iterate(map);
      reinterpret_cast<double*>(threshold)[segment] = best.dice / 2.0;
      reinterpret_cast<double*>(dice)[segment] = best.dice;
      reinterpret_cast<int64_t*>(volume)[segment] = best.volume;
    };
    const int64_t total = segments > 0 ? bounds[segments] - bounds[0] : 0;
    if (total / std::max<int64_t>(1, segments) >= 8 * values_per_task) {
      for (int64_t segment = 0; segment < segments; ++segment) solve(segment);
    } else {
      parallel_for(segments, 1, [&](const int64_t begin, const int64_t end) {
        for (int64_t segment = begin; segment < end; ++segment) solve(segment);
      });
    }
  });
}

void dice_curve(const uintptr_t values, const Dtype dtype, const int64_t count, const int64_t size,
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
        Sum whole;
        for (const T value : order) whole.add(static_cast<double>(value));
        scan(order, [&](const int64_t first, const int64_t last, const Cut& cut) {
          std::fill(curve + first, curve + last, dice_of(cut, whole));
          std::fill(volumes + first, volumes + last, cut.volume);
        });
      }
    });
  });
}

}  // namespace marginseg
