// The CUDA kernels of the filter: the last two axes at once, or one axis.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "common/cuda/vector.cuh"
#include "common/extension.h"

namespace marginseg::gaussian_filter {

// The weights of an axis, w[0..radius]. Kernels take them by value, as a grid constant: so they are
// read from the constant bank, and a captured graph keeps them.
template <class C, int capacity_>
struct Weights {
  static constexpr int capacity = capacity_;
  int radius;
  C values[capacity_];
};

constexpr int fused_radius = 16;
constexpr int short_radius = 63;
// The parameters of a kernel have up to 32764 bytes.
constexpr int longest_radius = 3999;

// What stands outside the image, and what the result is cut at.
template <class C>
struct Border {
  Extension extension;
  C cval;
  C ceiling;
};

// Goes along an axis and beyond its ends, a voxel at a time. It gives what extend() gives, but
// divides only once, at the start.
class Walk {
 public:
  __device__ Walk(const int64_t first, const int64_t size, const Extension extension)
      : size_(static_cast<int>(size)), extension_(extension) {
    // `reflect` repeats the voxel at an end, `mirror` does not.
    const int twice = extension == Extension::reflect ? 1 : 0;
    if (extension == Extension::wrap) period_ = size_;
    if (extension == Extension::reflect || extension == Extension::mirror) {
      period_ = 2 * size_ - 2 + 2 * twice;
      if (period_ == 0) period_ = 1;
    }
    folded_ = period_ - twice;
    position_ = static_cast<int>(first);
    if (period_ > 0) {
      position_ %= period_;
      if (position_ < 0) position_ += period_;
    }
  }

  // The index within the axis of the next voxel, or `outside`.
  __device__ int next() {
    const int position = position_++;
    if (position_ == period_) position_ = 0;
    if (position >= 0 && position < size_) return position;
    if (period_ > 0) return folded_ - position;
    if (extension_ == Extension::constant) return static_cast<int>(outside);
    return position < 0 ? 0 : size_ - 1;
  }

 private:
  int size_;
  Extension extension_;
  int period_ = 0;  // how many voxels it takes until the axis repeats itself; 0 if it never does
  int folded_;      // the sum of two positions of one period at which the same voxel stands
  int position_;
};

// The longest axis for which a walk can count in ints, as far beyond the ends as any kernel
// reaches.
constexpr int64_t longest_axis = (int64_t{1} << 30) - 1;

// sum[t] = sum_k w[|k|] value(t + k) for T neighbours t. Each value is asked for once, in order,
// and used T times: the ones in use are a ring of registers, whose indices the compiler knows.
template <int T, int N, class C, int capacity, class Value>
__device__ __forceinline__ void filter_neighbours(const Weights<C, capacity>& weights,
                                                  Value&& value, Vector<C, N> (&sum)[T]) {
  const int radius = weights.radius;
  Vector<C, N> ring[T];
#pragma unroll
  for (int t = 0; t < T; ++t) {
    ring[t] = value(t - radius);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[t].lane[i] = 0;
  }
  for (int first = -radius; first <= radius; first += T) {
#pragma unroll
    for (int step = 0; step < T; ++step) {
      const int k = first + step;
      if (k > radius) break;
      const C weight = weights.values[k < 0 ? -k : k];
#pragma unroll
      for (int t = 0; t < T; ++t) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
          sum[t].lane[i] = multiply_add(weight, ring[(t + step) % T].lane[i], sum[t].lane[i]);
        }
      }
      if (k < radius) ring[step] = value(T + k);
    }
  }
}

template <class C, int N>
__device__ __forceinline__ Vector<C, N> cut(Vector<C, N> values, const C ceiling) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (values.lane[i] > ceiling) values.lane[i] = ceiling;
  }
  return values;
}

