// The last axis alone, for kernels of any length.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/vector.cuh"
#include "common/extension.h"
#include "gaussian_filter/neighbours.cuh"

namespace marginseg::gaussian_filter {

constexpr int row_warps = 4;
constexpr int row_threads = row_warps * warp_size;

// What a warp filters: some columns of some rows. A segment of the rows is what it reads to reach
// one segment's worth of neighbours further on one side.
template <class C>
struct Strip {
  static constexpr int rows = 8;
  static constexpr int columns = 16 * wide<C>;
  static constexpr int segment = 2 * columns;
  static constexpr int reach = segment - columns;
  // Vectors at one column of eight rows, one below the other, lie in different banks.
  static constexpr int stride = segment + wide<C>;
};

// Reads columns [begin, begin + segment) of up to Strip::rows rows, which begin at `source`, into
// shared memory. Where N > 1, `begin` and the width are multiples of N. A whole warp takes part.
template <int N, class S, class C>
__device__ __forceinline__ void load_segment(const S* const source, const int width, const int rows,
                                             const int begin, const Border<C>& border,
                                             C (*const target)[Strip<C>::stride]) {
  using Part = Strip<C>;
  constexpr int batch = Part::rows / 2;  // so many loads are under way at once
#pragma unroll 1
  for (int offset = lane_number() * N; offset < Part::segment; offset += warp_size * N) {
    const int column = begin + offset;
    const bool inside = column >= 0 && column < width;
    if (inside || border.extension == Extension::constant) {
      const int last = inside ? rows : 0;
      const S* from = source + column;
      C* to = &target[0][offset];
#pragma unroll 1
      for (int first = 0; first < Part::rows; first += batch) {
        Vector<C, N> values[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) {
          values[i] = filled<N>(border.cval);
          if (first + i < last) values[i] = load<N>(from);
          from += width;
        }
#pragma unroll
        for (int i = 0; i < batch; ++i) store<N>(to + i * Part::stride, values[i]);
        to += batch * Part::stride;
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < N; ++i) {
        const S* from = source + extend(column + i, width, border.extension);
#pragma unroll 1
        for (int row = 0; row < rows; ++row) {
          target[row][offset + i] = widen(*from);
          from += width;
        }
      }
    }
  }
}

// Filters the last axis of an array (count, width); N elements are read and written at once. The
// neighbours to the left of a strip's voxels and those to the right come through shared memory, a
// segment of each side at a time, until the kernel ends.
template <int N, class S, class D, class C, int longest>
__global__ __launch_bounds__(row_threads, 4) void filter_rows(
    const S* const input, D* const output, const int64_t count, const int width,
    const int tiles_across, const __grid_constant__ Weights<C, longest> weights,
    const Border<C> border) {
  using Part = Strip<C>;
  constexpr int run = 4 * wide<C>;
  alignas(16) __shared__ C loaded[row_warps][2][Part::rows][Part::stride];
  auto& left = loaded[warp_number()][0];
  auto& right = loaded[warp_number()][1];
  const int lane = lane_number();
  const int x0 = static_cast<int>(blockIdx.x) % tiles_across * Part::columns;
  const int64_t y0 =
      (static_cast<int64_t>(static_cast<int>(blockIdx.x) / tiles_across) * row_warps +
       warp_number()) *
      Part::rows;
  if (y0 >= count) return;
  const int rows = static_cast<int>(min(static_cast<int64_t>(Part::rows), count - y0));
  const S* const source = input + y0 * width;

  const int row = lane % Part::rows;
  const int column = lane / Part::rows * run;
  load_segment<N>(source, width, rows, x0, border, right);
  __syncwarp();
  NeighbourSums<C, run, 1, wide<C>> sums(
      weights.values[0], [&](const int m) { return load<wide<C>>(&right[row][column + m]); });
  int near = 0;
  sums.reach(
      weights,
      [&](const int k) {
        if (k % Part::reach != 0) return;
        near = k;
        if (near > 0) {
          __syncwarp();  // until every lane has read the last segments
          load_segment<N>(source, width, rows, x0 + near, border, right);
        }
        load_segment<N>(source, width, rows, x0 - near - Part::reach, border, left);
        __syncwarp();
      },
      [&](const int m) { return load<wide<C>>(&left[row][column + m + near + Part::reach]); },
      [&](const int m) { return load<wide<C>>(&right[row][column + m - near]); });

  // Through shared memory, so that the lanes of a warp write whole rows.
  __syncwarp();
#pragma unroll
  for (int t = 0; t < run; t += wide<C>) {
    Vector<C, wide<C>> result;
#pragma unroll
    for (int i = 0; i < wide<C>; ++i) result.lane[i] = sums.sum[t + i].lane[0];
    store<wide<C>>(&left[row][column + t], result);
  }
  __syncwarp();
#pragma unroll
  for (int i = lane * N; i < Part::rows * Part::columns; i += warp_size * N) {
    const int to = i / Part::columns;
    const int x = x0 + i % Part::columns;
    if (to < rows && x < width) {
      store<N>(output + (y0 + to) * width + x, load<N>(&left[to][i % Part::columns]));
    }
  }
}

}  // namespace marginseg::gaussian_filter
