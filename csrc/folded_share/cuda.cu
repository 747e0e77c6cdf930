#include "folded_share/cuda.cuh"
#include "folded_share/jacobian.h"
#include "gaussian_field/cuda.cuh"
#include "gaussian_field/rows.cuh"

namespace marginseg::folded_share {
namespace {

using gaussian_field::Columns;
using gaussian_field::Factors;
using gaussian_field::Lanes;
using gaussian_field::Part;
using gaussian_field::Prepared;
using gaussian_field::Tile;
using gaussian_field::tile_columns;
using gaussian_field::tile_rows;
using gaussian_field::Tiles;

using Count = unsigned long long;

// The differences of the factors, one after another; each thread computes one value.
template <class T>
__global__ __launch_bounds__(threads) void differentiate(const Factors<T> factors,
                                                         T* const slopes) {
  int64_t place = thread_number();
  T* const target = slopes + place;
#pragma unroll
  for (int axis = 0; axis < 3; ++axis) {
    if (factors.factor[axis] == nullptr) continue;
    const int64_t rank = factors.rank[axis];
    const int64_t count = factors.size[axis] * rank;
    if (place < count) {
      *target = slope(factors.factor[axis] + place % rank, place / rank, factors.size[axis], rank);
      return;
    }
    place -= count;
  }
}

// Factors that are the differences of these.
template <class T>
Factors<T> slopes_of(const Context& context, const Factors<T>& factors) {
  int64_t begin[4] = {0};
  for (int axis = 0; axis < 3; ++axis) {
    const bool missing = factors.factor[axis] == nullptr;
    begin[axis + 1] = begin[axis] + (missing ? 0 : factors.size[axis] * factors.rank[axis]);
  }
  T* const slopes = context.allocate<T>(begin[3]);
  context.launch(differentiate<T>, blocks_for(begin[3]), threads, factors, slopes);
  Factors<T> result = factors;
  for (int axis = 0; axis < 3; ++axis) {
    if (factors.factor[axis] != nullptr) result.factor[axis] = slopes + begin[axis];
  }
  return result;
}

// Adds what the threads of a block have counted to a count in memory.
__device__ __forceinline__ void add_up(Count* const folds, const Count of_thread) {
  const Count of_block =
      block_reduce(of_thread, [](Count& sum, const Count other) { sum += other; });
  if (threadIdx.x == 0 && of_block > 0) atomicAdd(folds, of_block);
}

// What the field and its derivatives are evaluated from.
template <class T>
struct Fields {
  Prepared<T> values;
  Prepared<T> slopes;

