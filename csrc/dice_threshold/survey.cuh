// The survey of a map: sums what is above a bracket, keeps what is within, and says where t* lies.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "common/cuda/vector.cuh"
#include "common/parts.h"
#include "dice_threshold/cut.h"
#include "dice_threshold/guess.h"
#include "dice_threshold/search.cuh"

namespace marginseg::dice_threshold {

// Blocks of the survey take chunks of up to so many values.
constexpr int64_t largest_chunk = int64_t{1} << 15;

// The array of kept values has a place for every eighth value: a map of the values [begin, end)
// owns its places [begin / kept_share, end / kept_share).
constexpr int64_t kept_share = 8;

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

  // `count` and `kept` are those of the map, which other blocks keep values of as well.
  __device__ Keeper(Memory& memory, unsigned long long* const count, C* const kept,
                    const int64_t room)
      : memory_(memory), count_(count), kept_(kept), room_(room) {
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
// t <= T(t) / 2, and no T is larger than 2 t*.
template <class C>
__device__ Search<C> search_after(const Pass& pass, const Bracket<C>& surveyed, const int64_t size,
                                  const int64_t room, const double weight) {
  Sum whole = pass.above.mass;
  add(whole, pass.near.mass);
  add(whole, pass.rest);
  const Overlap overlap = overlap_of(whole, weight);
  Cut from_low = pass.above;
  add(from_low, pass.near);
  const auto low = static_cast<double>(surveyed.low);
  const auto high = static_cast<double>(surveyed.high);
  const double at_low = twice_threshold(from_low, overlap) / 2.0;
  const double at_high = twice_threshold(pass.above, overlap) / 2.0;

  double least = (1.0 - slack) * (at_low > at_high ? at_low : at_high) - least_slack;
  double most = beyond_all;
  bool holds = false;
  if (at_low < low) {
    most = low;
  } else if (at_high < high) {
    holds = true;
    if (least < low) least = low;
    // A(t) - t (w S + n(t)) is 0 at t*, and falls from `low` on at least as steeply as at `high`.
    const double steepness = (overlap.whole.high + static_cast<double>(from_low.volume)) /
                             (overlap.whole.high + static_cast<double>(pass.above.volume));
    const double above_low = (at_low - low) + slack * low + least_slack;
    most = (1.0 + slack) * (low + above_low * steepness);
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

}  // namespace marginseg::dice_threshold
