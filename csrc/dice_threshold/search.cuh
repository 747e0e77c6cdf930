// How a block finds t* of a map once its mass is known: it narrows a bracket around it until few
// distinct values are left within, and climbs to t* among those.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "dice_threshold/bins.cuh"
#include "dice_threshold/climb.h"
#include "dice_threshold/cut.h"

namespace marginseg::dice_threshold {

// What is known of a map.
template <class C>
struct Search {
  Sum whole;
  Cut above;  // of values that need not be looked through: they are above the bracket
  Bracket<C> bracket;
  int64_t size;      // of the values to look through
  int64_t within;    // how many of them lie within the bracket, about
  bool among_kept;   // those values are the kept ones of the map, else all
  bool for_many;     // they are many: let many blocks look through them
  bool single_bins;  // many blocks did, until each bin held a single value
};

// What climb() looks through, a block together: distinct or equal values with their counts, in
// shared memory, and `certain`, the cut of all larger ones. The rest of the map lies below t*.
template <class C>
struct Candidates {
  static constexpr int room = 1024;
  const C* values;
  const unsigned long long* counts;
  int size;
  Cut certain;

  __device__ Cut cut(const double threshold) const {
    Cut own = empty_cut;
#pragma unroll 1
    for (int i = threadIdx.x; i < size; i += threads) {
      if (static_cast<double>(values[i]) >= threshold) add(own, equal_values(values[i], counts[i]));
    }
    Cut cut = block_sum(own);
    add(cut, certain);
    return cut;
  }

  // There are hardly any cuts within the bracket: each is found by a pass, and no sort is needed.
  class Around {
   public:
    __device__ Around(const Candidates& candidates, const double low, const double high)
        : candidates_(candidates), low_(low), edge_(high), cut_(candidates.cut(high)) {}

    __device__ const Cut& cut() const { return cut_; }

    __device__ bool widen() {
      double next = 0.0;
#pragma unroll 1
      for (int i = threadIdx.x; i < candidates_.size; i += threads) {
        const auto value = static_cast<double>(candidates_.values[i]);
        if (value >= low_ && value < edge_ && value > next) next = value;
      }
      next = block_reduce(next, KeepLarger{});
      if (!(next > 0.0)) return false;
      edge_ = next;
      cut_ = candidates_.cut(edge_);
      return true;
    }

    __device__ int64_t volume(const double threshold) const {
      return candidates_.cut(threshold).volume;
    }

   private:
    const Candidates& candidates_;
    double low_;
    double edge_;  // the smallest value of the cut
    Cut cut_;
  };

  __device__ Around around(const double low, const double high) const { return {*this, low, high}; }

  // The product of a value and its count, whose rounding fma gives.
  static __device__ Cut equal_values(const C value, const unsigned long long count) {
    const auto one = static_cast<double>(value);
    const auto many = static_cast<double>(count);
    const double product = one * many;
    return {{product, fma(one, many, -product)}, static_cast<int64_t>(count)};
  }
};

// Where a block puts candidates, in its shared memory.
template <class C>
struct Listing {
  C values[Candidates<C>::room];
  unsigned long long counts[Candidates<C>::room];
  int size;

  __device__ void put(const C value, const unsigned long long count) {
    const int place = atomicAdd(&size, 1);
    if (place >= Candidates<C>::room) return;
    values[place] = value;
    counts[place] = count;
  }

  __device__ void clear() {
    __syncthreads();  // a thread may still be reading
    if (threadIdx.x == 0) size = 0;
    __syncthreads();
  }

  __device__ Candidates<C> candidates(const Cut& certain) const {
    return {values, counts, size, certain};
  }
};

// Lists the values within the bracket. There may be more than there is room for.
template <class V>
__device__ Candidates<computing<V>> list_values(const Source<V>& source,
                                                const Search<computing<V>>& search,
                                                Listing<computing<V>>& listing) {
  using C = computing<V>;
  listing.clear();
  Cut own = empty_cut;
  source.each({0, source.size}, [&](const C value) {
    if (value >= search.bracket.high) {
      add(own, {{static_cast<double>(value), 0.0}, 1});
    } else if (value >= search.bracket.low) {
      listing.put(value, 1);
    }
  });
  Cut certain = block_sum(own);
  add(certain, search.above);
  return listing.candidates(certain);
}

// Lists the values that bins of a single value each leave, of which there are few: only doubles
// whose difference is about `slack` can be more than three.
template <class C, class Count>
__device__ Candidates<C> list_bins(const Count* const bins, const Bracket<C>& bracket,
                                   const Cut& above, const Overlap& overlap, Listing<C>& listing) {
  const Grid<C> grid(bracket);
  const Narrowed<C> narrowed = narrow(bracket, bins, above, overlap);
  listing.clear();
  Cut own = empty_cut;
#pragma unroll 1
  for (int bin = threadIdx.x; bin < bin_count; bin += threads) {
    if (bins[bin] == 0) continue;
    const C value = value_of_bits(grid.bits(bin));
    if (value >= narrowed.bracket.high) {
      add(own, Candidates<C>::equal_values(value, bins[bin]));
    } else if (value >= narrowed.bracket.low) {
      listing.put(value, bins[bin]);
    }
  }
  Cut certain = block_sum(own);
  add(certain, above);
  return listing.candidates(certain);
}

// What climb() looks through, found by one block.
template <class V>
__device__ Candidates<computing<V>> candidates_of(const Source<V>& source,
                                                  Search<computing<V>>& search,
                                                  const Overlap& overlap,
                                                  const unsigned long long* const single_bins,
                                                  Listing<computing<V>>& listing) {
  using C = computing<V>;
  __shared__ unsigned bins[bin_count];
  if (search.single_bins) {
    return list_bins(single_bins, search.bracket, search.above, overlap, listing);
  }
  for (int round = 1;; ++round) {
    if (search.within <= Candidates<C>::room) {
      const Candidates<C> listed = list_values(source, search, listing);
      if (listed.size <= Candidates<C>::room) return listed;
    }
    Cut above = fill_bins(source, {0, source.size}, search.bracket, bins);
    add(above, search.above);
    // A map with negative values has no t*, and its bracket need not narrow: but it must end.
    if (Grid<C>(search.bracket).single() || round > most_rounds<C>) {
      return list_bins(bins, search.bracket, above, overlap, listing);
    }
    const Narrowed<C> narrowed = narrow(search.bracket, bins, above, overlap);
    search.bracket = narrowed.bracket;
    search.within = narrowed.within;
  }
}

// sup F of a map, found by one block, of which each thread gets the result. `single_bins` are the
// bins that many blocks filled, where search.single_bins says so.
template <class V>
__device__ Optimum find(const Source<V>& source, Search<computing<V>> search, const double weight,
                        const unsigned long long* const single_bins) {
  __shared__ Listing<computing<V>> listing;
  if (is_trivial(search.whole)) return trivial_optimum(search.whole, weight);
  const Overlap overlap = overlap_of(search.whole, weight);
  const auto candidates = candidates_of(source, search, overlap, single_bins, listing);
  const auto low = static_cast<double>(search.bracket.low);
  const auto high = static_cast<double>(search.bracket.high);
  const double middle = middle_threshold(weight);
  return climb(candidates, overlap, low <= middle && middle < high ? middle : low);
}

}  // namespace marginseg::dice_threshold
