// The iteration without a sort: a sample says where t* lies, one pass by many blocks sums what is
// above and keeps what is near, and one block a map climbs to t* within that. The host waits for
// nothing. csrc/dice_threshold/cpu.cpp has the same steps.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "common/cuda/vector.cuh"
#include "dice_threshold/maps.cuh"

namespace marginseg::dice_threshold {

// Below this a sample saves nothing.
constexpr int64_t smallest_sampled = 1 << 15;

// Each thread samples so many neighbours.
constexpr int sampled_run = 16;

// Of a map's values an eighth can be kept; those of its first value / 8 and on are its own.
constexpr int64_t kept_share = 8;

// What a block keeps before it asks for a place.
constexpr int block_room = 2048;

// Where t* lies, most likely; `sampled` is false for small maps, where it is not asked.
struct Guess {
  double low;
  double threshold;
  double high;
  bool sampled;
};

// What a pass over values learns, given a bracket.
struct Pass {
  Cut above;  // {m >= high}
  Sum rest;   // the mass of the others
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

// What a sample tells of a threshold, in plain doubles.
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

// What the steps hand on; one entry a map, `parts` passes a map, an eighth of the values.
template <class C>
struct Steps {
  Guess* guesses;
  unsigned long long* counts;  // of the values within the bracket, kept or not
  Pass* passes;
  int64_t parts;
  C* kept;
};

// The smallest C that is not below `bound`, and not 0.
template <class C>
__device__ C rounded_up(const double bound) {
  constexpr C smallest = std::numeric_limits<C>::denorm_min();
  if (!(bound > static_cast<double>(smallest))) return smallest;
  const C rounded = static_cast<C>(bound);
  if (static_cast<double>(rounded) >= bound) return rounded;
  return nextafter(rounded, std::numeric_limits<C>::infinity());
}

// One block a map.
template <class V>
__global__ __launch_bounds__(threads, 2) void guess_threshold(const V* const values,
                                                              const Maps maps,
                                                              const Steps<computing<V>> steps) {
  const int64_t map = blockIdx.x;
  const Span span = maps.of(map);
  if (threadIdx.x == 0) steps.counts[map] = 0;
  if (span.size() < smallest_sampled) {
    if (threadIdx.x == 0) steps.guesses[map] = {2.0, 2.0, 2.0, false};
    return;
  }
  // One run in each of equal parts, at a random place: the map's rows are regular.
  const int64_t part = span.size() / threads;
  uint64_t state = (threadIdx.x + 1) * 0x9e3779b97f4a7c15u;
  state = (state ^ (state >> 31)) * 0xbf58476d1ce4e5b9u;
  const auto jump =
      static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(part - sampled_run + 1));
  const V* const source = values + span.begin + threadIdx.x * part + jump;
  double sample[sampled_run];
#pragma unroll
  for (int i = 0; i < sampled_run; ++i) sample[i] = static_cast<double>(widen(source[i]));

