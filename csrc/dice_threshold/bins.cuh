// How the threads of a block, or of many, narrow a bracket around t* once the mass of the map is
// known.
//
// A pass over the values sums what lies above the bracket and counts what lies within, in bins. The
// bins tell t* to within a few of them: it is at least t exactly where A(t) >= t (w S + n(t)), and
// the counts bound the mass A(t) from both sides. Bins divide the bits of the values, so that they
// are as narrow as t* is small, and in the last pass each of them holds a single value. That needs
// three passes for floats and six for doubles, whatever the map is like.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "dice_threshold/bits.cuh"
#include "dice_threshold/cut.h"
#include "dice_threshold/maps.cuh"

namespace marginseg::dice_threshold {

constexpr int bin_count = 4096;

// How often a bracket is narrowed, at most: then bins hold a single value each.
template <class C>
constexpr int most_rounds = sizeof(C) == 8 ? 6 : 3;

// Bounds of t* are computed in doubles, and taken wider by this share for their roundings, and by
// this much for those of subnormal numbers.
constexpr double slack = 0x1p-45;
constexpr double least_slack = 4.0 * std::numeric_limits<double>::denorm_min();

// t* lies in [low, high), low > 0.
template <class C>
struct Bracket {
  C low;
  C high;
};

// t* = A / (w S + n) is below this, because A <= n: it can be 1 where w is next to nothing.
constexpr double beyond_all = 2.0;

// Nothing is known.
template <class C>
constexpr Bracket<C> anywhere{std::numeric_limits<C>::denorm_min(), C{beyond_all}};

// The values to look through.
template <class V>
struct Source {
  using C = computing<V>;
  const V* values;
  const C* kept;  // instead, where there are any
  int64_t size;

  // Calls function(value) for the values of a span, and for some zeros, each thread of the block
  // for some.
  template <class Function>
  __device__ void each(const Span& span, const Function& function) const {
    if constexpr (std::is_same_v<V, C>) {
      each_of(kept != nullptr ? kept : values, span, function);
    } else if (kept != nullptr) {
      each_of(kept, span, function);
    } else {
      each_of(values, span, function);
    }
  }

 private:
  // So many values are under way at once.
  static constexpr int batch = 4;

  template <class T, class Function>
  static __device__ void each_of(const T* const source, const Span& span,
                                 const Function& function) {
    for (int64_t i = span.begin + threadIdx.x; i < span.end; i += batch * threads) {
      C read[batch];
#pragma unroll
      for (int k = 0; k < batch; ++k) {
        const int64_t place = i + k * threads;
        read[k] = place < span.end ? widen(source[place]) : C{0};
      }
#pragma unroll
      for (int k = 0; k < batch; ++k) function(read[k]);
    }
  }
};

// A bracket in bins of 2^shift bits each.
template <class C>
class Grid {
 public:
  __device__ explicit Grid(const Bracket<C>& bracket)
      : first_(bits_of(bracket.low)), end_(bits_of(bracket.high)) {
    while (first_ < end_ && (end_ - 1 - first_) >> shift_ >= bin_count) ++shift_;
  }

  __device__ bool single() const { return shift_ == 0; }
  __device__ int bin_of(const C value) const {
    return static_cast<int>((bits_of(value) - first_) >> shift_);
  }
  // The smallest value of a bin, as bits and as a number. There are no bins from `end` on.
  __device__ Bits<C> bits(const int bin) const {
    const Bits<C> edge = first_ + (static_cast<Bits<C>>(bin) << shift_);
    return edge < end_ ? edge : end_;
  }
  __device__ double edge(const int bin) const {
    return static_cast<double>(value_of_bits(bits(bin)));
  }
  __device__ Bits<C> first() const { return first_; }
  __device__ Bits<C> end() const { return end_; }