// The part of a plane that a block filters, and the same with the surroundings that it reads.
template <class C>
struct Tile {
  static constexpr int rows = sizeof(C) == 8 ? 16 : 32;
  static constexpr int columns = sizeof(C) == 8 ? 32 : 64;
  static constexpr int rows_around = rows + 2 * fused_radius;
  static constexpr int columns_around = columns + 2 * fused_radius;
};

struct Planes {
  int64_t count;
  int64_t height;
  int64_t width;
  int64_t tiles_down;
  int64_t tiles_across;
};

// Reads columns [begin, begin + length) of row y of a plane into shared memory. `begin` and
// `length` are multiples of N, and so is the width where N > 1. A whole warp takes part.
template <int N, class S, class C>
__device__ __forceinline__ void load_row(const S* const plane, const Planes& planes,
                                         const int64_t y, const int64_t begin, const int length,
                                         const Border<C>& border, C* const target) {
  const int64_t row = extend(y, planes.height, border.extension);
  const S* const source = plane + row * planes.width;
  for (int i = lane_number() * N; i < length; i += warp_size * N) {
    const int64_t x = begin + i;
    if (row != outside && x >= 0 && x < planes.width) {
      const auto values = load<N>(source + x);
#pragma unroll
      for (int lane = 0; lane < N; ++lane) target[i + lane] = values.lane[lane];
    } else {
#pragma unroll 1
      for (int lane = 0; lane < N; ++lane) {
        const int64_t column = extend(x + lane, planes.width, border.extension);
        const bool inside = row != outside && column != outside;
        target[i + lane] = inside ? widen(source[column]) : border.cval;
      }
    }
  }
}

// Filters both axes of each plane, in shared memory. N elements are read at once.
template <int N, class S, class D, class C>
__global__ __launch_bounds__(threads, 3) void filter_planes(
    const S* const input, D* const output, const Planes planes,
    const __grid_constant__ Weights<C, fused_radius + 1> down,
    const __grid_constant__ Weights<C, fused_radius + 1> across, const Border<C> border) {
  using Part = Tile<C>;
  constexpr int neighbours = 8;
  // Odd strides: 32 rows of one column lie in 32 banks.
  __shared__ C loaded[Part::rows_around][Part::columns_around + 1];
  __shared__ C filtered[Part::rows_around][Part::columns + 1];
  const int warp = warp_number();
  const int lane = lane_number();

  const int64_t tile = blockIdx.x % (planes.tiles_down * planes.tiles_across);
  const int64_t number = blockIdx.x / (planes.tiles_down * planes.tiles_across);
  const int64_t y0 = tile / planes.tiles_across * Part::rows;
  const int64_t x0 = tile % planes.tiles_across * Part::columns;
  const int64_t place = number * planes.height * planes.width;
  const int rows = static_cast<int>(min(static_cast<int64_t>(Part::rows), planes.height - y0));
  const int rows_around = rows + 2 * down.radius;

  // The columns to the left of the tile are rounded up to whole vectors, and so are those to the
  // right.
  const int margin = (across.radius + N - 1) / N * N;
  for (int row = warp; row < rows_around; row += warps) {
    load_row<N>(input + place, planes, y0 - down.radius + row, x0 - margin,
                Part::columns + 2 * margin, border, loaded[row]);
  }
  __syncthreads();

  constexpr int groups = Part::columns / neighbours;
  const int row_blocks = (rows_around + warp_size - 1) / warp_size;
  for (int item = warp; item < groups * row_blocks; item += warps) {
    const int row = item / groups * warp_size + lane;
    if (row >= rows_around) continue;
    const int column = item % groups * neighbours;
    Vector<C, 1> sum[neighbours];
    filter_neighbours(
        across, [&](const int i) { return Vector<C, 1>{{loaded[row][margin + column + i]}}; }, sum);
#pragma unroll
    for (int t = 0; t < neighbours; ++t) filtered[row][column + t] = sum[t].lane[0];
  }
  __syncthreads();

  constexpr int column_blocks = Part::columns / warp_size;
  for (int item = warp; item < column_blocks * (Part::rows / neighbours); item += warps) {
    const int column = item % column_blocks * warp_size + lane;
    const int row = item / column_blocks * neighbours;
    if (row >= rows || x0 + column >= planes.width) continue;
    Vector<C, 1> sum[neighbours];
    filter_neighbours(
        down, [&](const int i) { return Vector<C, 1>{{filtered[down.radius + row + i][column]}}; },
        sum);
#pragma unroll
    for (int t = 0; t < neighbours; ++t) {
      if (row + t >= rows) break;
      store<1>(output + place + (y0 + row + t) * planes.width + x0 + column,
               cut(sum[t], border.ceiling));
    }
  }
}

