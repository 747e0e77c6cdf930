// The iteration without a sort. One block a map samples it and guesses t*; many blocks a map sum
// what is above the guess and keep what is near; and the last of them climbs to t* within what was
// kept. Where that is much, or the guess was wrong, many blocks narrow the bracket before, as often
// as it can be needed: the host waits for nothing, and a pass that is not needed ends at once. The
// arithmetic is that of the CPU: guess.h, climb.h and cut.h.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "dice_threshold/cut.h"
#include "dice_threshold/guess.h"
#include "dice_threshold/maps.cuh"
#include "dice_threshold/search.cuh"
#include "dice_threshold/survey.cuh"

namespace marginseg::dice_threshold {

// Each thread samples so many neighbours.
constexpr int sampled_run = 16;

// More values than these are for many blocks to look through, in maps that are large enough to be
// shared out again.
constexpr int64_t most_for_one = int64_t{1} << 16;
constexpr int64_t smallest_for_many = int64_t{1} << 19;
constexpr int64_t chunk_for_many = int64_t{1} << 17;

static_assert(largest_chunk <= smallest_sampled && chunk_for_many <= smallest_for_many);

// The sums that guess_from() asks for, in plain doubles.
struct Moments {
  double whole;  // w times the mass
  double mass;
  double volume;
};

__device__ inline void add(Moments& moments, const Moments& other) {
  moments.whole += other.whole;
  moments.mass += other.mass;
  moments.volume += other.volume;
}

// What the steps hand on.
template <class C>
struct Steps {
  double weight;  // w
  int64_t chunk;  // how many values a block of the survey has
  // For each map: a guess, how many values were kept or would have been, how many blocks have done
  // their share, and the search.
  Guess* guesses;
  unsigned long long* counts;
  unsigned* done;
  Search<C>* searches;
  Pass* passes;  // one for each block
  C* kept;
  unsigned long long* bins;  // of maps that are large enough for many blocks; else nullptr

  // The maps that have bins begin at least so far apart.
  __device__ unsigned long long* bins_of(const Span& span) const {
    return bins + span.begin / smallest_for_many * bin_count;
  }

  __device__ C* kept_of(const Span& span) const { return kept + span.begin / kept_share; }

  template <class V>
  __device__ Source<V> source(const V* const values, const Span& span,
                              const Search<C>& search) const {
    return {values + span.begin, search.among_kept ? kept_of(span) : nullptr, search.size};
  }
};

// A block's sample of a map: a run of neighbours in each of equal parts, one part a thread. The
// runs lie at random places: at regular ones they could all fall on the same columns, because the
// map's rows are regular.
class Sample {
 public:
  template <class V>
  __device__ Sample(const V* const values, const int64_t size, const double weight)
      : weight_(weight) {
    const int64_t part = size / threads;
    uint64_t state = (threadIdx.x + 1) * 0x9e3779b97f4a7c15u;
    state = (state ^ (state >> 31)) * 0xbf58476d1ce4e5b9u;
    const auto jump =
        static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(part - sampled_run + 1));
    const V* const source = values + threadIdx.x * part + jump;
#pragma unroll
    for (int i = 0; i < sampled_run; ++i) run_[i] = static_cast<double>(widen(source[i]));
  }

  __device__ Moments moments(const double threshold) {
    own_ = {0.0, 0.0, 0.0};
#pragma unroll
    for (int i = 0; i < sampled_run; ++i) {
      own_.whole += run_[i];
      if (run_[i] >= threshold) {
        own_.mass += run_[i];
        own_.volume += 1.0;
      }
    }
    own_.whole *= weight_;
    return block_sum(own_);
  }

  // The runs are independent, so the variance of their sum is the sum of their squared deviations.
  __device__ double error(const Moments& all, const double threshold) const {
    const double own = own_.mass - threshold * (own_.whole + own_.volume);
    const double mean = (all.mass - threshold * (all.whole + all.volume)) / threads;
    const double square = (own - mean) * (own - mean);
    return sqrt(block_reduce(square, [](double& sum, const double other) { sum += other; }));
  }

 private:
  double weight_;
  double run_[sampled_run];
  Moments own_;  // of the run alone
};

// One block a map.
template <class V>
__global__ __launch_bounds__(threads, 2) void guess_threshold(const V* const values,
                                                              const Maps maps,
                                                              const Steps<computing<V>> steps) {
  const int64_t map = blockIdx.x;
  const Span span = maps.of(map);
  if (threadIdx.x == 0) {
    steps.counts[map] = 0;
    steps.done[map] = 0;
  }
  if (span.size() < smallest_sampled) return;
  Sample sample(values + span.begin, span.size(), steps.weight);
  const Guess guess = guess_from(sample, steps.weight);
  if (threadIdx.x == 0) steps.guesses[map] = guess;
}

// Whether this block is the last of a map's that comes here. What the others wrote before is then
// to be seen.
__device__ inline bool is_last(unsigned* const done, const int64_t blocks) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(done, 1u) == static_cast<unsigned>(blocks - 1);
    if (last) *done = 0;  // for the next step
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

// Adds up what the blocks learnt that share a map.
template <class C>
__device__ Pass sum_of_shares(const Steps<C>& steps, const Maps& maps, const Share& share,
                              const int64_t chunk) {
  const Span span = maps.of(share.map);
  Pass own{empty_cut, empty_cut, {0.0, 0.0}};
  for (int64_t number = threadIdx.x; number < share.count; number += threads) {
    add(own, steps.passes[maps.block(span, number, chunk)]);
  }
  return block_sum(own);
}

