// The low-rank field X = (F_1 ⊗ … ⊗ F_n) ξ, evaluated by a block of threads from what prepare()
// left: it contracts the coefficients of a plane to those of some rows, in shared memory, and then
// evaluates the rows a voxel at a time. Sums run in the order of the CPU's, with the same fused
// multiply-adds, so the field has the same bits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/divisor.cuh"
#include "common/cuda/floating.cuh"
#include "common/cuda/vector.cuh"
#include "common/parts.h"
#include "gaussian_field/prepared.cuh"

namespace marginseg::gaussian_field {

// The part of a plane of an entry that is a block's.
struct Part {
  uint32_t entry;
  uint32_t slab;  // the number of the plane among those of all entries
  uint32_t plane;
  int64_t row;
  int64_t column;
};

// The blocks of a launch, one for each tile of each plane of each entry.
struct Tiles {
  int64_t of_entry;
  Divisor<int32_t> planes;
  Divisor<int32_t> down;
  Divisor<int32_t> across;

  template <class T>
  explicit Tiles(const Factors<T>& factors)
      : of_entry(factors.size[0] * parts(factors.size[1], tile_rows) *
                 parts(factors.size[2], tile_columns)),
        planes(factors.size[0]),
        down(parts(factors.size[1], tile_rows)),
        across(parts(factors.size[2], tile_columns)) {}

  int64_t count(const int64_t entries) const { return entries * of_entry; }

  __device__ Part part() const {
    const auto line = across.divide(static_cast<int32_t>(blockIdx.x));
    const auto slab = down.divide(line.quotient);
    const auto entry = planes.divide(slab.quotient);
    return {static_cast<uint32_t>(entry.quotient), static_cast<uint32_t>(slab.quotient),
            static_cast<uint32_t>(entry.remainder), int64_t{slab.remainder} * tile_rows,
            int64_t{line.remainder} * tile_columns};
  }
};

// How a warp's lanes lie in a plane: `across` of them in each of some rows. Where rows are short,
// fewer lie side by side, so that fewer lie beyond the last column.
struct Lanes {
  int across;

  // Each lane takes `each` columns of rows of `width`.
  Lanes(const int64_t width, const int each) : across(warp_size) {
    const auto covered = [&](const int lanes) { return parts(width, lanes * each) * lanes; };
    for (int fewer = warp_size / 2; fewer >= 8; fewer /= 2) {
      if (covered(fewer) < covered(across)) across = fewer;
    }
  }

  __device__ int column() const { return lane_number() & (across - 1); }
  // The first row of a thread, and how many rows the block takes at a time. The number of lanes
  // across is a power of 2, so that the division by it is a shift.
  __device__ int row() const { return static_cast<int>(threadIdx.x) >> (__ffs(across) - 1); }
  __device__ int rows() const { return threads >> (__ffs(across) - 1); }
};

// What a block has in shared memory: the coefficients of each of its rows, or of so many of them at
// a time, of N components.
template <class T, int N, int most, int count = tile_rows>
struct Tile {
  // Rows begin in different banks, for lanes in different rows.
  static constexpr int gap = N * most * sizeof(T) % 128 == 0 ? packed<T> : 0;
  static constexpr int stride = N * most + gap;

  alignas(16) T rows[count][stride];
};

// So many rows share the coefficients of the plane that a thread reads.
template <class T>
constexpr int rows_at_once = sizeof(T) == 8 ? 2 : 4;

// Computes the coefficients of the first `count` rows, and perhaps of some more. The whole block
// takes part, and a barrier ends it.
template <class T, int N, int most, int largest>
__device__ __forceinline__ void prepare_rows(Tile<T, N, most, largest>& tile,
                                             const Prepared<T>& prepared, const Part& part,
                                             const int count) {
  static_assert(largest % rows_at_once<T> == 0);
  constexpr int packs = N * most / packed<T>;  // of a row
  const T* const planes = prepared.planes + static_cast<int64_t>(part.slab) * (N * most * most);
  const T* const factors = prepared.rows + part.row * most;
  const int items = (count + rows_at_once<T> - 1) / rows_at_once<T> * packs;
#pragma unroll 1
  for (int item = threadIdx.x; item < items; item += threads) {
    const int row = item / packs * rows_at_once<T>;
    const int pack = item % packs;
    const T* const plane = planes + pack * packed<T>;
    const T* const factor = factors + row * most;
    Vector<T, packed<T>> sum[rows_at_once<T>] = {};
#pragma unroll
    for (int r = 0; r < most; r += packed<T>) {
      Vector<T, packed<T>> along[rows_at_once<T>];
#pragma unroll
      for (int i = 0; i < rows_at_once<T>; ++i) along[i] = load<packed<T>>(factor + i * most + r);
#pragma unroll
      for (int k = 0; k < packed<T>; ++k) {
        const auto values = load<packed<T>>(plane + (r + k) * (N * most));
#pragma unroll
        for (int i = 0; i < rows_at_once<T>; ++i) {
#pragma unroll
          for (int c = 0; c < packed<T>; ++c) {
            sum[i].lane[c] = multiply_add(along[i].lane[k], values.lane[c], sum[i].lane[c]);
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < rows_at_once<T>; ++i) {
      store<packed<T>>(tile.rows[row + i] + pack * packed<T>, sum[i]);
    }
  }
  __syncthreads();
}

// How many columns a thread takes together: as many as have room in its registers.
template <class T, int most>
constexpr int columns_at_once = sizeof(T) * most <= 48    ? 4
                                : sizeof(T) * most <= 128 ? 2
                                                          : 1;

// The factor at columns x, x + step, ..., in registers.
template <class T, int most, int count>
struct Columns {
  T factor[count][most];

  __device__ __forceinline__ Columns(const Prepared<T>& prepared, const int64_t x, const int step) {
    const T* source = prepared.columns + x * packed<T>;
#pragma unroll
    for (int r = 0; r < most; r += packed<T>) {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const auto values = load<packed<T>>(source + i * step * packed<T>);
#pragma unroll
        for (int k = 0; k < packed<T>; ++k) factor[i][r + k] = values.lane[k];
      }
      source += prepared.stride * packed<T>;
    }
  }

  // X at these columns of a row, from its coefficients.
  __device__ __forceinline__ void evaluate(const T* const row, T (&values)[count]) const {
#pragma unroll
    for (int i = 0; i < count; ++i) values[i] = 0;
#pragma unroll
    for (int r = 0; r < most; r += packed<T>) {
      const auto coefficients = load<packed<T>>(row + r);
#pragma unroll
      for (int k = 0; k < packed<T>; ++k) {
#pragma unroll
        for (int i = 0; i < count; ++i) {
          values[i] = multiply_add(coefficients.lane[k], factor[i][r + k], values[i]);
        }
      }
    }
  }
};

// Writes the values to target[i * step], as far as these places lie before target[left].
template <int count, class V>
__device__ __forceinline__ void store_columns(V* const target, const int step, const int left,
                                              const V (&values)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) {
    if (i * step < left) target[i * step] = values[i];
  }
}

}  // namespace marginseg::gaussian_field
