// What the CUDA kernels of the filter share: weights, borders, and the weighted sum over
// neighbours.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/floating.cuh"
#include "common/cuda/vector.cuh"
#include "common/extension.h"

namespace marginseg::gaussian_filter {

// The weights of an axis, w[0..radius]. Kernels take them by value, as a grid constant: so they are
// read from the constant bank, and a captured graph keeps them.
template <class C, int longest>
struct Weights {
  static constexpr int longest_radius = longest;
  int radius;
  C values[longest + 1];
};

// Sums over up to so many neighbours on each side are unrolled in full. The offsets of their
// weights are then known to the compiler, and a weight is an operand of the multiply-add.
constexpr int unrolled_radius = 16;
constexpr int narrow_radius = 8;
constexpr int short_radius = 63;
// The parameters of a kernel have up to 32764 bytes.
constexpr int longest_radius = 3999;

// The longest axis for which kernels can count in ints, as far beyond the ends as any of them
// reaches.
constexpr int64_t longest_axis = (int64_t{1} << 30) - 1;

// How many values of type C one access of 16 bytes reads.
template <class C>
constexpr int wide = 16 / static_cast<int>(sizeof(C));

// What stands outside the image.
template <class C>
struct Border {
  Extension extension;
  C cval;
};

template <int N, class C>
__device__ __forceinline__ Vector<C, N> filled(const C value) {
  Vector<C, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result.lane[i] = value;
  return result;
}

// Sets sources[i] to where position first + i of the extended axis stands within the axis, or to
// `outside`. Threads 0..threads - 1 share the work.
__device__ __forceinline__ void find_sources(const int first, const int count, const int size,
                                             const Extension extension, const int threads,
                                             int* const sources) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < count; i += threads) {
    sources[i] = static_cast<int>(extend(first + i, size, extension));
  }
}

// Weighted sums at T neighbours along an axis, of V values side by side:
//   sum[t] = sum_k w[|k|] value(t + k).
// They grow from the centre outwards, k = 0, -1, 1, -2, 2, ..., so that they are right for any
// radius at which they stop, and so that the values a thread asks for first are its own. Each value
// is asked for once a side and used T times: the T in use on each side are a ring of registers,
// whose indices the compiler knows.
//
// read(m), or below(m) and above(m) for neighbours before and after the T, give value(m), ...,
// value(m + P - 1) for m a multiple of P, as one vector of P V values. They are called once for
// each m, from the centre outwards. T is a multiple of P.
template <class C, int T, int V, int P>
class NeighbourSums {
 public:
  template <class Read>
  __device__ __forceinline__ NeighbourSums(const C weight, Read&& read) {
#pragma unroll
    for (int first = 0; first < T; first += P) {
      const Vector<C, P * V> values = read(first);
#pragma unroll
      for (int i = 0; i < P; ++i) {
        take(values, i, below_[first + i]);
        take(values, i, above_[first + i]);
      }
    }
#pragma unroll
    for (int t = 0; t < T; ++t) {
#pragma unroll
      for (int v = 0; v < V; ++v) sum[t].lane[v] = weight * below_[t].lane[v];
    }
  }

  // Adds the neighbours at distances 1, ..., radius on both sides. Before those from k + 1 on are
  // read, prepare(k) is called, for each k that is a multiple of T.
  template <int longest, class Prepare, class Below, class Above>
  __device__ __forceinline__ void reach(const Weights<C, longest>& weights, Prepare&& prepare,
                                        Below&& below, Above&& above) {
    constexpr bool unrolled = longest <= unrolled_radius;
    [[maybe_unused]] constexpr int turns = unrolled ? (longest + T - 1) / T : 1;
    const int end = unrolled ? longest : weights.radius;
#pragma unroll(turns)
    for (int first = 0; first < end; first += T) {
      prepare(first);
      Vector<C, P * V> lower;
      Vector<C, P * V> upper;
#pragma unroll
      for (int step = 0; step < T; ++step) {
        const int k = first + step + 1;
        if (k > weights.radius) return;
        if (step % P == 0) {
          lower = below(-(k - 1) - P);
          upper = above(T + k - 1);
        }
        // value(m) is in place m mod T: these two take the places of those no longer needed.
        take(lower, P - 1 - step % P, below_[T - 1 - step]);
        take(upper, step % P, above_[step]);
        const C weight = weights.values[k];
#pragma unroll
        for (int t = 0; t < T; ++t) {
#pragma unroll
          for (int v = 0; v < V; ++v) {
            C& to = sum[t].lane[v];
            to = multiply_add(weight, below_[(t + T - 1 - step) % T].lane[v], to);
            to = multiply_add(weight, above_[(t + 1 + step) % T].lane[v], to);
          }
        }
      }
    }
  }

  Vector<C, V> sum[T];

 private:
  __device__ __forceinline__ static void take(const Vector<C, P * V>& values, const int i,
                                              Vector<C, V>& place) {
#pragma unroll
    for (int v = 0; v < V; ++v) place.lane[v] = values.lane[i * V + v];
  }

  Vector<C, V> below_[T];
  Vector<C, V> above_[T];
};

}  // namespace marginseg::gaussian_filter