// The last block of a map goes on to find t*, unless many values are to be looked through for that.
template <class V>
__global__ __launch_bounds__(threads, 2) void survey_maps(const V* const values, const Maps maps,
                                                          const Steps<computing<V>> steps,
                                                          const Results results) {
  using C = computing<V>;
  constexpr bool is_float = std::is_same_v<C, float>;
  __shared__ typename Keeper<C>::Memory memory;
  const Share share = maps.share(blockIdx.x, steps.chunk, smallest_sampled);
  if (share.count == 0) return;
  const Span span = maps.of(share.map);
  const Guess guess = steps.guesses[share.map];
  const Bracket<C> bracket{rounded_up<C>(guess.low), rounded_up<C>(guess.high)};
  const int64_t room = span.end / kept_share - span.begin / kept_share;
  {
    const Keeper<C> keeper(memory, steps.counts + share.map, steps.kept_of(span), room);
    const Span own = share.of(span.size());
    const V* const begin = values + span.begin + own.begin;
    const V* const end = values + span.begin + own.end;
    const bool exact = is_float && bracket.low >= static_cast<C>(large);
    const Pass pass = block_sum(exact ? survey<is_float>(begin, end, bracket, keeper)
                                      : survey<false>(begin, end, bracket, keeper));
    if (threadIdx.x == 0) steps.passes[blockIdx.x] = pass;
    keeper.flush();
  }
  if (!is_last(steps.done + share.map, share.count)) return;

  Search<C> search = search_after(sum_of_shares(steps, maps, share, steps.chunk), bracket,
                                  span.size(), room, steps.weight);
  search.for_many = steps.bins != nullptr && span.size() >= smallest_for_many &&
                    search.size > most_for_one && !is_trivial(search.whole);
  if (search.for_many) {
    unsigned long long* const bins = steps.bins_of(span);
    for (int bin = threadIdx.x; bin < bin_count; bin += threads) bins[bin] = 0;
  } else {
    const Optimum best = find(steps.source(values, span, search), search, steps.weight, nullptr);
    if (threadIdx.x == 0) results.write(share.map, best);
  }
  if (threadIdx.x == 0) steps.searches[share.map] = search;
}

// Narrows the bracket of those maps that are for many blocks.
template <class V>
__global__ __launch_bounds__(threads, 3) void narrow_searches(const V* const values,
                                                              const Maps maps,
                                                              const Steps<computing<V>> steps) {
  using C = computing<V>;
  __shared__ unsigned bins[bin_count];
  const Share share = maps.share(blockIdx.x, chunk_for_many, smallest_for_many);
  if (share.count == 0) return;
  Search<C> search = steps.searches[share.map];
  if (!search.for_many || search.single_bins) return;
  const Span span = maps.of(share.map);
  const Source<V> source = steps.source(values, span, search);
  const Cut cut = fill_bins(source, share.of(source.size), search.bracket, bins);
  unsigned long long* const all_bins = steps.bins_of(span);
  for (int bin = threadIdx.x; bin < bin_count; bin += threads) {
    if (bins[bin] != 0) atomicAdd(all_bins + bin, static_cast<unsigned long long>(bins[bin]));
  }
  if (threadIdx.x == 0) steps.passes[blockIdx.x] = {cut, empty_cut, {0.0, 0.0}};
  if (!is_last(steps.done + share.map, share.count)) return;

  Cut above = sum_of_shares(steps, maps, share, chunk_for_many).above;
  add(above, search.above);
  if (Grid<C>(search.bracket).single()) {
    search.single_bins = true;
    search.above = above;
  } else {
    const Overlap overlap = overlap_of(search.whole, steps.weight);
    const Narrowed<C> narrowed = narrow(search.bracket, all_bins, above, overlap);
    search.bracket = narrowed.bracket;
    search.within = narrowed.within;
    for (int bin = threadIdx.x; bin < bin_count; bin += threads) all_bins[bin] = 0;
  }
  if (threadIdx.x == 0) steps.searches[share.map] = search;
}

// One block a map: finds t* of those that are not sampled, or that many blocks looked through.
template <class V>
__global__ __launch_bounds__(threads, 2) void find_threshold(const V* const values, const Maps maps,
                                                             const Steps<computing<V>> steps,
                                                             const Results results) {
  using C = computing<V>;
  const int64_t map = blockIdx.x;
  if (!maps.known()) {
    if (threadIdx.x == 0) results.write(map, unknown());
    return;
  }
  const Span span = maps.of(map);
  Search<C> search{};
  const unsigned long long* single_bins = nullptr;
  if (span.size() >= smallest_sampled) {
    search = steps.searches[map];
    if (!search.for_many) return;
    single_bins = steps.bins_of(span);
  } else {
    Sum own{0.0, 0.0};
    const Source<V> all{values + span.begin, nullptr, span.size()};
    all.each({0, span.size()}, [&](const C value) { add(own, static_cast<double>(value)); });
    search = {block_sum(own), empty_cut, anywhere<C>, span.size(),
              span.size(),    false,     false,       false};
  }
  const Optimum best = find(steps.source(values, span, search), search, steps.weight, single_bins);
  if (threadIdx.x == 0) results.write(map, best);
}

}  // namespace marginseg::dice_threshold
