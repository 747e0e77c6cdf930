// The low-rank field X = (F_1 ⊗ … ⊗ F_n) ξ, evaluated by a block of threads: it contracts the first
// axes to the coefficients of some rows of a plane, in shared memory, and then evaluates the rows a
// voxel at a time. Sums run in the order of the CPU's, with the same fused multiply-adds, so the
// field has the same bits.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"

namespace marginseg::gaussian_field {

// How many rows of a plane a block takes, and how many of their columns at a time.
constexpr int tile_rows = 32;
constexpr int tile_columns = 64;

// Fields of more coefficients along an axis are evaluated axis by axis.
constexpr int largest_rank = 32;

// Volumes of fewer than three axes are volumes whose first axes have size and rank 1, and no
// factor: it is 1.
template <class T>
struct Factors {
  int64_t size[3] = {1, 1, 1};
  int rank[3] = {1, 1, 1};
  const T* factor[3] = {nullptr, nullptr, nullptr};

  Factors(const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
          const std::vector<uintptr_t>& addresses) {
    const size_t missing = 3 - shape.size();
    for (size_t i = 0; i < shape.size(); ++i) {
      size[missing + i] = shape[i];
      rank[missing + i] = static_cast<int>(ranks[i]);
      factor[missing + i] = reinterpret_cast<const T*>(addresses[i]);
    }
  }

  __device__ T at(const int axis, const int64_t position, const int r) const {
    return factor[axis] == nullptr ? T(1) : factor[axis][position * rank[axis] + r];
  }
  __host__ __device__ int64_t coefficients() const {
    return static_cast<int64_t>(rank[0]) * rank[1] * rank[2];
  }
};

// Calls function(std::integral_constant<int, r>{}) for a small r that is at least `rank`: the
// coefficients of a column are registers, and the compiler must know their number.
template <class Function>
void dispatch_rank(const int rank, const Function& function) {
  if (rank <= 12) return function(std::integral_constant<int, 12>{});
  if (rank <= 20) return function(std::integral_constant<int, 20>{});
  return function(std::integral_constant<int, largest_rank>{});
}

// What a block has in shared memory, of N components of the field: their coefficients in the plane
// and in each row, padded with 0 up to `most`, and the last factor at some columns.
template <class T, int N, int most>
struct Tile {
  T plane[N][most][most];
  alignas(16) T rows[N][tile_rows][most];
  // The stride is odd, so that a warp reads its 32 columns from 32 different banks.
  T columns[tile_columns][most + 1 - most % 2];
};

// Computes the coefficients of rows [y0, y0 + count) of plane z; those of the components lie one
// after another. The whole block takes part, and a barrier ends it.
template <class T, int N, int most>
__device__ __forceinline__ void prepare_rows(Tile<T, N, most>& tile, const Factors<T>& factors,
                                             const T* const coefficients, const int64_t z,
                                             const int64_t y0, const int count) {
  const int across = factors.rank[1] * factors.rank[2];
  for (int item = threadIdx.x; item < N * across; item += threads) {
    const int component = item / across;
    const int place = item % across;
    const T* const source = coefficients + component * factors.coefficients() + place;
    T sum = 0;
    for (int r = 0; r < factors.rank[0]; ++r) {
      sum = multiply_add(factors.at(0, z, r), source[r * across], sum);
    }
    tile.plane[component][place / factors.rank[2]][place % factors.rank[2]] = sum;
  }
  __syncthreads();
  for (int item = threadIdx.x; item < N * count * most; item += threads) {
    const int column = item % most;
    const int row = item / most % count;
    const int component = item / most / count;
    T sum = 0;
    if (column < factors.rank[2]) {
      for (int r = 0; r < factors.rank[1]; ++r) {
        sum = multiply_add(factors.at(1, y0 + row, r), tile.plane[component][r][column], sum);
      }
    }
    tile.rows[component][row][column] = sum;
  }
  __syncthreads();
}

// Reads the last factor at columns [x0, x0 + tile_columns), padded with 0. The whole block takes
// part, and barriers begin and end it.
template <class T, int N, int most>
__device__ __forceinline__ void prepare_columns(Tile<T, N, most>& tile, const Factors<T>& factors,
                                                const int64_t x0) {
  __syncthreads();
  for (int item = threadIdx.x; item < tile_columns * most; item += threads) {
    const int column = item / most;
    const int r = item % most;
    const bool inside = x0 + column < factors.size[2] && r < factors.rank[2];
    tile.columns[column][r] = inside ? factors.at(2, x0 + column, r) : T(0);
  }
  __syncthreads();
}

// The last factor at a column, in registers.
template <class T, int most>
struct Column {
  T factor[most];

  template <int N>
  __device__ Column(const Tile<T, N, most>& tile, const int column) {
#pragma unroll
    for (int r = 0; r < most; ++r) factor[r] = tile.columns[column][r];
  }

  // X at this column of a row.
  __device__ T operator()(const T (&row)[most]) const {
    T sum = 0;
#pragma unroll
    for (int r = 0; r < most; ++r) sum = multiply_add(row[r], factor[r], sum);
    return sum;
  }
};

// The blocks of a launch, one for each tile of rows of each plane of each entry.
struct Blocks {
  int64_t planes;
  int64_t across;  // tiles of rows in a plane

  template <class T>
  explicit Blocks(const Factors<T>& factors)
      : planes(factors.size[0]), across(parts(factors.size[1], tile_rows)) {}

  int64_t count(const int64_t entries) const { return entries * planes * across; }
  __device__ int64_t entry() const { return blockIdx.x / (planes * across); }
  __device__ int64_t plane() const { return blockIdx.x / across % planes; }
  __device__ int64_t first_row() const { return blockIdx.x % across * tile_rows; }
};

}  // namespace marginseg::gaussian_field
