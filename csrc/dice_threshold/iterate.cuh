// The iteration without a sort. One block a map samples it and guesses t*; many blocks a map sum
// what is above the guess and keep what is near; and one block a map climbs to t* within what was
// kept. The host waits for nothing. The steps are those of cpu.cpp, and so is their arithmetic:
// guess.h, climb.h and cut.h.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "common/cuda/vector.cuh"
#include "dice_threshold/climb.h"
#include "dice_threshold/cut.h"
#include "dice_threshold/guess.h"
#include "dice_threshold/maps.cuh"

namespace marginseg::dice_threshold {

// Each thread samples so many neighbours.
constexpr int sampled_run = 16;

// The array of kept values has a place for every eighth value: a map of the values [begin, end)
// owns its places [begin / kept_share, end / kept_share).
constexpr int64_t kept_share = 8;

// A block keeps so many values in its shared memory before it writes any to that array.
constexpr int block_room = 2048;

// What a pass over values learns, given a bracket [low, high).
struct Pass {
  Cut above;  // {m >= high}
  Sum rest;   // the mass of the other values
  __device__ Sum whole() const {
    Sum sum = above.mass;
    add(sum, rest);
    return sum;
  }
};

__device__ inline void add(Pass& pass, const Pass& other) {
  add(pass.above, other.above);
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

// What the steps hand on: one guess and count a map, `parts` passes a map, and the kept values.
template <class C>
struct Steps {
  Guess* guesses;
  unsigned long long* counts;  // of the values within the bracket, kept or not
  Pass* passes;
  int64_t parts;
  C* kept;
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
  if (threadIdx.x == 0) steps.counts[map] = 0;
  // Of a small map the pass only has to sum the mass, and keeps nothing: no probability reaches 2.
  Guess guess{2.0, 2.0, 2.0};
  if (span.size() >= smallest_sampled) {
    Sample sample(values + span.begin, span.size());
    guess = guess_from(sample);
  }
  if (threadIdx.x == 0) steps.guesses[map] = guess;
}

// Each map has `parts` blocks, which read N values at once.
template <int N, class V>
__global__ __launch_bounds__(threads, 2) void survey_maps(const V* const values, const Maps maps,
                                                          const Steps<computing<V>> steps) {
  using C = computing<V>;
  __shared__ C near[block_room];
  __shared__ int near_count;
  __shared__ int64_t first_place;
  const int64_t map = blockIdx.x / steps.parts;
  const int64_t part = blockIdx.x % steps.parts;
  const Span span = maps.of(map);
  const int64_t length = parts(parts(span.size(), steps.parts), N) * N;
  const int64_t begin = span.begin + part * length;
  const int64_t end = min(begin + length, span.end);
  const C low = rounded_up<C>(steps.guesses[map].low);
  const C high = rounded_up<C>(steps.guesses[map].high);
  C* const kept = steps.kept + span.begin / kept_share;
  const int64_t room = span.end / kept_share - span.begin / kept_share;
  const auto keep = [&](const int64_t place, const C value) {
    if (place < room) kept[place] = value;
  };
  if (threadIdx.x == 0) near_count = 0;
  __syncthreads();

  Pass pass{empty_cut, {0.0, 0.0}};
#pragma unroll 2
  for (int64_t i = begin + threadIdx.x * N; i < end; i += threads * N) {
    const Vector<C, N> read = load<N>(values + i);
#pragma unroll
    for (int lane = 0; lane < N; ++lane) {
      const C value = read.lane[lane];
      if (value >= high) {
        add(pass.above.mass, static_cast<double>(value));
        ++pass.above.volume;
      } else {
        add(pass.rest, static_cast<double>(value));
        if (value >= low) {
          const int place = atomicAdd(&near_count, 1);
          if (place < block_room) {
            near[place] = value;
          } else {
            keep(atomicAdd(steps.counts + map, 1ull), value);
          }
        }
      }
    }
  }
  const Pass sum = block_sum(pass);
  const int found = near_count < block_room ? near_count : block_room;
  if (threadIdx.x == 0) {
    steps.passes[blockIdx.x] = sum;
    first_place = atomicAdd(steps.counts + map, static_cast<unsigned long long>(found));
  }
  __syncthreads();
  for (int i = threadIdx.x; i < found; i += threads) keep(first_place + i, near[i]);
}

// What climb() looks through, a block together: some values of a map, and `certain`, the cut of the
// larger ones. The rest of the map lies below t*.
template <class V>
struct Candidates {
  const V* values;
  const computing<V>* kept;  // instead, where there are any
  int64_t size;
  Cut certain;

  __device__ double operator[](const int64_t i) const {
    return static_cast<double>(kept != nullptr ? kept[i] : widen(values[i]));
  }

  __device__ Cut cut(const double threshold) const {
    Cut own = empty_cut;
    for (int64_t i = threadIdx.x; i < size; i += threads) {
      const double value = (*this)[i];
      if (value >= threshold && value > 0.0) add(own, {{value, 0.0}, 1});
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
      for (int64_t i = threadIdx.x; i < candidates_.size; i += threads) {
        const double value = candidates_[i];
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
};

// sup D of a map, found by one block, of which each thread gets the result.
template <class V>
__device__ Optimum optimum_of(const V* const values, const Maps& maps, const int64_t map,
                              const Steps<computing<V>>& steps) {
  if (!maps.known()) return unknown();
  const Span span = maps.of(map);
  const Candidates<V> all{values + span.begin, nullptr, span.size(), empty_cut};
  Pass own{empty_cut, {0.0, 0.0}};
  if (steps.parts > 0) {
    for (int64_t part = threadIdx.x; part < steps.parts; part += threads) {
      add(own, steps.passes[map * steps.parts + part]);
    }
  } else {
    for (int64_t i = threadIdx.x; i < span.size(); i += threads) add(own.rest, all[i]);
  }
  const Pass pass = block_sum(own);
  const Sum whole = pass.whole();
  if (is_trivial(whole)) return trivial_optimum(whole);

  Candidates<V> looked_at = all;
  double start = middle_threshold;
  if (steps.parts > 0 && span.size() >= smallest_sampled) {
    const Guess guess = steps.guesses[map];
    const auto count = static_cast<int64_t>(steps.counts[map]);
    const int64_t first = span.begin / kept_share;
    const double dice_at_high = dice_of(pass.above, whole);
    start = dice_at_high / 2.0;
    if (count <= span.end / kept_share - first) {
      const Candidates<V> near{nullptr, steps.kept + first, count, pass.above};
      if (guess.holds(dice_of(near.cut(guess.low), whole), dice_at_high)) {
        looked_at = near;
        start = guess.threshold;
      }
    }
  }
  return climb(looked_at, whole, start);
}

// One block a map.
template <class V>
__global__ __launch_bounds__(threads, 2) void find_threshold(const V* const values, const Maps maps,
                                                             const Steps<computing<V>> steps,
                                                             const Results results) {
  const int64_t map = blockIdx.x;
  const Optimum best = optimum_of(values, maps, map, steps);
  if (threadIdx.x == 0) results.write(map, best);
}

}  // namespace marginseg::dice_threshold
