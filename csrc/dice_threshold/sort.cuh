// The sorted scan, for which all maps are sorted at once: by map, then by descending value. The
// order in which CUB's scan adds may differ from run to run; cut.h says what that leaves the same.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <iterator>
#include <limits>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "common/host_device.h"
#include "dice_threshold/bits.cuh"
#include "dice_threshold/climb.h"
#include "dice_threshold/cut.h"
#include "dice_threshold/maps.cuh"

namespace marginseg::dice_threshold {

// Unsigned integers whose ascending order is the descending order of the values, NaN last.
template <class C>
using Key = Bits<C>;

template <class C>
constexpr Key<C> sign_bit = Key<C>{1} << (8 * sizeof(C) - 1);
template <class C>
constexpr Key<C> not_a_number = ~Key<C>{0};

// The bits of a positive float, read as an integer, grow with it; those of a negative one shrink as
// it grows. So positive ones are inverted, and lie below the negative ones, whose sign bit is set.
template <class C>
__device__ Key<C> key_of(const C value) {
  if (value != value) return not_a_number<C>;
  const Key<C> bits = bits_of(value);
  return (bits & sign_bit<C>) != 0 ? bits : ~(bits | sign_bit<C>);
}

template <class C>
__device__ C value_of(const Key<C> key) {
  if (key == not_a_number<C>) return std::numeric_limits<C>::quiet_NaN();
  return value_of_bits((key & sign_bit<C>) != 0 ? key : static_cast<Key<C>>(~key & ~sign_bit<C>));
}

// Writes the key of each value and the number of its map, which is maps.count for a value that lies
// in no segment.
template <class V>
__global__ __launch_bounds__(threads) void make_keys(const V* const values, const Maps maps,
                                                     const int64_t total,
                                                     Key<computing<V>>* const keys,
                                                     unsigned* const numbers) {
  const int64_t i = thread_number();
  if (i >= total) return;
  keys[i] = key_of(widen(values[i]));
  numbers[i] = static_cast<unsigned>(maps.containing(i));
}

// The masses of single values, which the scan adds up, made of the keys when it asks for them: an
// array of them would be four times as large as that of the keys.
template <class C>
class Masses {
 public:
  using iterator_category = std::random_access_iterator_tag;
  using value_type = Sum;
  using difference_type = int64_t;
  using pointer = const Sum*;
  using reference = Sum;

  MARGINSEG_HOST_DEVICE explicit Masses(const Key<C>* const keys) : keys_(keys) {}
  __device__ Sum operator*() const { return {static_cast<double>(value_of<C>(*keys_)), 0.0}; }
  __device__ Sum operator[](const int64_t place) const { return *(*this + place); }
  MARGINSEG_HOST_DEVICE Masses operator+(const int64_t places) const {
    return Masses(keys_ + places);
  }

 private:
  const Key<C>* keys_;
};

// All values in order: by map, then descending; and the mass of each map up to each of them.
template <class C>
struct Ordered {
  Maps maps;
  const Key<C>* keys;
  const unsigned* numbers;
  const Sum* masses;

  // Where a map's values are in this order. Values before the first segment come last, so segments
  // lie as many places further to the front.
  __device__ Span of(const int64_t map) const {
    const Span span = maps.of(map);
    if (maps.offsets == nullptr || !maps.known()) return span;
    return {span.begin - maps.offsets[0], span.end - maps.offsets[0]};
  }

  // Whether a cut can end here: equal values are within it or not together.
  __device__ bool ends(const int64_t place, const Span& span) const {
    return place + 1 == span.end || keys[place] != keys[place + 1] ||
           keys[place] == not_a_number<C>;
  }

  __device__ double dice(const int64_t place, const Span& span) const {
    return dice_of(Cut{masses[place], place + 1 - span.begin}, masses[span.end - 1]);
  }

  // The first place of a span that holds a larger key.
  __device__ int64_t behind(const Key<C> key, const Span& span) const {
    int64_t below = span.begin;
    int64_t above = span.end;
    while (below < above) {
      const int64_t middle = below + (above - below) / 2;
      if (keys[middle] > key) {
        above = middle;
      } else {
        below = middle + 1;
      }
    }
    return below;
  }
};

// Finds the largest Dice of each map, as bits: those of doubles >= 0 are ordered as the doubles
// are.
template <class C>
__global__ __launch_bounds__(threads) void largest_dice(const Ordered<C> ordered,
                                                        const int64_t total,
                                                        unsigned long long* const best) {
  const int64_t place = thread_number();
  unsigned long long bits = 0;
  auto number = static_cast<unsigned>(ordered.maps.count);
  if (place < total) {
    number = ordered.numbers[place];
    if (number < ordered.maps.count) {
      const Span span = ordered.of(number);
      const double dice = ordered.ends(place, span) ? ordered.dice(place, span) : 0.0;
      if (dice > 0.0) bits = bits_of(dice);
    }
  }
  // Most warps lie within one map.
  const unsigned first = __shfl_sync(all_lanes, number, 0);
  const bool together = __all_sync(all_lanes, number == first ? 1 : 0) != 0;
  if (together) {
    bits = warp_reduce(bits, KeepLarger{});
    if (lane_number() != 0) return;
  }
  if (bits == 0 || number >= ordered.maps.count) return;
  // Few warps find a larger one than is known, and reading takes no turn as the atomics do. A value
  // that is out of date is too small, and costs an atomic more.
  if (bits > best[number]) atomicMax(best + number, bits);
}

template <class C>
__global__ __launch_bounds__(threads) void conclude(const Ordered<C> ordered,
                                                    const unsigned long long* const best,
                                                    const Results results) {
  const int64_t map = thread_number();
  if (map >= ordered.maps.count) return;
  if (!ordered.maps.known()) return results.write(map, unknown());
  const Span span = ordered.of(map);
  if (span.size() == 0) return results.write(map, nothing());
  const Sum whole = ordered.masses[span.end - 1];
  if (is_trivial(whole)) return results.write(map, trivial_optimum(whole));
  const double dice = value_of_bits(best[map]);
  // Counts the values >= dice / 2.
  int64_t below = span.begin;
  int64_t above = span.end;
  while (below < above) {
    const int64_t middle = below + (above - below) / 2;
    if (static_cast<double>(value_of<C>(ordered.keys[middle])) >= dice / 2.0) {
      below = middle + 1;
    } else {
      above = middle;
    }
  }
  results.write(map, {dice, below - span.begin});
}

template <class C>
__global__ __launch_bounds__(threads) void write_curve(const Ordered<C> ordered,
                                                       const int64_t total, C* const sorted,
                                                       double* const dice, int64_t* const volume) {
  const int64_t place = thread_number();
  if (place >= total) return;
  const Span span = ordered.of(place / ordered.maps.size);
  const Key<C> key = ordered.keys[place];
  const int64_t end = key == not_a_number<C> ? place : ordered.behind(key, {place, span.end}) - 1;
  sorted[place] = value_of<C>(key);
  dice[place] = ordered.dice(end, span);
  volume[place] = end + 1 - span.begin;
}

}  // namespace marginseg::dice_threshold