 private:
  Bits<C> first_;
  Bits<C> end_;
  int shift_ = 0;
};

// Counts the values of a span within the bracket, and returns the cut of those above it, which
// each thread gets. The bins are in shared memory.
template <class V>
__device__ Cut fill_bins(const Source<V>& source, const Span& span,
                         const Bracket<computing<V>>& bracket, unsigned* const bins) {
  using C = computing<V>;
  const Grid<C> grid(bracket);
  __syncthreads();  // a thread may still be reading the bins
  for (int bin = threadIdx.x; bin < bin_count; bin += threads) bins[bin] = 0;
  __syncthreads();
  Cut above = empty_cut;
  // Atomic additions to one address take place one after another. A thread counts what it meets of
  // one bin in a row by itself, because where a map is flat, all threads meet the same bin.
  int bin = 0;
  unsigned met = 0;
  source.each(span, [&](const C value) {
    if (value >= bracket.high) {
      add(above, {{static_cast<double>(value), 0.0}, 1});
    } else if (value >= bracket.low) {
      const int own = grid.bin_of(value);
      if (own != bin) {
        if (met > 0) atomicAdd(bins + bin, met);
        bin = own;
        met = 0;
      }
      ++met;
    }
  });
  if (met > 0) atomicAdd(bins + bin, met);
  return block_sum(above);
}

// How many values lie from some edge on, and between which bounds their mass lies.
struct Bounds {
  int64_t volume;
  double least;
  double most;
};

__device__ inline void add(Bounds& bounds, const Bounds& other) {
  bounds.volume += other.volume;
  bounds.least += other.least;
  bounds.most += other.most;
}

// The sum of what the threads behind this one gave.
__device__ inline Bounds sum_behind(const Bounds& own) {
  __shared__ Bounds of_warps[warps];
  Bounds sum = own;
#pragma unroll
  for (int distance = 1; distance < warp_size; distance *= 2) {
    const Bounds other = from_above(sum, distance);
    if (lane_number() + distance < warp_size) add(sum, other);
  }
  __syncthreads();  // a thread may still be reading the result of the last call
  if (lane_number() == 0) of_warps[warp_number()] = sum;
  __syncthreads();
  Bounds behind = from_above(sum, 1);
  if (lane_number() == warp_size - 1) behind = {0, 0.0, 0.0};
#pragma unroll 1
  for (int warp = warp_number() + 1; warp < warps; ++warp) add(behind, of_warps[warp]);
  return behind;
}

template <class C>
struct Narrowed {
  Bracket<C> bracket;
  int64_t within;
};

// The edges between which the bins show t* to be. `above` is the cut of all values above the
// bracket, which is at most a few bins wide in the end: the edge below the bin that holds t* is
// more than the bins' widths can hide.
template <class C, class Count>
__device__ Narrowed<C> narrow(const Bracket<C>& bracket, const Count* const bins, const Cut& above,
                              const Overlap& overlap) {
  constexpr int own_bins = bin_count / threads;
  const Grid<C> grid(bracket);
  const int first = static_cast<int>(threadIdx.x) * own_bins;
  const auto bounds_of = [&](const int bin) {
    const auto count = static_cast<double>(bins[bin]);
    return Bounds{static_cast<int64_t>(bins[bin]), count * grid.edge(bin),
                  count * grid.edge(bin + 1)};
  };
  Bounds own{0, 0.0, 0.0};
#pragma unroll 1
  for (int bin = first; bin < first + own_bins; ++bin) add(own, bounds_of(bin));
  Bounds from = sum_behind(own);
  add(from, {above.volume, above.mass.high, above.mass.high});

  Bits<C> low = grid.first();
  Bits<C> beyond = ~grid.end();  // inverted, so that the lowest edge has the largest bits
#pragma unroll 1
  for (int bin = first + own_bins - 1; bin >= first; --bin) {
    add(from, bounds_of(bin));
    const Bits<C> edge = grid.bits(bin);
    if (edge >= grid.end()) continue;
    const double needed = grid.edge(bin) * (overlap.whole.high + static_cast<double>(from.volume));
    if (from.least * (1.0 - slack) >= needed + least_slack) low = max(low, edge);
    // Where no value is left, t* is below; a product of subnormal numbers would not tell.
    if (from.volume == 0 || from.most * (1.0 + slack) + least_slack < needed)
      beyond = max(beyond, ~edge);
  }
  low = static_cast<Bits<C>>(block_reduce<unsigned long long>(low, KeepLarger{}));
  const Bits<C> high =
      ~static_cast<Bits<C>>(block_reduce<unsigned long long>(beyond, KeepLarger{}));
  int64_t within = 0;
#pragma unroll 1
  for (int bin = first; bin < first + own_bins; ++bin) {
    if (grid.bits(bin) >= low && grid.bits(bin) < high) within += static_cast<int64_t>(bins[bin]);
  }
  within = block_reduce(within, [](int64_t& sum, const int64_t other) { sum += other; });
  return {{value_of_bits(low), value_of_bits(high)}, within};
}

}  // namespace marginseg::dice_threshold
