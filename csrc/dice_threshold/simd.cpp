#include "dice_threshold/simd.h"

#include "common/mask.h"
#include "common/simd.h"

namespace marginseg::dice {
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
    for (int lane = 0; lane < width; ++lane) dice::add(sum, Sum{high[lane], low[lane]});
  }
};

// The mass of up to largest_block values.
template <class T>
struct Mass;

template <>
struct Mass<double> {
  static constexpr double large = 0.0;

  Sums sums;

  void add(const Pack<double> values) { sums.add(values); }
  void add_large(const Pack<double> values) { sums.add(values); }
  void add_to(Sum& sum) const { sums.add_to(sum); }
};

// Floats >= `large` are multiples of 2^-38: 2^15 of them, each <= 1, add up exactly in a double.
// Smaller ones go to sums of their own.
template <>
struct Mass<float> {
  static constexpr float large = 0x1p-14f;

  Halves exact;
  Sums small;

  void add(const Pack<float> values) {
    const Mask<float> mask = at_least(values, broadcast(large));
    if (bits<float>(mask) == all_lanes<float>) {
      add_large(values);
    } else {
      const Pack<float> summands = where(mask, values);
      add_large(summands);
      const Pack<float> others = values - summands;
      const Pack<float> zero{};
      const uint32_t zeros = bits<float>(at_least(others, zero)) & bits<float>(at_least(zero, others));
      if (zeros == all_lanes<float>) return;
      const Halves rest = widen(others);
      small.add(rest.first);
      small.add(rest.second);
    }
  }

  // Values that are 0 or >= large.
  void add_large(const Pack<float> values) {
    const Halves halves = widen(values);
    exact.first += halves.first;
    exact.second += halves.second;
  }

  void add_to(Sum& sum) const {
    for (int lane = 0; lane < width; ++lane) {
      dice::add(sum, exact.first[lane]);
      dice::add(sum, exact.second[lane]);
    }
    small.add_to(sum);
  }
};

// Whether `count` values are all +0, and so change nothing.
template <class T, int count>
bool all_zero(const T* const values) {
  uint64_t any = 0;
  for (int i = 0; i < count * static_cast<int>(sizeof(T)) / 8; ++i) {
    uint64_t word;
    std::memcpy(&word, reinterpret_cast<const char*>(values) + 8 * i, 8);
    any |= word;
  }
  return any == 0;
}

// `large_only`: survey.high >= Mass<T>::large.
template <class T, bool large_only>
void run_survey(const Values<T> values, Survey<T>& survey) {
  constexpr int group = 4 * lanes<T>;
  const Pack<T> low = broadcast(survey.low);
  const Pack<T> high = broadcast(survey.high);
  Mass<T> whole{};
  Mass<T> above{};
  T* const kept = survey.kept;
  const int64_t room = survey.room;
  int64_t volume = 0;
  int64_t count = survey.count;
  const auto visit = [&](const T* const start) {
    if (all_zero<T, group>(start)) return;
    for (int k = 0; k < group; k += lanes<T>) {
      const Pack<T> pack = load(start + k);
      whole.add(pack);
      const Mask<T> over = at_least(pack, high);
      const Pack<T> summands = where(over, pack);
      if constexpr (large_only) {
        above.add_large(summands);
      } else {
        above.add(summands);
      }
      volume += __builtin_popcount(bits<T>(over));
      const uint32_t within = bits<T>(at_least(pack, low)) & ~bits<T>(over);
      // Without a branch: which packs hold a value of the bracket can't be predicted.
      compress(within, start + k, kept + (count < room ? count : room));
      count += __builtin_popcount(within);
    }
  };
  int64_t i = 0;
  for (; i + group <= values.size; i += group) visit(values.data + i);
  if (i < values.size) {
    T padded[group] = {};
    std::memcpy(padded, values.data + i, (values.size - i) * sizeof(T));
    visit(padded);
  }
  survey.count = count;
  whole.add_to(survey.whole);
  above.add_to(survey.above.mass);
  survey.above.volume += volume;
}

template <class T>
void survey(const Values<T> values, Survey<T>& survey) {
  if (survey.high >= Mass<T>::large) {
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
Estimate estimate(const Values<T> sample, const T threshold) {
  const Pack<T> bound = broadcast(threshold);
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
        whole += pack;
        mass += inside;
        volume += ones;
        group += inside - bound * (pack + ones);
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

}  // namespace marginseg::dice