// The middle axis of an array (outer, size, inner), for axes that are not the last.
struct Strided {
  int64_t outer;
  int64_t size;
  int64_t inner;
  int64_t groups;  // blocks along the axis: each of its warps takes a run of neighbours
  int64_t tiles;   // blocks along the inner axes: each of a warp's lanes takes a vector
};

// How many neighbours along the axis a thread computes, of vectors of N.
template <int N>
constexpr int neighbours_of = N == 8 ? 4 : 8;

// Filters that axis; a lane takes N neighbours along the inner axes. The warps of a block read
// overlapping parts of the axis, which they find in the L1 cache after the first read.
template <int N, class S, class D, class C, int capacity>
__global__ __launch_bounds__(threads, 2) void filter_strided(
    const S* const input, D* const output, const Strided axis,
    const __grid_constant__ Weights<C, capacity> weights, const Border<C> border) {
  constexpr int neighbours = neighbours_of<N>;
  const int64_t tile = blockIdx.x % axis.tiles;
  const int64_t group = blockIdx.x / axis.tiles % axis.groups;
  const int64_t entry = blockIdx.x / axis.tiles / axis.groups;
  const int64_t column = (tile * warp_size + lane_number()) * N;
  const int64_t first = (group * warps + warp_number()) * neighbours;
  if (column >= axis.inner || first >= axis.size) return;
  const S* const source = input + entry * axis.size * axis.inner + column;
  D* const target = output + entry * axis.size * axis.inner + column;
  Walk walk(first - weights.radius, axis.size, border.extension);
  Vector<C, N> sum[neighbours];
  filter_neighbours(
      weights,
      [&](int) {
        // A run can end beyond the axis by more than the radius: nobody needs those sums.
        const int index = walk.next();
        if (index != outside) return load<N>(source + index * axis.inner);
        Vector<C, N> beyond;
#pragma unroll
        for (int lane = 0; lane < N; ++lane) beyond.lane[lane] = border.cval;
        return beyond;
      },
      sum);
#pragma unroll
  for (int t = 0; t < neighbours; ++t) {
    if (first + t >= axis.size) break;
    store<N>(target + (first + t) * axis.inner, cut(sum[t], border.ceiling));
  }
}

// Filters the last axis, for kernels that are too long for shared memory.
template <class S, class D, class C>
__global__ __launch_bounds__(threads) void filter_rows(
    const S* const input, D* const output, const int64_t count, const int64_t width,
    const __grid_constant__ Weights<C, longest_radius + 1> weights, const Border<C> border) {
  const int64_t place = thread_number();
  if (place >= count * width) return;
  const int64_t x = place % width;
  const S* const row = input + (place - x);
  Walk walk(x - weights.radius, width, border.extension);
  C sum = 0;
  for (int k = -weights.radius; k <= weights.radius; ++k) {
    const int index = walk.next();
    const C value = index == outside ? border.cval : widen(row[index]);
    sum = multiply_add(weights.values[k < 0 ? -k : k], value, sum);
  }
  store<1>(output + place, cut(Vector<C, 1>{{sum}}, border.ceiling));
}

}  // namespace marginseg::gaussian_filter
