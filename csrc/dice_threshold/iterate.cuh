// The iteration without a sort. One block a map samples it and guesses t*; many blocks a map sum
// what is above the guess and keep what is near; and one block a map climbs to t* within what was
// kept. The host waits for nothing. The steps are those of cpu.cpp, and so is their arithmetic:
// guess.h, climb.h and cut.h.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "common/cuda/vector.cuh"
#include "dice_threshold/cut.h"
#include "dice_threshold/guess.h"
#include "dice_threshold/maps.cuh"
#include "dice_threshold/search.cuh"

namespace marginseg::dice_threshold {

// Each thread samples so many neighbours.
constexpr int sampled_run = 16;

// The array of kept values has a place for every eighth value: a map of the values [begin, end)
// owns its places [begin / kept_share, end / kept_share).
constexpr int64_t kept_share = 8;

// More values than these are for many blocks to look through, in maps that are large enough to be
// shared out again.
constexpr int64_t most_for_one = int64_t{1} << 16;
constexpr int64_t smallest_for_many = int64_t{1} << 19;
constexpr int64_t chunk_for_many = int64_t{1} << 17;

// Blocks of the survey take chunks of up to so many values.
constexpr int64_t largest_chunk = int64_t{1} << 15;
static_assert(largest_chunk <= smallest_sampled && chunk_for_many <= smallest_for_many);

// What a pass over values learns, given a bracket [low, high).
struct Pass {
  Cut above;  // {m >= high}
  Cut near;   // the values within
  Sum rest;   // the mass of the other values
};

__device__ inline void add(Pass& pass, const Pass& other) {
  add(pass.above, other.above);
  add(pass.near, other.near);
  add(pass.rest, other.rest);
}

// The sums that guess_from() asks for, in plain doubles.
struct Moments {
  double whole;
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

  template <class V>
  __device__ Source<V> source(const V* const values, const Span& span,
                              const Search<C>& search) const {
    const C* const kept_values = search.among_kept ? kept + span.begin / kept_share : nullptr;
    return {values + span.begin, kept_values, search.size};
  }
};

// A block's sample of a map: a run of neighbours in each of equal parts, one part a thread. The
// runs lie at random places: at regular ones they could all fall on the same columns, because the
// map's rows are regular.
class Sample {
 public:
  template <class V>
  __device__ Sample(const V* const values, const int64_t size) {
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
  Sample sample(values + span.begin, span.size());
  const Guess guess = guess_from(sample);
  if (threadIdx.x == 0) steps.guesses[map] = guess;
}

// A sum of values by one thread. `exact`: they are `large` floats, which are multiples of 2^-45. A
// thread takes up to 2^7 values of a chunk, each <= 1, which add up to at most 2^52 such units: a
// double holds that exactly.
template <bool exact>
struct Mass {
  Sum sum{0.0, 0.0};
  __device__ void add(const double value) {
    if constexpr (exact) {
      sum.high += value;
    } else {
      dice_threshold::add(sum, value);
    }
  }
};
constexpr float large = 0x1p-22f;
static_assert(largest_chunk <= threads << 7);

// Where a block puts the values within the bracket: in its shared memory, until that is full.
template <class C>
class Keeper {
 public:
  static constexpr int room = 8192 / sizeof(C);
  struct Memory {
    C values[room];
    int count;
    int64_t first_place;
  };

  __device__ Keeper(Memory& memory, const Steps<C>& steps, const int64_t map, const Span& span)
      : memory_(memory),
        count_(steps.counts + map),
        kept_(steps.kept + span.begin / kept_share),
        room_(span.end / kept_share - span.begin / kept_share) {
    __syncthreads();  // a thread may still be writing the values of the block's other map
    if (threadIdx.x == 0) memory.count = 0;
    __syncthreads();
  }

  __device__ void keep(const C value) const {
    const int place = atomicAdd(&memory_.count, 1);
    if (place < room) {
      memory_.values[place] = value;
    } else {
      write(atomicAdd(count_, 1ull), value);
    }
  }

  // Writes what is in shared memory, once all threads have come.
  __device__ void flush() const {
    __syncthreads();
    const int found = memory_.count < room ? memory_.count : room;
    if (threadIdx.x == 0) {
      memory_.first_place = atomicAdd(count_, static_cast<unsigned long long>(found));
    }
    __syncthreads();
    for (int i = threadIdx.x; i < found; i += threads) {
      write(memory_.first_place + i, memory_.values[i]);
    }
  }

 private:
  __device__ void write(const int64_t place, const C value) const {
    if (place < room_) kept_[place] = value;
  }

  Memory& memory_;
  unsigned long long* count_;
  C* kept_;
  int64_t room_;
};

// The pass of one thread. `exact`: all values within and above the bracket are `large`.
template <bool exact, class C>
class Survey {
 public:
  __device__ Survey(const Bracket<C>& bracket, const Keeper<C>& keeper)
      : bracket_(bracket), keeper_(keeper) {}

