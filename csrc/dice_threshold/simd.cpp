#include "dice_threshold/simd.h"

#include "common/mask.h"
#include "common/simd.h"

namespace marginseg::dice_threshold {
inline namespace MARGINSEG_INSTRUCTION_SET {
namespace {

constexpr int width = lanes<double>;

// A Sum in each lane.
struct Sums {
  Pack<double> high;
  Pack<double> low;

  void add(const Pack<double> values) {
    const Pack<double> total = high + values;
    const Pack<double> shadow = total - high;
    low += (high - (total - shadow)) + (values - shadow);
    high = total;
  }

  void add_to(Sum& sum) const {
    for (int lane = 0; lane < width; ++lane) dice_threshold::add(sum, Sum{high[lane], low[lane]});
  }
};

// The masses of up to largest_block values: of all, and of those above a threshold.
template <class T>
struct Masses;

template <>
struct Masses<double> {
  static constexpr double large = 0.0;

  Sums whole;
  Sums above;

  template <bool large_only>
  void add(const double* const address, const Mask<double> over) {
    const Pack<double> values = load(address);
    whole.add(values);
    above.add(where(over, values));
  }

  void add_to(Sum& whole_mass, Sum& mass_above) const {
    whole.add_to(whole_mass);
    above.add_to(mass_above);
  }
};

// Floats >= `large` are multiples of 2^-38, so that 2^15 of them, each <= 1, add up to at most
// 2^53 such units, which a double holds exactly. Smaller ones go to sums of their own.
template <>
struct Masses<float> {
  static constexpr float large = 0x1p-14f;

  struct Mass {
    Halves exact;
    Sums small;

    void add_small(const Pack<float> values) {
      const Halves halves = widen(values);
      small.add(halves.first);
      small.add(halves.second);
    }

    void add_to(Sum& sum) const {
      for (int lane = 0; lane < width; ++lane) {
        dice_threshold::add(sum, exact.first[lane]);
        dice_threshold::add(sum, exact.second[lane]);
      }
      small.add_to(sum);
    }
  };

  Mass whole;
  Mass above;

  // `large_only` says that the threshold is >= large, so that no small value is above it.
  template <bool large_only>
  void add(const float* const address, const Mask<float> over) {
    const Pack<float> values = load(address);
    const Halves halves = widen(address);
    const Mask<float> exact = at_least(values, broadcast(large));
    if (bits<float>(exact) == all_lanes<float>) {
      whole.exact.first += halves.first;
      whole.exact.second += halves.second;
    } else {
      add_where(whole.exact, exact, values, halves);
      const Pack<float> others = values - where(exact, values);
      if (any_lane(others)) {
        whole.add_small(others);
        if constexpr (!large_only) above.add_small(where(over, others));
      }
    }
    if constexpr (large_only) {
      add_where(above.exact, over, values, halves);
    } else {
      add_where(above.exact, both(over, exact), values, halves);
    }
  }

  void add_to(Sum& whole_mass, Sum& mass_above) const {
    whole.add_to(whole_mass);
    above.add_to(mass_above);
  }
};

// `large_only`: survey.high >= Masses<T>::large.
template <class T, bool large_only>
void run_survey(const Values<T> values, Survey<T>& survey) {
  constexpr int packs = 4;
  constexpr int group = packs * lanes<T>;
  const Pack<T> low = broadcast(survey.low);
  const Pack<T> high = broadcast(survey.high);
  T* const kept = survey.kept;
  const int64_t room = survey.room;
  Masses<T> masses{};
  int64_t volume = 0;
  int64_t count = survey.count;
  const auto visit = [&](const T* const start) __attribute__((always_inline)) {
    if (!any_bit<T, packs>(start)) return;
    uint32_t within[packs];
    unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
      const T* const address = start + p.value * lanes<T>;
      const Pack<T> pack = load(address);
      const Mask<T> over = at_least(pack, high);
      masses.template add<large_only>(address, over);
      volume += __builtin_popcount(bits<T>(over));
      within[p.value] = bits<T>(at_least(pack, low)) & ~bits<T>(over);
    });
    if ((within[0] | within[1] | within[2] | within[3]) == 0) return;
    unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
      const uint32_t chosen = within[p.value];
      compress(chosen, start + p.value * lanes<T>, kept + (count < room ? count : room));
      count += __builtin_popcount(chosen);
    });
  };
  int64_t i = 0;
  for (; i + group <= values.size; i += group) visit(values.data + i);
  if (i < values.size) {
    T padded[group] = {};
    std::memcpy(padded, values.data + i, (values.size - i) * sizeof(T));
    visit(padded);
  }
  survey.count = count;
  masses.add_to(survey.whole, survey.above.mass);
  survey.above.volume += volume;
}

template <class T>
void survey(const Values<T> values, Survey<T>& survey) {
  if (survey.high >= Masses<T>::large) {
    run_survey<T, true>(values, survey);
  } else {
    run_survey<T, false>(values, survey);
  }
}

template <class T>
double total(const Pack<T> pack) {
  double sum = 0.0;
  for (int lane = 0; lane < lanes<T>; ++lane) sum += static_cast<double>(pack[lane]);
  return sum;
}

template <class T>
Estimate estimate(const Values<T> sample, const T threshold, const T weight) {
  const Pack<T> bound = broadcast(threshold);
  const Pack<T> factor = broadcast(weight);
  const Pack<T> one = broadcast(T{1});
  Pack<T> whole{};
  Pack<T> mass{};
  Pack<T> volume{};
  Pack<T> excess[sample_groups] = {};  // mass - t (whole + volume) of each group
  const T* values = sample.data;
  for (int64_t i = 0; i < sample.size; i += sample_run * sample_groups) {
    for (Pack<T>& group : excess) {
      for (int k = 0; k < sample_run; k += lanes<T>, values += lanes<T>) {
        const Pack<T> pack = load(values);
        const Mask<T> over = at_least(pack, bound);
        const Pack<T> inside = where(over, pack);
        const Pack<T> ones = where(over, one);
        const Pack<T> weighted = factor * pack;
        whole += weighted;
        mass += inside;
        volume += ones;
        group += inside - bound * (weighted + ones);
      }
    }
  }
  double mean = 0.0;
  double squares = 0.0;
  for (const Pack<T>& group : excess) mean += total<T>(group) / sample_groups;
  for (const Pack<T>& group : excess) {
    const double deviation = total<T>(group) - mean;
    squares += deviation * deviation;
  }
  const double variance = squares * sample_groups / (sample_groups - 1);
  return {total<T>(whole), total<T>(mass), total<T>(volume), __builtin_sqrt(variance)};
}

template <class T>
constexpr Kernels<T> table{survey<T>, estimate<T>};

}  // namespace
}  // namespace MARGINSEG_INSTRUCTION_SET

template <>
template <>
const Kernels<float>& Simd<float>::kernels<this_set>() {
  return table<float>;
}

template <>
template <>
const Kernels<double>& Simd<double>::kernels<this_set>() {
  return table<double>;
}

}  // namespace marginseg::dice_threshold