  // The coefficients of the rows, for the derivative along the given one of three axes.
  __device__ Prepared<T> of_rows(const int axis) const {
    Prepared<T> result = values;
    if (axis == 0) result.planes = slopes.planes;
    if (axis == 1) result.rows = slopes.rows;
    return result;
  }
};

// How many rows of its tile a block takes at a time: as many as have room in shared memory, which
// holds the coefficients of N derivatives of N components.
template <class T, int N, int most>
constexpr int band_rows() {
  constexpr int bytes = N * Tile<T, N, most>::stride * static_cast<int>(sizeof(T));
  int rows = tile_rows;
  while (rows * bytes > 47 * 1024) rows /= 2;
  return rows;
}

// Each block counts the folds in a tile of a plane of one field. What lies beyond the last column
// has derivatives that are 0, or NaN where coefficients are not finite, and does not fold.
template <int N, int most, class T>
__global__ __launch_bounds__(threads, sizeof(T) * most >= 128 ? 1 : 2) void count_folds(
    const Fields<T> fields, Count* const folds, const int64_t height, const int64_t width,
    const Tiles tiles, const Lanes lanes) {
  // A thread keeps both the last factor and its differences in registers.
  constexpr int each = gaussian_field::columns_at_once<T, 2 * most>;
  constexpr int band = band_rows<T, N, most>();
  __shared__ Tile<T, N, most, band> tile[N];
  const Part part = tiles.part();
  const int rows = static_cast<int>(min(int64_t{tile_rows}, height - part.row));
  const int columns = static_cast<int>(min(int64_t{tile_columns}, width - part.column));
  const int step = lanes.across;
  int count = 0;
#pragma unroll 1
  for (int first = 0; first < rows; first += band) {
    Part of_band = part;
    of_band.row += first;
    const int band_end = min(band, rows - first);
    if (first > 0) __syncthreads();  // a thread may still be reading the last band
#pragma unroll
    for (int axis = 0; axis < N; ++axis) {
      prepare_rows(tile[axis], fields.of_rows(3 - N + axis), of_band, band_end);
    }
#pragma unroll 1
    for (int column = lanes.column(); column < columns; column += each * step) {
      const Columns<T, most, each> value(fields.values, part.column + column, step);
      const Columns<T, most, each> slope(fields.slopes, part.column + column, step);
#pragma unroll 1
      for (int row = lanes.row(); row < band_end; row += lanes.rows()) {
        T gradient[each][N][N];
#pragma unroll
        for (int axis = 0; axis < N; ++axis) {
#pragma unroll
          for (int component = 0; component < N; ++component) {
            const T* const coefficients = tile[axis].rows[row] + component * most;
            T derivative[each];
            (axis == N - 1 ? slope : value).evaluate(coefficients, derivative);
#pragma unroll
            for (int i = 0; i < each; ++i) gradient[i][component][axis] = derivative[i];
          }
        }
#pragma unroll
        for (int i = 0; i < each; ++i) count += determinant(gradient[i]) <= T(0) ? 1 : 0;
      }
    }
  }
  add_up(folds + part.entry, static_cast<Count>(count));
}

// Counts the folds of one field from its derivatives: that of each component along an axis, then
// those along the next axis.
template <int N, class T>
__global__ __launch_bounds__(threads) void count_folds_in_memory(const T* const derivatives,
                                                                 Count* const folds,
                                                                 const int64_t volume) {
  const int64_t place = thread_number();
  Count count = 0;
  if (place < volume) {
    T gradient[N][N];
#pragma unroll
    for (int axis = 0; axis < N; ++axis) {
#pragma unroll
      for (int component = 0; component < N; ++component) {
        gradient[component][axis] = derivatives[(axis * N + component) * volume + place];
      }
    }
    count = determinant(gradient) <= T(0) ? 1 : 0;
  }
  add_up(folds, count);
}

__global__ __launch_bounds__(threads) void divide(const Count* const folds, double* const shares,
                                                  const int64_t count, const int64_t volume) {
  const int64_t field = thread_number();
  if (field >= count) return;
  shares[field] = static_cast<double>(folds[field]) / static_cast<double>(volume);
}

template <int N, class T>
void count_through_memory(const Context& context, const T* const coefficients, Count* const folds,
                          const int64_t count, const Factors<T>& factors,
                          const Factors<T>& slopes) {
  const int64_t volume = factors.size[0] * factors.size[1] * factors.size[2];
  const int64_t drawn = int64_t{N} * factors.rank[0] * factors.rank[1] * factors.rank[2];
  T* const derivatives = context.allocate<T>(N * N * volume);
  std::vector<gaussian_field::AxisByAxis<T>> along;
  for (int axis = 3 - N; axis < 3; ++axis) {
    Factors<T> differentiated = factors;
    differentiated.factor[axis] = slopes.factor[axis];
    along.emplace_back(context, N, differentiated);
  }
  for (int64_t field = 0; field < count; ++field) {
    for (int axis = 0; axis < N; ++axis) {
      along[axis].run(coefficients + field * drawn, derivatives + axis * N * volume);
    }
    context.launch(count_folds_in_memory<N, T>, blocks_for(volume), threads, derivatives,
                   folds + field, volume);
  }
}

template <int N, class T>
void count_fields(const Context& context, const T* const coefficients, Count* const folds,
                  const int64_t count, const Factors<T>& factors) {
  const Factors<T> slopes = slopes_of(context, factors);
  if (factors.largest() > gaussian_field::largest_rank) {
    count_through_memory<N>(context, coefficients, folds, count, factors, slopes);
    return;
  }
  const Fields<T> fields{prepare(context, coefficients, count, N, factors),
                         prepare(context, coefficients, count, N, slopes)};
  const Tiles tiles(factors);
  gaussian_field::dispatch_rank(factors.largest(), [&](const auto most) {
    const Lanes lanes(factors.size[2], gaussian_field::columns_at_once<T, 2 * most.value>);
    context.launch(count_folds<N, most.value, T>, tiles.count(count), threads, fields, folds,
                   factors.size[1], factors.size[2], tiles, lanes);
  });
}

}  // namespace

void run(const Context& context, const uintptr_t coefficients, const uintptr_t shares,
         const Dtype dtype, const int64_t count, const std::vector<int64_t>& ranks,
         const std::vector<int64_t>& shape, const std::vector<uintptr_t>& addresses) {
  auto* const folds = context.allocate<Count>(count);
  context.set_zero(folds, count);
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Factors<T> factors(ranks, shape, addresses);
    const auto* const drawn = reinterpret_cast<const T*>(coefficients);
    if (shape.size() == 1) count_fields<1>(context, drawn, folds, count, factors);
    if (shape.size() == 2) count_fields<2>(context, drawn, folds, count, factors);
    if (shape.size() == 3) count_fields<3>(context, drawn, folds, count, factors);
    context.launch(divide, blocks_for(count), threads, folds, reinterpret_cast<double*>(shares),
                   count, factors.size[0] * factors.size[1] * factors.size[2]);
  });
}

}  // namespace marginseg::folded_share
