#include "dice_threshold/tally.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "common/parallel.h"
#include "common/parts.h"
#include "dice_threshold/climb.h"
#include "dice_threshold/cut.h"
#include "dice_threshold/entry.h"
#include "dice_threshold/format.h"

namespace marginseg::dice_threshold {
namespace {

// The bits that one pass tells values apart by.
constexpr int index_bits = 16;

void merge(Misfits& all, const Misfits& more) {
  all.count += more.count;
  all.any_nan = all.any_nan || more.any_nan;
  all.least = std::min(all.least, more.least);
  all.greatest = std::max(all.greatest, more.greatest);
}

// One map, and what is known of it.
template <class Format>
class Map {
 public:
  using Bits = typename Format::Bits;

  void add(const char* const values, const int64_t size) {
    if (finished_ || size == 0) return;
    // Starting a thread takes as long as going through so many values.
    constexpr int64_t smallest_piece = 1 << 14;
    const int64_t pieces = std::min<int64_t>(slots_.size(), parts(size, smallest_piece));
    // A thread has the slot of its first piece to itself, and uses it for all its pieces.
    parallel_for(pieces, 1, [&](const int64_t begin, const int64_t end) {
      const int64_t first = size * begin / pieces;
      const int64_t last = size * end / pieces;
      tally(slots_[begin], values + first * sizeof(Bits), last - first);
    });
  }

  bool finish_pass(const double weight, const bool at_half) {
    if (finished_) return false;
    for (Slot& slot : slots_) {
      empty(slot);
      slot.part = {};
    }
    totals_.resize(entries());
    finished_ = misfits_.count > 0 || changed_ || !find(weight, at_half);
    totals_ = {};
    return !finished_;
  }

  const Misfits& misfits() const { return misfits_; }
  bool changed() const { return changed_; }
  const Optimum& optimum() const { return optimum_; }

 private:
  static constexpr bool packs = Format::width <= 2 * index_bits;
  using Rest = std::conditional_t<packs, uint64_t, Unsigned128>;
  using Part = std::conditional_t<packs, PackedEntry, Entry<Rest>>;

  // What one thread has counted, and has not yet added to the totals.
  struct Slot {
    std::vector<Part> part;
    int64_t room = PackedEntry::most_values;
    Misfits misfits;
  };

  bool first_pass() const { return shift_ + index_bits == Format::width; }

  // Larger values of the first pass are misfits.
  int64_t entries() const {
    return first_pass() ? index_of(Format::one) + 1 : int64_t{1} << index_bits;
  }

  // Of the first pass.
  int64_t index_of(const Bits bits) const { return static_cast<int64_t>(bits >> shift_); }

  // The smallest bits of an entry.
  Bits first_of(const int64_t index) const {
    return static_cast<Bits>((uint64_t{prefix_} << index_bits | static_cast<uint64_t>(index))
                             << shift_);
  }

  void tally(Slot& slot, const char* const values, const int64_t size) {
    if (slot.part.empty()) slot.part.resize(entries());
    for (int64_t at = 0; at < size;) {
      const int64_t some = std::min(size - at, slot.room);
      const char* const begin = values + at * sizeof(Bits);
      if (first_pass()) {
        tally_all(slot, begin, some);
      } else {
        tally_prefix(slot, begin, some);
      }
      at += some;
      slot.room -= some;
      if (slot.room == 0) empty(slot);
    }
  }

  static Bits bits_at(const char* const values, const int64_t index) {
    Bits bits;
    std::memcpy(&bits, values + index * sizeof(Bits), sizeof(bits));
    return bits;
  }

  // Calls take(bits) for the values of all groups, of a cache line each, of which one is
  // interesting(bits): an integer, other than 0.
  template <class Interesting, class Take>
  static void by_groups(const char* const values, const int64_t size,
                        const Interesting& interesting, const Take& take) {
    constexpr int64_t group = 64 / sizeof(Bits);
    int64_t at = 0;
    for (; at + group <= size; at += group) {
      Bits any = 0;
      for (int64_t i = 0; i < group; ++i) any |= interesting(bits_at(values, at + i));
      if (any == 0) continue;
      for (int64_t i = 0; i < group; ++i) take(bits_at(values, at + i));
    }
    for (; at < size; ++at) take(bits_at(values, at));
  }

