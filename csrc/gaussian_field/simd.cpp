#include "gaussian_field/simd.h"

#include "common/simd.h"

namespace marginseg::gaussian_field {
inline namespace MARGINSEG_INSTRUCTION_SET {
namespace {

// Computes `rows` x `packs` packs of the product, whose sums stay in registers.
template <int rows, int packs, class T>
void multiply_tile(const T* const left, const int64_t left_stride, const Matrix<const T> right,
                   T* const product, const int64_t stride) {
  Pack<T> sum[rows][packs] = {};
  const T* values = right.data;
  for (int64_t r = 0; r < right.rows; ++r, values += right.stride) {
    unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
      Pack<T> pack = load(values + p.value * lanes<T>);
      hold(pack);
      unrolled<rows>([&](const auto i) __attribute__((always_inline)) {
        const Pack<T> factor = broadcast(left[i.value * left_stride + r]);
        sum[i.value][p.value] = multiply_add(factor, pack, sum[i.value][p.value]);
      });
    });
  }
  unrolled<rows>([&](const auto i) __attribute__((always_inline)) {
    unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
      store(product + i.value * stride + p.value * lanes<T>, sum[i.value][p.value]);
    });
  });
}

template <int rows, class T>
void multiply_rows(const T* const left, const int64_t left_stride, Matrix<const T> right,
                   T* const product, const int64_t stride, const int64_t columns) {
  constexpr int packs = this_set == InstructionSet::avx512 ? 4 : 2;
  const T* const data = right.data;
  int64_t column = 0;
  for (; column + packs * lanes<T> <= columns; column += packs * lanes<T>) {
    right.data = data + column;
    multiply_tile<rows, packs>(left, left_stride, right, product + column, stride);
  }
  for (; column < columns; column += lanes<T>) {
    right.data = data + column;
    multiply_tile<rows, 1>(left, left_stride, right, product + column, stride);
  }
}

template <class T>
void multiply(const Matrix<const T> left, const Matrix<const T> right, const Matrix<T> product,
              const int64_t columns) {
  const T* from = left.data;
  T* to = product.data;
  const auto step = [&](const auto rows) {
    multiply_rows<decltype(rows)::value>(from, left.stride, right, to, product.stride, columns);
    from += rows.value * left.stride;
    to += rows.value * product.stride;
  };
  int64_t count = left.rows;
  if (columns == lanes<T>) {
    for (; count >= 8; count -= 8) step(Index<8>{});
  }
  for (; count >= 4; count -= 4) step(Index<4>{});
  if (count == 3) step(Index<3>{});
  if (count == 2) step(Index<2>{});
  if (count == 1) step(Index<1>{});
}

template <class T>
constexpr Kernels<T> table{multiply<T>};

}  // namespace
}  // namespace MARGINSEG_INSTRUCTION_SET

template <>
template <>
const Kernels<float>& Simd<float>::kernels<this_set>() {
  return table<float>;
}

template <>
template <>
const Kernels<double>& Simd<double>::kernels<this_set>() {
  return table<double>;
}

}  // namespace marginseg::gaussian_field
