#include "dice_threshold/cpu.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "common/dispatch.h"
#include "common/parallel.h"
#include "common/parts.h"
#include "dice_threshold/climb.h"
#include "dice_threshold/guess.h"
#include "dice_threshold/simd.h"

namespace marginseg::dice_threshold {
namespace {

// What a pass over a whole map learns, given a bracket: the surveys of its blocks together.
template <class T>
struct Pass {
  Sum whole{0.0, 0.0};
  Cut above = empty_cut;
  std::vector<T> kept;
  bool complete = true;  // whether all values within the bracket were kept
};

// Any thread may take a block, but the sums are added in the order of the blocks.
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

// The values in descending order. NaN comes last: std::sort needs an order of all values.
template <class T>
std::vector<T> descending(const Values<T> values) {
  std::vector<T> sorted(values.data, values.data + values.size);
  std::sort(sorted.begin(), sorted.end(),
            [](const T a, const T b) { return a > b || (a == a && b != b); });
  return sorted;
}

// The cuts of a map at its values, the smallest cut first.
template <class T>
class Scan {
 public:
  // `values` are in descending order, and below those of the cut `start`.
  Scan(std::vector<T> values, const Cut& start)
      : values_(std::move(values)), start_(start), cut_(start) {}

  const Cut& cut() const { return cut_; }

  // Takes the next value and all that equal it, [first(), last()), into the cut; false where there
  // is none.
  bool widen() {
    const auto size = static_cast<int64_t>(values_.size());
    first_ = last_;
    if (first_ == size) return false;
    do {
      add(cut_, {{static_cast<double>(values_[last_]), 0.0}, 1});
      ++last_;
    } while (last_ < size && values_[last_] == values_[first_]);
    return true;
  }

  int64_t first() const { return first_; }
  int64_t last() const { return last_; }

  int64_t volume(const double threshold) const {
    const auto below = std::partition_point(values_.begin(), values_.end(), [&](const T value) {
      return static_cast<double>(value) >= threshold;
    });
    return start_.volume + (below - values_.begin());
  }

 private:
  std::vector<T> values_;
  Cut start_;
  Cut cut_;
  int64_t first_ = 0;
  int64_t last_ = 0;
};

template <class T>
Sum mass_of(const std::vector<T>& values) {
  Sum mass{0.0, 0.0};
  for (const T value : values) add(mass, static_cast<double>(value));
  return mass;
}

// What climb() looks through: some values of a map, and `certain`, the cut of the larger ones. The
// rest of the map lies below t*.
template <class T>
class Candidates {
 public:
  Candidates(const Values<T> values, const Cut& certain) : values_(values), certain_(certain) {}

  Cut cut(const double threshold) const {
    return with_certain(survey(values_, threshold, threshold, 0).above);
  }

  Scan<T> around(const double low, const double high) const {
    Pass<T> pass = survey(values_, low, high, std::min(values_.size, largest_block));
    std::sort(pass.kept.begin(), pass.kept.end(), std::greater<T>());
    return {std::move(pass.kept), with_certain(pass.above)};
  }

 private:
  Cut with_certain(const Cut& above) const {
    Cut cut = certain_;
    add(cut, above);
    return cut;
  }

  Values<T> values_;
  Cut certain_;
};

// Runs of neighbouring values, one from each of equal parts of the map. They lie at random places:
// at regular ones they could all fall on the same columns, because the map's rows are regular.
template <class T>
class Sample {
 public:
  Sample(const Values<T> values, const double weight) : weight_(static_cast<T>(weight)) {
    constexpr int64_t run = sample_run;
    // More runs would narrow the guess, but each has to be fetched from memory on its own.
    const int64_t runs = values.size < (int64_t{1} << 20) ? 512 : 1024;
    const int64_t part = values.size / runs;
    drawn_.resize(runs * run);
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (int64_t i = 0; i < runs; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const auto jump = static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(part - run + 1));
      std::copy_n(values.data + i * part + jump, run, drawn_.data() + i * run);
    }
  }

  Estimate moments(const double threshold) const {
    return kernels_in_use<Simd<T>>().estimate({drawn_.data(), static_cast<int64_t>(drawn_.size())},
                                              rounded_up<T>(threshold), weight_);
  }