  // Maps are mostly 0, and zeros are not counted.
  void tally_all(Slot& slot, const char* const values, const int64_t size) const {
    const int shift = shift_;
    const auto rest = static_cast<Bits>((Bits{1} << shift) - 1);
    Part* const part = slot.part.data();
    by_groups(
        values, size, [](const Bits bits) { return bits; },
        [&](const Bits bits) {
          if (bits > Format::one) {
            take_beyond(slot, bits);
          } else {
            part[bits >> shift].add(bits != 0, bits & rest);
          }
        });
  }

  void tally_prefix(Slot& slot, const char* const values, const int64_t size) const {
    const int shift = shift_;
    const auto rest = static_cast<Bits>((Bits{1} << shift) - 1);
    const Bits prefix = prefix_;
    Part* const part = slot.part.data();
    const auto matches = [=](const Bits bits) {
      return static_cast<Bits>(bits >> shift >> index_bits) == prefix;
    };
    by_groups(
        values, size, [&](const Bits bits) { return static_cast<Bits>(matches(bits)); },
        [&](const Bits bits) {
          if (matches(bits)) part[bits >> shift & 0xffff].add(bits != 0, bits & rest);
        });
  }

  // Takes a value outside [0, 1]: what rounding has put there counts as 1, or is 0. No later pass
  // meets it: t* is 1/2 at most, and no other value has the sign bit.
  void take_beyond(Slot& slot, const Bits bits) const {
    if (bits <= Format::most) {
      const auto rest = static_cast<Bits>((Bits{1} << shift_) - 1);
      slot.part[Format::one >> shift_].add(true, Format::one & rest);
    } else if (bits < Format::negative_zero ||
               bits - Format::negative_zero > Format::most_below_zero) {
      note_misfit(slot.misfits, bits);
    }
  }

  static void note_misfit(Misfits& misfits, const Bits bits) {
    ++misfits.count;
    if (Format::is_nan(bits)) {
      misfits.any_nan = true;
    } else {
      misfits.least = std::min(misfits.least, Format::value(bits));
      misfits.greatest = std::max(misfits.greatest, Format::value(bits));
    }
  }

  void empty(Slot& slot) {
    const std::lock_guard<std::mutex> lock(mutex_);
    totals_.resize(entries());
    for (std::size_t index = 0; index < slot.part.size(); ++index) {
      move_to(totals_[index], slot.part[index]);
    }
    slot.room = PackedEntry::most_values;
    merge(misfits_, slot.misfits);
    slot.misfits = {};
  }

  // Finds where t* lies, by the totals of this pass; false when all is known.
  bool find(const double weight, const bool at_half) {
    if (first_pass()) {
      Sum whole{0.0, 0.0};
      for (int64_t index = entries() - 1; index >= 0; --index) {
        add_mass(whole, index);
      }
      if (is_trivial(whole)) {
        optimum_ = trivial_optimum(whole, weight);
        return false;
      }
      overlap_ = overlap_of(whole, weight);
      if (at_half) {
        Cut cut = empty_cut;
        for (int64_t index = entries() - 1; index >= index_of(Format::half); --index) {
          add_entry(cut, index);
        }
        optimum_ = {0.5, value_of(cut, overlap_), cut.volume};
        return false;
      }
    } else {
      Entry<Rest> all;
      for (const Entry<Rest>& entry : totals_) all.count += entry.count;
      changed_ = all.count != searched_;
      if (changed_) return false;
    }
    return narrow();
  }

  // Finds the entry that t* lies in. T of every cut that is passed on the way counts for the
  // supremum: {m >= t} is the same for all t from the end of one entry to the first value of the
  // next, so that t* needs no other.
  bool narrow() {
    int64_t index = entries() - 1;
    Cut reached = above_;
    for (;; --index) {
      add_entry(reached, index);
      const double twice = best_.show(reached, overlap_);
      // The first entry has been found to begin at t* or below by the pass before.
      if (index == 0 || 2.0 * Format::value(first_of(index)) <= twice) break;
      above_ = reached;
    }
    const Entry<Rest>& entry = totals_[index];
    const Bits first = first_of(index);
    const Bits largest_rest = static_cast<Bits>((Bits{1} << shift_) - 1);
    const Rest count = static_cast<Rest>(entry.count);
    if (entry.count > 1 && entry.rest > 0 && entry.rest < count * largest_rest) {
      prefix_ = static_cast<Bits>(first >> shift_);
      searched_ = entry.count;
      shift_ -= index_bits;
      return true;
    }
    // All values of the entry are equal, if it has any.
    optimum_ = {best_.threshold(), best_.value(overlap_), above_.volume};
    if (entry.count > 0) {
      const auto bits = static_cast<Bits>(first + static_cast<Bits>(entry.rest / count));
      if (Format::value(bits) >= optimum_.threshold) optimum_.volume += entry.count;
    }
    return false;
  }

