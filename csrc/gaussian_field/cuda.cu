#include "gaussian_field/cuda.cuh"
#include "gaussian_field/rows.cuh"

namespace marginseg::gaussian_field {
namespace {

// Evaluates the field along all axes at once; a block takes a tile of a plane.
template <class T, int most>
__global__ __launch_bounds__(threads, 2) void expand_field(const Prepared<T> prepared,
                                                           T* const output, const int64_t height,
                                                           const int64_t width, const Tiles tiles,
                                                           const Lanes lanes) {
  constexpr int each = columns_at_once<T, most>;
  __shared__ Tile<T, 1, most> tile;
  const Part part = tiles.part();
  const int rows = static_cast<int>(min(int64_t{tile_rows}, height - part.row));
  const int columns = static_cast<int>(min(int64_t{tile_columns}, width - part.column));
  prepare_rows(tile, prepared, part, rows);
  const int step = lanes.across;
  for (int column = lanes.column(); column < columns; column += each * step) {
    const Columns<T, most, each> field(prepared, part.column + column, step);
    int row = lanes.row();
    T* target = output + (part.slab * height + part.row + row) * width + part.column + column;
    const T* of_row = tile.rows[row];
    for (; row < rows; row += lanes.rows()) {
      T values[each];
      field.evaluate(of_row, values);
      store_columns(target, step, columns - column, values);
      of_row += lanes.rows() * tile.stride;
      target += lanes.rows() * width;
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

// The expansion of one axis, after those before it.
template <class T>
struct Expansion {
  int64_t outer;
  int64_t inner = 1;
  int64_t size;  // of the result

  Expansion(const Factors<T>& factors, const int64_t count, const int axis) : outer(count) {
    for (int other = 0; other < axis; ++other) outer *= factors.size[other];
    for (int other = axis + 1; other < 3; ++other) inner *= factors.rank[other];
    size = outer * factors.size[axis] * inner;
  }
};

}  // namespace

template <class T>
AxisByAxis<T>::AxisByAxis(const Context& context, const int64_t count, const Factors<T>& factors)
    : context_(context), count_(count), factors_(factors) {
  for (int axis = 0; axis < 2; ++axis) {
    if (factors.factor[axis] == nullptr) continue;
    between_[axis] = context.allocate<T>(Expansion<T>(factors, count, axis).size);
  }
}

template <class T>
void AxisByAxis<T>::run(const T* const coefficients, T* const output) const {
  const T* input = coefficients;
  for (int axis = 0; axis < 3; ++axis) {
    if (factors_.factor[axis] == nullptr) continue;
    const Expansion<T> expansion(factors_, count_, axis);
    T* const target = axis == 2 ? output : between_[axis];
    context_.launch(expand_axis<T>, blocks_for(expansion.size), threads, input, target,
                    factors_.factor[axis], expansion.outer, factors_.size[axis],
                    factors_.rank[axis], expansion.inner);
    input = target;
  }
}

template class AxisByAxis<float>;
template class AxisByAxis<double>;

void run(const Context& context, const uintptr_t coefficients, const uintptr_t output,
         const Dtype dtype, const int64_t count, const std::vector<int64_t>& ranks,
         const std::vector<int64_t>& shape, const std::vector<uintptr_t>& addresses) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Factors<T> factors(ranks, shape, addresses);
    const auto* const source = reinterpret_cast<const T*>(coefficients);
    auto* const target = reinterpret_cast<T*>(output);
    if (factors.largest() > largest_rank) {
      AxisByAxis<T>(context, count, factors).run(source, target);
      return;
    }
    const Prepared<T> prepared = prepare(context, source, count, 1, factors);
    const Tiles tiles(factors);
    dispatch_rank(factors.largest(), [&](const auto most) {
      constexpr int each = columns_at_once<T, most.value>;
      context.launch(expand_field<T, most.value>, tiles.count(count), threads, prepared, target,
                     factors.size[1], factors.size[2], tiles, Lanes(factors.size[2], each));
    });
  });
}

}  // namespace marginseg::gaussian_field
