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
  double weight;  // w

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

  __device__ Overlap overlap(const Span& span) const {
    return overlap_of(masses[span.end - 1], weight);
  }

  // The cut that ends at a place.
  __device__ Cut cut(const int64_t place, const Span& span) const {
    return {masses[place], place + 1 - span.begin};
  }

  // The first place of a span whose key does not belong to those in front.
  template <class Belongs>
  __device__ int64_t behind(const Span& span, const Belongs& belongs) const {
    int64_t below = span.begin;
    int64_t above = span.end;
    while (below < above) {
      const int64_t middle = below + (above - below) / 2;
      if (belongs(keys[middle])) {
        below = middle + 1;
      } else {
        above = middle;
      }
    }
    return below;
  }
};

// Finds the largest T of each map, as bits: those of doubles >= 0 are ordered as the doubles are.
template <class C>
__global__ __launch_bounds__(threads) void largest_twice_threshold(const Ordered<C> ordered,
                                                                   const int64_t total,
                                                                   unsigned long long* const best) {
  const int64_t place = thread_number();
  unsigned long long bits = 0;
  auto number = static_cast<unsigned>(ordered.maps.count);
  if (place < total) {
    number = ordered.numbers[place];
    if (number < ordered.maps.count) {
      const Span span = ordered.of(number);
      const double twice = ordered.ends(place, span)
                               ? twice_threshold(ordered.cut(place, span), ordered.overlap(span))
                               : 0.0;
      if (twice > 0.0) bits = bits_of(twice);
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
  if (span.size() == 0) return results.write(map, nothing(ordered.weight));
  const Sum whole = ordered.masses[span.end - 1];
  if (is_trivial(whole)) return results.write(map, trivial_optimum(whole, ordered.weight));
  const double twice = value_of_bits(best[map]);
  const double threshold = twice / 2.0;
  const int64_t end = ordered.behind(
      span, [&](const Key<C> key) { return static_cast<double>(value_of<C>(key)) >= threshold; });
  const int64_t end_of_larger = ordered.behind(
      span, [&](const Key<C> key) { return static_cast<double>(value_of<C>(key)) > threshold; });
  // No double lies between t* and this threshold: F is largest for the values that are as large, or
  // for those that are larger. Dice is T.
  double value = ordered.weight == 1.0 ? twice : 0.0;
  for (const int64_t behind : {end, end_of_larger}) {
    if (behind == span.begin) continue;
    const double own = value_of(ordered.cut(behind - 1, span), ordered.overlap(span));
    if (own > value) value = own;
  }
  results.write(map, {threshold, value, end - span.begin});
}

template <class C>
__global__ __launch_bounds__(threads) void write_curve(const Ordered<C> ordered,
                                                       const int64_t total, C* const sorted,
                                                       double* const value, int64_t* const volume) {
  const int64_t place = thread_number();
  if (place >= total) return;
  const Span span = ordered.of(place / ordered.maps.size);
  const Key<C> key = ordered.keys[place];
  const auto equal = [&](const Key<C> other) { return other == key; };
  const int64_t end = key == not_a_number<C> ? place : ordered.behind({place, span.end}, equal) - 1;
  sorted[place] = value_of<C>(key);
  value[place] = value_of(ordered.cut(end, span), ordered.overlap(span));
  volume[place] = end + 1 - span.begin;
}

}  // namespace marginseg::dice_threshold