  template <int N>
  __device__ void take(const Vector<C, N>& values) {
#pragma unroll
    for (int lane = 0; lane < N; ++lane) {
      const C value = values.lane[lane];
      const auto mass = static_cast<double>(value);
      if (value >= bracket_.high) {
        above_.add(mass);
        ++above_count_;
      } else if (value >= bracket_.low) {
        near_.add(mass);
        ++near_count_;
        keeper_.keep(value);
      } else if (!exact || value >= static_cast<C>(large)) {
        rest_.add(mass);
      } else if (value != C{0}) {
        add(small_, mass);
      }
    }
  }

  __device__ Pass pass() const {
    Sum rest = rest_.sum;
    add(rest, small_);
    return {{above_.sum, above_count_}, {near_.sum, near_count_}, rest};
  }

 private:
  const Bracket<C>& bracket_;
  const Keeper<C>& keeper_;
  Mass<exact> above_;
  Mass<exact> near_;
  Mass<exact> rest_;
  Sum small_{0.0, 0.0};
  int above_count_ = 0;
  int near_count_ = 0;
};

// The pass of a block over [begin, end), of which each thread gets a part.
template <bool exact, class V>
__device__ Pass survey(const V* const begin, const V* const end,
                       const Bracket<computing<V>>& bracket, const Keeper<computing<V>>& keeper) {
  constexpr int N = 16 / sizeof(V) < 4 ? 16 / sizeof(V) : 4;
  Survey<exact, computing<V>> own(bracket, keeper);
  // Vectors lie at multiples of their size. Before the first and behind the last are fewer values
  // than a warp has threads.
  const auto place = static_cast<int64_t>(reinterpret_cast<uintptr_t>(begin) / sizeof(V));
  const V* const first =
      begin + min(parts(place, N) * N - place, static_cast<int64_t>(end - begin));
  const V* const last = first + (end - first) / N * N;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < first - begin) own.take(load<1>(begin + thread));
  if (thread < end - last) own.take(load<1>(last + thread));
  // Several are under way at once, read before any is taken: the compiler must not move a read over
  // the writing of kept values. Zeros stand for what lies behind the end, and count for nothing.
  constexpr int batch = 4;
  for (const V* at = first + thread * N; at < last; at += batch * threads * N) {
    Vector<computing<V>, N> read[batch] = {};
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      if (k * threads * N < last - at) read[k] = load<N>(at + k * threads * N);
    }
#pragma unroll
    for (int k = 0; k < batch; ++k) own.take(read[k]);
  }
  return own.pass();
}

// What the survey of a whole map says of t*. A threshold t is at most t* exactly where
// t <= D(t) / 2, and no D is larger than 2 t*.
template <class C>
__device__ Search<C> search_after(const Pass& pass, const Bracket<C>& surveyed, const int64_t size,
                                  const int64_t room) {
  Sum whole = pass.above.mass;
  add(whole, pass.near.mass);
  add(whole, pass.rest);
  Cut from_low = pass.above;
  add(from_low, pass.near);
  const auto low = static_cast<double>(surveyed.low);
  const auto high = static_cast<double>(surveyed.high);
  const double at_low = dice_of(from_low, whole) / 2.0;
  const double at_high = dice_of(pass.above, whole) / 2.0;

  double least = (1.0 - slack) * (at_low > at_high ? at_low : at_high);
  double most = 1.0;
  bool holds = false;
  if (at_low < low) {
    most = low;
  } else if (at_high < high) {
    holds = true;
    if (least < low) least = low;
    // A(t) - t (S + n(t)) is 0 at t*, and falls from `low` on at least as steeply as at `high`.
    const double steepness = (whole.high + static_cast<double>(from_low.volume)) /
                             (whole.high + static_cast<double>(pass.above.volume));
    most = (1.0 + slack) * (low + ((at_low - low) + slack * low) * steepness);
    if (!(most < high)) most = high;
  }
  const double share = holds ? (most - least) / (high - low) : 1.0;
  const bool among_kept = holds && pass.near.volume <= room;
  Search<C> search{};
  search.whole = whole;
  search.above = among_kept ? pass.above : empty_cut;
  search.bracket = {rounded_up<C>(least), rounded_up<C>(most)};
  search.size = among_kept ? pass.near.volume : size;
  search.within =
      holds ? static_cast<int64_t>(share * static_cast<double>(pass.near.volume)) : size;
  search.among_kept = among_kept;
  return search;
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
  {
    const Keeper<C> keeper(memory, steps, share.map, span);
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
                                  span.size(), span.end / kept_share - span.begin / kept_share);
  search.for_many = steps.bins != nullptr && span.size() >= smallest_for_many &&
                    search.size > most_for_one && !is_trivial(search.whole);
  if (search.for_many) {
    unsigned long long* const bins = steps.bins_of(span);
    for (int bin = threadIdx.x; bin < bin_count; bin += threads) bins[bin] = 0;
  } else {
    const Optimum best = find(steps.source(values, span, search), search, nullptr);
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
    const Narrowed<C> narrowed = narrow(search.bracket, all_bins, above, search.whole);
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
  const Optimum best = find(steps.source(values, span, search), search, single_bins);
  if (threadIdx.x == 0) results.write(map, best);
}

}  // namespace marginseg::dice_threshold
