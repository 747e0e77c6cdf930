#include "common/cuda/block.cuh"
#include "common/cuda/divisor.cuh"
#include "common/cuda/floating.cuh"
#include "common/cuda/vector.cuh"
#include "gaussian_field/prepared.cuh"

namespace marginseg::gaussian_field {
namespace {

// So many planes of an entry are a block's.
constexpr int planes_at_once = 8;

// An axis that the volume lacks has no factor, which stands for 1.
template <class T>
struct Factor {
  const T* values;
  int64_t size;
  int rank;

  // The value at a position, for coefficient r; 0 beyond the ends.
  __device__ T operator()(const int64_t position, const int r) const {
    if (position >= size || r >= rank) return T(0);
    return values == nullptr ? T(1) : values[position * rank + r];
  }
};

// The coefficients of an entry's planes, from those of the entry.
template <class T>
struct Contraction {
  const T* coefficients;
  T* planes;
  Factor<T> factor;
  int rows;  // the ranks of the other axes
  int columns;
  int components;
  int64_t blocks;
  Divisor<int32_t> blocks_of_entry;
};

// The copy of a factor in packs.
template <class T>
struct Packing {
  Factor<T> factor;
  T* target;
  int64_t positions;
  int64_t between_positions;
  int64_t between_packs;
};

// The coefficients of some planes of an entry: sum_r factor[z][r] coefficients[component][r][...].
template <class T, int most>
__device__ __forceinline__ void contract(const Contraction<T>& task, const int64_t entry,
                                         const int64_t first) {
  alignas(16) __shared__ T factor[planes_at_once][most];
  for (int item = threadIdx.x; item < planes_at_once * most; item += threads) {
    factor[item / most][item % most] = task.factor(first + item / most, item % most);
  }
  __syncthreads();
  const int rank = task.factor.rank;
  const int across = task.rows * task.columns;
  const int of_plane = task.components * most * most;
  const int count = static_cast<int>(min(int64_t{planes_at_once}, task.factor.size - first));
  T* const target = task.planes + (entry * task.factor.size + first) * of_plane;
  for (int item = threadIdx.x; item < of_plane; item += threads) {
    const int column = item % most;
    const int row = item / most % most;
    const int component = item / (most * most);
    const bool inside = row < task.rows && column < task.columns;
    const T* source = task.coefficients + (entry * task.components + component) * rank * across +
                      row * task.columns + column;
    const int place = (row * task.components + component) * most + column;
    T values[most];
#pragma unroll
    for (int r = 0; r < most; ++r) {
      values[r] = inside && r < rank ? *source : T(0);
      source += across;
    }
#pragma unroll 1
    for (int plane = 0; plane < count; ++plane) {
      T sum = 0;
#pragma unroll
      for (int r = 0; r < most; r += packed<T>) {
        const auto along = load<packed<T>>(&factor[plane][r]);
#pragma unroll
        for (int i = 0; i < packed<T>; ++i) sum = multiply_add(along.lane[i], values[r + i], sum);
      }
      target[plane * of_plane + place] = sum;
    }
  }
}

// Each thread copies the factor at one position.
template <class T, int most>
__device__ __forceinline__ void pack(const Packing<T>& task, const int64_t position) {
  if (position >= task.positions) return;
  T* const target = task.target + position * task.between_positions;
#pragma unroll
  for (int r = 0; r < most; r += packed<T>) {
    Vector<T, packed<T>> values;
#pragma unroll
    for (int i = 0; i < packed<T>; ++i) values.lane[i] = task.factor(position, r + i);
    store<packed<T>>(target + r / packed<T> * task.between_packs, values);
  }
}

// Some blocks contract, then some pack the factor of the rows, and the others that of the columns.
template <class T, int most>
__global__ __launch_bounds__(threads) void prepare_fields(const Contraction<T> planes,
                                                          const Packing<T> rows,
                                                          const Packing<T> columns) {
  const int64_t beyond = static_cast<int64_t>(blockIdx.x) - planes.blocks;
  if (beyond < 0) {
    const auto block = planes.blocks_of_entry.divide(static_cast<int32_t>(blockIdx.x));
    contract<T, most>(planes, block.quotient, int64_t{block.remainder} * planes_at_once);
    return;
  }
  const int64_t position = beyond * threads + threadIdx.x;
  const int64_t of_rows = blocks_for(rows.positions) * threads;
  if (position < of_rows) {
    pack<T, most>(rows, position);
  } else {
    pack<T, most>(columns, position - of_rows);
  }
}

template <class T, int most>
Prepared<T> launch(const Context& context, const T* const coefficients, const int64_t entries,
                   const int components, const Factors<T>& factors) {
  const auto factor = [&](const int axis) {
    return Factor<T>{factors.factor[axis], factors.size[axis], factors.rank[axis]};
  };
  const int64_t height = parts(factors.size[1], tile_rows) * tile_rows;
  const int64_t width = parts(factors.size[2], tile_columns) * tile_columns;
  const int64_t of_planes = entries * factors.size[0] * components * most * most;
  T* const planes = context.allocate<T>(of_planes + (height + width) * most);
  T* const rows = planes + of_planes;
  T* const columns = rows + height * most;
  const int64_t blocks = parts(factors.size[0], planes_at_once);
  const Contraction<T> contraction{
      coefficients,    planes,     factor(0),        factors.rank[1],
      factors.rank[2], components, entries * blocks, Divisor<int32_t>(blocks)};
  const Packing<T> of_rows{factor(1), rows, height, most, packed<T>};
  const Packing<T> of_columns{factor(2), columns, width, packed<T>, width * packed<T>};
  context.launch(prepare_fields<T, most>,
                 contraction.blocks + blocks_for(height) + blocks_for(width), threads, contraction,
                 of_rows, of_columns);
  return {planes, rows, columns, width};
}

}  // namespace

template <class T>
Prepared<T> prepare(const Context& context, const T* const coefficients, const int64_t entries,
                    const int components, const Factors<T>& factors) {
  Prepared<T> result;
  dispatch_rank(factors.largest(), [&](const auto most) {
    result = launch<T, most.value>(context, coefficients, entries, components, factors);
  });
  return result;
}

template Prepared<float> prepare(const Context&, const float*, int64_t, int, const Factors<float>&);
template Prepared<double> prepare(const Context&, const double*, int64_t, int,
                                  const Factors<double>&);

}  // namespace marginseg::gaussian_field
