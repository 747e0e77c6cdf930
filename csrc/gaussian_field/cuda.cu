#include <algorithm>

#include "gaussian_field/cuda.cuh"
#include "gaussian_field/rows.cuh"

namespace marginseg::gaussian_field {
namespace {

// Evaluates the field along all axes at once; a block takes some rows of a plane.
template <class T, int most>
__global__ __launch_bounds__(threads) void expand_field(const T* const coefficients,
                                                        T* const output, const Factors<T> factors,
                                                        const Blocks blocks) {
  __shared__ Tile<T, 1, most> tile;
  const int64_t entry = blocks.entry();
  const int64_t z = blocks.plane();
  const int64_t y0 = blocks.first_row();
  const int64_t height = factors.size[1];
  const int64_t width = factors.size[2];
  const int rows = static_cast<int>(min(static_cast<int64_t>(tile_rows), height - y0));
  prepare_rows(tile, factors, coefficients + entry * factors.coefficients(), z, y0, rows);
  T* const target = output + ((entry * factors.size[0] + z) * height + y0) * width;
  for (int64_t x0 = 0; x0 < width; x0 += tile_columns) {
    prepare_columns(tile, factors, x0);
    for (int first = 0; first < tile_columns; first += warp_size) {
      const int column = first + lane_number();
      if (x0 + column >= width) continue;
      const Column<T, most> field(tile, column);
      for (int row = warp_number(); row < rows; row += warps) {
        target[row * width + x0 + column] = field(tile.rows[0][row]);
      }
    }
  }
}

// Expands one axis, of any rank: output[o][i][k] = sum_r factor[i][r] input[o][r][k].
template <class T>
__global__ __launch_bounds__(threads) void expand_axis(const T* const input, T* const output,
                                                       const T* const factor, const int64_t outer,
                                                       const int64_t size, const int64_t rank,
                                                       const int64_t inner) {
  const int64_t place = thread_number();
  if (place >= outer * size * inner) return;
  const int64_t k = place % inner;
  const int64_t i = place / inner % size;
  const T* const source = input + place / inner / size * rank * inner + k;
  T sum = 0;
  for (int64_t r = 0; r < rank; ++r) {
    sum = multiply_add(factor[i * rank + r], source[r * inner], sum);
  }
  output[place] = sum;
}

template <class T>
void axis_by_axis(const Context& context, const T* const coefficients, T* const output,
                  const int64_t count, const Factors<T>& factors) {
  const T* input = coefficients;
  for (int axis = 0; axis < 3; ++axis) {
    if (factors.factor[axis] == nullptr) continue;
    int64_t outer = count;
    int64_t inner = 1;
    for (int other = 0; other < axis; ++other) outer *= factors.size[other];
    for (int other = axis + 1; other < 3; ++other) inner *= factors.rank[other];
    const int64_t volume = outer * factors.size[axis] * inner;
    T* const target = axis == 2 ? output : context.allocate<T>(volume);
    context.launch(expand_axis<T>, blocks_for(volume), threads, input, target, factors.factor[axis],
                   outer, factors.size[axis], factors.rank[axis], inner);
    input = target;
  }
}

}  // namespace

void run(const Context& context, const uintptr_t coefficients, const uintptr_t output,
         const Dtype dtype, const int64_t count, const std::vector<int64_t>& ranks,
         const std::vector<int64_t>& shape, const std::vector<uintptr_t>& factors) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Factors<T> all(ranks, shape, factors);
    const auto* const source = reinterpret_cast<const T*>(coefficients);
    auto* const target = reinterpret_cast<T*>(output);
    if (*std::max_element(ranks.begin(), ranks.end()) > largest_rank) {
      axis_by_axis(context, source, target, count, all);
      return;
    }
    const Blocks blocks(all);
    dispatch_rank(static_cast<int>(*std::max_element(ranks.begin(), ranks.end())),
                  [&](const auto most) {
                    context.launch(expand_field<T, most.value>, blocks.count(count), threads,
                                   source, target, all, blocks);
                  });
  });
}

}  // namespace marginseg::gaussian_field
