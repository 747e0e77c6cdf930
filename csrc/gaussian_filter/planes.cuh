// The last two axes at once, for kernels that are short enough for shared memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/vector.cuh"
#include "common/extension.h"
#include "gaussian_filter/neighbours.cuh"

namespace marginseg::gaussian_filter {

// A block of few threads: several fit into a multiprocessor, and while one of them loads, others
// compute.
constexpr int plane_warps = 4;
constexpr int plane_threads = plane_warps * warp_size;

// The part of a plane that a block filters, and the same with the surroundings that it reads, up to
// `widest` voxels on each side. Short kernels get less shared memory, and more blocks share a
// multiprocessor.
template <class C, int widest>
struct Tile {
  static constexpr int rows = 16 * wide<C>;
  static constexpr int columns = 16 * wide<C>;
  static constexpr int margin = widest;
  static constexpr int rows_around = rows + 2 * margin;
  static constexpr int columns_around = columns + 2 * margin;
  // Vectors at one column of eight rows, one below the other, lie in different banks.
  static constexpr int stride = columns_around + wide<C>;
};

// How the planes are cut into tiles, of up to `rows` rows.
struct Planes {
  int height;
  int width;
  int rows;
  int tiles_down;
  int tiles_across;
};

// Where the voxels outside a plane are found around a tile, for modes other than `constant`.
template <class Part>
struct Sources {
  int row[Part::rows_around];
  int column[Part::columns_around];
};

// Reads rows [y, y + rows) and columns [x - margin, x + columns + margin) of a plane into shared
// memory. N elements are read at once, of a plane whose width is a multiple of N; so is the margin.
template <class Part, int N, class S, class C>
__device__ __forceinline__ void load_tile(const S* const plane, const int height, const int width,
                                          const int y, const int x, const int rows,
                                          const int margin, const Border<C>& border,
                                          const Sources<Part>& sources,
                                          C (*const target)[Part::stride]) {
  // So many loads are under way in each thread before the first of them is waited for.
  constexpr int batch = 8;
  const int thread = static_cast<int>(threadIdx.x);
  const int vectors = (Part::columns + 2 * margin) / N;
  const int step = plane_threads / vectors;
  const int begin = thread / vectors;
  if (begin >= step) return;
  const int offset = Part::margin - margin + thread % vectors * N;
  const int column = x - Part::margin + offset;
  const bool inside = column >= 0 && column < width;
  const int top = inside ? max(0, -y) : rows;
  const int bottom = inside ? min(rows, height - y) : rows;
  const bool constant = border.extension == Extension::constant;
  if (inside || constant) {
    const int64_t pitch = static_cast<int64_t>(step) * width;
    // It passes rows outside the plane too, where nothing is read.
    const S* from = plane + static_cast<int64_t>(y + begin) * width + column;
    C* to = &target[begin][offset];
    for (int first = begin; first < rows; first += batch * step) {
      Vector<C, N> values[batch];
#pragma unroll
      for (int i = 0; i < batch; ++i) {
        const int row = first + i * step;
        values[i] = filled<N>(border.cval);
        if (row >= top && row < bottom) values[i] = load<N>(from);
        from += pitch;
      }
#pragma unroll
      for (int i = 0; i < batch; ++i) {
        if (first + i * step < rows) store<N>(to, values[i]);
        to += step * Part::stride;
      }
    }
  }
  if (constant) return;
  int columns[N];
#pragma unroll
  for (int i = 0; i < N; ++i) columns[i] = sources.column[offset + i];
  for (int row = begin; row < rows; row += step) {
    if (row >= top && row < bottom) continue;
    const S* const source = plane + static_cast<int64_t>(sources.row[row]) * width;
    Vector<C, N> values;
#pragma unroll
    for (int i = 0; i < N; ++i) values.lane[i] = widen(source[columns[i]]);
    store<N>(&target[row][offset], values);
  }
}

// Filters both axes of each plane, in shared memory. N elements are read and written at once.
template <int N, int widest, class S, class D, class C>
__global__ __launch_bounds__(plane_threads, widest < unrolled_radius ? 6 : 5) void filter_planes(
    const S* const input, D* const output, const Planes planes,
    const __grid_constant__ Weights<C, widest> down,
    const __grid_constant__ Weights<C, widest> across, const Border<C> border) {
  using Part = Tile<C, widest>;
  alignas(16) __shared__ C values[Part::rows_around][Part::stride];
  __shared__ Sources<Part> sources;
  const int warp = warp_number();
  const int lane = lane_number();

  const int tile = static_cast<int>(blockIdx.x) % (planes.tiles_down * planes.tiles_across);
  const int number = static_cast<int>(blockIdx.x) / (planes.tiles_down * planes.tiles_across);
  const int y0 = tile / planes.tiles_across * planes.rows;
  const int x0 = tile % planes.tiles_across * Part::columns;
  const int64_t plane = static_cast<int64_t>(number) * planes.height;
  const int rows = min(planes.rows, planes.height - y0);
  const int rows_around = rows + 2 * down.radius;

  if (border.extension != Extension::constant) {
    find_sources(y0 - down.radius, rows_around, planes.height, border.extension, plane_threads,
                 sources.row);
    find_sources(x0 - Part::margin, Part::columns_around, planes.width, border.extension,
                 plane_threads, sources.column);
    __syncthreads();
  }
  const int margin = (across.radius + wide<C> - 1) / wide<C> * wide<C>;
  load_tile<Part, N>(input + plane * planes.width, planes.height, planes.width, y0 - down.radius,
                     x0, rows_around, margin, border, sources, values);
  __syncthreads();

  const auto nothing = [](int) {};
  // Along x: a warp filters eight rows at once, and a lane a run of neighbours, in place. Rows
  // beyond the last are filtered as well; nobody reads them.
  constexpr int run = 4 * wide<C>;
  constexpr int rows_of_warp = 8;
  for (int first = warp * rows_of_warp; first < rows_around; first += plane_warps * rows_of_warp) {
    C* const centre =
        values[first + lane % rows_of_warp] + Part::margin + lane / rows_of_warp * run;
    const auto read = [&](const int m) { return load<wide<C>>(centre + m); };
    NeighbourSums<C, run, 1, wide<C>> sums(across.values[0], read);
    sums.reach(across, nothing, read, read);
    __syncwarp();  // until every lane has read what its neighbours are about to overwrite
#pragma unroll
    for (int t = 0; t < run; t += wide<C>) {
      Vector<C, wide<C>> result;
#pragma unroll
      for (int i = 0; i < wide<C>; ++i) result.lane[i] = sums.sum[t + i].lane[0];
      store<wide<C>>(centre + t, result);
    }
  }
  __syncthreads();

  // Along y: a warp filters eight rows of the result, and a lane as many columns as make the tile's
  // width.
  constexpr int neighbours = 8;
  constexpr int side_by_side = Part::columns / warp_size;
  const int column = lane * side_by_side;
  if (x0 + column >= planes.width) return;
  for (int first = warp * neighbours; first < rows; first += plane_warps * neighbours) {
    const C* const centre = values[first + down.radius] + Part::margin + column;
    const auto read = [&](const int m) { return load<side_by_side>(centre + m * Part::stride); };
    NeighbourSums<C, neighbours, side_by_side, 1> sums(down.values[0], read);
    sums.reach(down, nothing, read, read);
#pragma unroll
    for (int t = 0; t < neighbours; ++t) {
      if (first + t >= rows) break;
      const int64_t row = plane + y0 + first + t;
      if constexpr (N > 1) {
        // Counted in vectors, so that the compiler sees that they are aligned.
        const int64_t place = row * (planes.width / side_by_side) + (x0 / side_by_side + lane);
        store<side_by_side>(output + place * side_by_side, sums.sum[t]);
      } else {
#pragma unroll
        for (int i = 0; i < side_by_side; ++i) {
          if (x0 + column + i < planes.width) {
            store<1>(output + row * planes.width + x0 + column + i, filled<1>(sums.sum[t].lane[i]));
          }
        }
      }
    }
  }
}

}  // namespace marginseg::gaussian_filter