  double threshold = 0.25;
  Moments own;
  Moments all;
  for (int pass = 0; pass < 16; ++pass) {
    own = {0.0, 0.0, 0.0};
#pragma unroll
    for (int i = 0; i < sampled_run; ++i) {
      own.whole += sample[i];
      if (sample[i] >= threshold) {
        own.mass += sample[i];
        own.volume += 1.0;
      }
    }
    all = block_sum(own);
    const double previous = threshold;
    if (!(all.whole > 0.0)) break;
    threshold = all.mass / (all.whole + all.volume);
    if (fabs(threshold - previous) <= 1e-4 * threshold) break;
  }
  // t* solves mass - t (whole + volume) = 0, whose slope is -(whole + volume); its error is that of
  // a sum of independent runs.
  const double off = own.mass - threshold * (own.whole + own.volume);
  const double mean = (all.mass - threshold * (all.whole + all.volume)) / threads;
  const Moments spread = block_sum(Moments{(off - mean) * (off - mean), 0.0, 0.0});
  if (threadIdx.x != 0) return;
  const double reach = 5.0 * sqrt(spread.whole) / (all.whole + all.volume) + 1e-3 * threshold;
  steps.guesses[map] = all.whole > 0.0
                           ? Guess{threshold - reach, threshold, threshold + reach, true}
                           : Guess{0.0, 0.25, 0.5, true};
}

// `parts` blocks a map. N values are read at once.
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
  const int64_t length = ((span.size() + steps.parts - 1) / steps.parts + N - 1) / N * N;
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

// The values that one block looks through.
template <class V>
struct Values {
  const V* values;
  const computing<V>* kept;  // instead, where there are any
  int64_t size;
  __device__ double operator[](const int64_t i) const {
    return static_cast<double>(kept != nullptr ? kept[i] : widen(values[i]));
  }
};

// {m >= t} among the values, and what is certain to be in it.
template <class V>
__device__ Cut cut_at(const Values<V>& values, const double threshold, const Cut& certain) {
  Cut own = empty_cut;
  for (int64_t i = threadIdx.x; i < values.size; i += threads) {
    const double value = values[i];
    if (value >= threshold && value > 0.0) add(own, {{value, 0.0}, 1});
  }
  Cut cut = block_sum(own);
  add(cut, certain);
  return cut;
}

struct Optimum {
  double dice;
  int64_t volume;
};

// As on the CPU, which tells why it ends at sup D. The few cuts around t* are compared from above,
// one value after another: there are hardly any, and no sort is needed.
template <class V>
__device__ Optimum climb(const Values<V>& values, const Cut& certain, const Sum& whole,
                         const double start) {
  double best = 0.0;
  for (double threshold = start;;) {
    for (;;) {
      const double dice = dice_of(cut_at(values, threshold, certain), whole);
      if (!(dice > best)) break;
      best = dice;
      threshold = dice / 2.0;
    }
    threshold = best / 2.0;
    const double margin =
        fmax(ldexp(threshold, -40), 16.0 * std::numeric_limits<double>::denorm_min());
    const double low = threshold - margin;
    const double high = threshold + margin;
    best = dice_of(cut_at(values, high, certain), whole);
    threshold = best / 2.0;
    if (threshold >= high) continue;
    for (double edge = high;;) {
      double next = 0.0;
      for (int64_t i = threadIdx.x; i < values.size; i += threads) {
        const double value = values[i];
        if (value >= low && value < edge && value > next) next = value;
      }
      next = block_reduce(next, KeepLarger{});
      if (!(next > 0.0)) break;
      edge = next;
      best = fmax(best, dice_of(cut_at(values, edge, certain), whole));
    }
    return {best, cut_at(values, best / 2.0, certain).volume};
  }
}

// One block a map.
template <class V>
__global__ __launch_bounds__(threads, 2) void find_threshold(const V* const values, const Maps maps,
                                                             const Steps<computing<V>> steps,
                                                             const Results results) {
  const int64_t map = blockIdx.x;
  if (!maps.known()) {
    if (threadIdx.x == 0) results.write_unknown(map);
    return;
  }
  const Span span = maps.of(map);
  const Values<V> all{values + span.begin, nullptr, span.size()};
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
  if (!is_known(whole)) {
    if (threadIdx.x == 0) results.write_unknown(map);
    return;
  }
  if (whole.high <= 0.0) {
    if (threadIdx.x == 0) results.write_nothing(map);
    return;
  }

  Values<V> looked_at = all;
  Cut certain = empty_cut;
  double start = 0.25;
  if (steps.parts > 0 && steps.guesses[map].sampled) {
    const Guess guess = steps.guesses[map];
    const auto count = static_cast<int64_t>(steps.counts[map]);
    const int64_t first = span.begin / kept_share;
    start = dice_of(pass.above, whole) / 2.0;
    if (count <= span.end / kept_share - first) {
      const Values<V> near{nullptr, steps.kept + first, count};
      // t <= t* where D(t) / 2 >= t.
      const bool below = start < guess.high;
      const bool above = dice_of(cut_at(near, guess.low, pass.above), whole) / 2.0 >= guess.low;
      if (below && above) {
        looked_at = near;
        certain = pass.above;
        start = guess.threshold;
      }
    }
  }
  const Optimum best = climb(looked_at, certain, whole, start);
  if (threadIdx.x == 0) results.write(map, best.dice, best.volume);
}

}  // namespace marginseg::dice_threshold