  void add_mass(Sum& mass, const int64_t index) const {
    if (totals_[index].count > 0) {
      dice_threshold::add(mass, mass_of<Format>(totals_[index], first_of(index)));
    }
  }

  void add_entry(Cut& cut, const int64_t index) const {
    add_mass(cut.mass, index);
    cut.volume += totals_[index].count;
  }

  // The bits of all values that this pass counts begin with prefix_, then comes the index of their
  // entry, and then shift_ more.
  Bits prefix_ = 0;
  int shift_ = Format::width - index_bits;

  static constexpr int most_threads = 16;
  std::array<Slot, most_threads> slots_;
  std::mutex mutex_;
  std::vector<Entry<Rest>> totals_;

  Misfits misfits_;
  bool changed_ = false;
  bool finished_ = false;
  int64_t searched_ = 0;   // the number of values that have the prefix
  Overlap overlap_{};      // of the map
  Cut above_ = empty_cut;  // the cut at the end of the prefix
  Best best_;              // of all cuts so far
  Optimum optimum_{};
};

template <class Format>
class MapTally final : public Tally {
 public:
  MapTally(const int64_t count, const double weight, const bool at_half)
      : maps_(count), weight_(weight), at_half_(at_half) {}

  void add(const uintptr_t values, const int64_t size) override {
    const auto* const all = reinterpret_cast<const char*>(values);
    const auto count = static_cast<int64_t>(maps_.size());
    const auto add_to = [&](const int64_t begin, const int64_t end) {
      for (int64_t number = begin; number < end; ++number) {
        maps_[number].add(all + number * size * sizeof(typename Format::Bits), size);
      }
    };
    // With so many maps each thread takes whole ones; with fewer all threads share each.
    constexpr int64_t enough_maps = 16;
    if (count < enough_maps) {
      add_to(0, count);
    } else {
      parallel_for(count, 1, add_to);
    }
  }

  bool finish_pass() override {
    bool more = false;
    for (Map<Format>& map : maps_) more = map.finish_pass(weight_, at_half_) || more;
    return more;
  }

  Misfits misfits() const override {
    Misfits all;
    for (const Map<Format>& map : maps_) merge(all, map.misfits());
    return all;
  }

  bool changed() const override {
    return std::any_of(maps_.begin(), maps_.end(),
                       [](const Map<Format>& map) { return map.changed(); });
  }

  void results(const uintptr_t threshold, const uintptr_t value,
               const uintptr_t volume) const override {
    for (std::size_t number = 0; number < maps_.size(); ++number) {
      const Optimum& best = maps_[number].optimum();
      reinterpret_cast<double*>(threshold)[number] = best.threshold;
      reinterpret_cast<double*>(value)[number] = best.value;
      reinterpret_cast<int64_t*>(volume)[number] = best.volume;
    }
  }

 private:
  std::vector<Map<Format>> maps_;
  double weight_;
  bool at_half_;
};

}  // namespace

std::unique_ptr<Tally> make_tally(const Dtype dtype, const int64_t count, const double weight,
                                  const bool at_half) {
  switch (dtype) {
    case Dtype::float16:
      return std::make_unique<MapTally<Float16>>(count, weight, at_half);
    case Dtype::bfloat16:
      return std::make_unique<MapTally<Bfloat16>>(count, weight, at_half);
    case Dtype::float32:
      return std::make_unique<MapTally<Float32>>(count, weight, at_half);
    case Dtype::float64:
      return std::make_unique<MapTally<Float64>>(count, weight, at_half);
    default:
      throw std::invalid_argument("dice_threshold: expected a floating dtype, got dtype code " +
                                  std::to_string(static_cast<int>(dtype)));
  }
}

}  // namespace marginseg::dice_threshold