  // The estimate's own threshold is within a step of the one asked for.
  static double error(const Estimate& moments, double) { return moments.error; }

 private:
  T weight_;
  std::vector<T> drawn_;
};

// A pass keeps up to an eighth of each block: the values near t* of most maps.
constexpr int64_t usual_room = largest_block / 8;

template <class T>
Optimum iterate(const Values<T> values, const double weight) {
  const Candidates<T> all(values, empty_cut);
  if (values.size < smallest_sampled) {
    const Sum whole = survey(values, 1.0, 1.0, 0).whole;
    if (is_trivial(whole)) return trivial_optimum(whole, weight);
    return climb(all, overlap_of(whole, weight), middle_threshold(weight));
  }
  const Sample<T> sample(values, weight);
  const Guess guess = guess_from(sample, weight);
  const Pass<T> pass = survey(values, guess.low, guess.high, usual_room);
  if (is_trivial(pass.whole)) return trivial_optimum(pass.whole, weight);
  const Overlap overlap = overlap_of(pass.whole, weight);
  const double twice_at_high = twice_threshold(pass.above, overlap);
  if (pass.complete) {
    const Candidates<T> near({pass.kept.data(), static_cast<int64_t>(pass.kept.size())},
                             pass.above);
    if (guess.holds(twice_threshold(near.cut(guess.low), overlap), twice_at_high)) {
      return climb(near, overlap, guess.threshold);
    }
  }
  return climb(all, overlap, twice_at_high / 2.0);
}

template <class T>
Optimum sort_and_scan(const Values<T> values, const double weight) {
  std::vector<T> sorted = descending(values);
  const Sum whole = mass_of(sorted);
  if (is_trivial(whole)) return trivial_optimum(whole, weight);
  const Overlap overlap = overlap_of(whole, weight);
  Scan<T> cuts(std::move(sorted), empty_cut);
  Best best;
  while (cuts.widen()) best.show(cuts.cut(), overlap);
  return {best.threshold(), best.value(overlap), cuts.volume(best.threshold())};
}

// With so many maps each thread takes whole maps; with fewer all threads share the blocks of one.
constexpr int64_t enough_maps = 16;

}  // namespace

void run(const uintptr_t values, const Dtype dtype, const uintptr_t offsets, const int64_t count,
         const int64_t size, const bool sorted, const double weight, const uintptr_t threshold,
         const uintptr_t value, const uintptr_t volume) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const auto* const all = reinterpret_cast<const T*>(values);
    const auto* const bounds = reinterpret_cast<const int64_t*>(offsets);
    const auto solve = [&](const int64_t number) {
      const Values<T> map =
          bounds == nullptr ? Values<T>{all + number * size, size}
                            : Values<T>{all + bounds[number], bounds[number + 1] - bounds[number]};
      const Optimum best = sorted ? sort_and_scan(map, weight) : iterate(map, weight);
      reinterpret_cast<double*>(threshold)[number] = best.threshold;
      reinterpret_cast<double*>(value)[number] = best.value;
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
               const double weight, const uintptr_t sorted, const uintptr_t value,
               const uintptr_t volume) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    parallel_for(count, 1, [&](const int64_t begin, const int64_t end) {
      for (int64_t map = begin; map < end; ++map) {
        const auto* const source = reinterpret_cast<const T*>(values) + map * size;
        auto* const curve = reinterpret_cast<double*>(value) + map * size;
        auto* const volumes = reinterpret_cast<int64_t*>(volume) + map * size;
        std::vector<T> order = descending(Values<T>{source, size});
        std::copy(order.begin(), order.end(), reinterpret_cast<T*>(sorted) + map * size);
        const Overlap overlap = overlap_of(mass_of(order), weight);
        Scan<T> cuts(std::move(order), empty_cut);
        while (cuts.widen()) {
          std::fill(curve + cuts.first(), curve + cuts.last(), value_of(cuts.cut(), overlap));
          std::fill(volumes + cuts.first(), volumes + cuts.last(), cuts.cut().volume);
        }
      }
    });
  });
}

}  // namespace marginseg::dice_threshold
