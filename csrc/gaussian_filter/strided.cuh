// One axis that is not the last: whole vectors of voxels side by side are filtered alike.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/vector.cuh"
#include "common/extension.h"
#include "gaussian_filter/neighbours.cuh"

namespace marginseg::gaussian_filter {

// The middle axis of an array (outer, size, inner).
struct Strided {
  int64_t outer;
  int size;
  int64_t inner;
  int groups;  // blocks along the axis: each of its warps takes a run of neighbours
};

constexpr int strided_warps = 4;
constexpr int strided_threads = strided_warps * warp_size;

// How many neighbours along the axis a thread computes, of vectors of N. The more they are, the
// less is read for each; but in a loop over the distances, whose weights and places take registers
// too, fewer leave room for more warps, and that counts for more.
template <int N, int longest>
constexpr int neighbours_of = N == 8 || (N > 1 && longest > unrolled_radius) ? 4 : 8;

// The blocks that are to share a multiprocessor: as many as fit without spilling registers.
template <int N, int longest>
constexpr int resident_blocks = longest <= unrolled_radius ? 4
                                : N == 8                   ? 3
                                                           : 6;

// Filters that axis; a lane takes N neighbours along the inner axes. The lanes of a warp go on from
// one entry of the outer axes to the next, so that all have work however short the inner axes are.
// The warps of a block read overlapping parts of the axis, which they find in the L1 cache after
// the first read.
template <int N, class S, class D, class C, int longest>
__global__ __launch_bounds__(strided_threads, resident_blocks<N, longest>) void filter_strided(
    const S* const input, D* const output, const Strided axis,
    const __grid_constant__ Weights<C, longest> weights, const Border<C> border) {
  constexpr int neighbours = neighbours_of<N, longest>;
  constexpr int of_block = strided_warps * neighbours;
  __shared__ int sources[of_block + 2 * longest];
  // Backwards: what the kernel before this one wrote last is still in the L2 cache.
  const auto block = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int begin = block % axis.groups * of_block;
  find_sources(begin - weights.radius, of_block + 2 * weights.radius, axis.size, border.extension,
               strided_threads, sources);
  __syncthreads();
  const int64_t inner = axis.inner / N;
  const int64_t number = static_cast<int64_t>(block / axis.groups) * warp_size + lane_number();
  const int64_t entry = number / inner;
  const int run = warp_number() * neighbours;
  const int first = begin + run;
  if (entry >= axis.outer || first >= axis.size) return;

  // Counted in vectors, so that the compiler sees that they are aligned.
  const int64_t column = entry * axis.size * inner + (number - entry * inner);
  const int64_t place = column + first * inner;
  const auto beyond = [&](const int m) {
    const int source = sources[weights.radius + run + m];
    if (source == outside) return filled<N>(border.cval);
    return load<N>(input + (column + source * inner) * N);
  };
  const auto read = [&](const int m) {
    if (first + m >= axis.size) return beyond(m);
    return load<N>(input + (place + m * inner) * N);
  };
  NeighbourSums<C, neighbours, N, 1> sums(weights.values[0], read);
  const S* lower = input + place * N;
  const S* upper = input + (place + (neighbours - 1) * inner) * N;
  sums.reach(
      weights, [](int) {},
      [&](const int m) {
        if (first + m < 0) return beyond(m);
        lower -= inner * N;
        return load<N>(lower);
      },
      [&](const int m) {
        if (first + m >= axis.size) return beyond(m);
        upper += inner * N;
        return load<N>(upper);
      });
#pragma unroll
  for (int t = 0; t < neighbours; ++t) {
    if (first + t >= axis.size) break;
    store<N>(output + (place + t * inner) * N, sums.sum[t]);
  }
}

}  // namespace marginseg::gaussian_filter
