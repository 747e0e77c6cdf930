#include "gaussian_field/simd.h"

#include "common/simd.h"

namespace marginseg::gaussian_field {
inline namespace MARGINSEG_INSTRUCTION_SET {
namespace {

template <int packs, class T>
void contract_tile(const T* const weights, const Matrix<T> matrix, const int64_t column,
                   T* const output) {
  Pack<T> sum[packs] = {};
  const T* row = matrix.data + column;
  for (int64_t r = 0; r < matrix.rows; ++r, row += matrix.stride) {
    const Pack<T> weight = broadcast(weights[r]);
    unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
      sum[p.value] += weight * load(row + p.value * lanes<T>);
    });
  }
  unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
    store(output + column + p.value * lanes<T>, sum[p.value]);
  });
}

template <class T>
void contract(const T* const weights, const Matrix<T> matrix, const int64_t columns,
              T* const output) {
  // Additions take some cycles: enough independent sums hide them.
  constexpr int packs = 4;
  int64_t column = 0;
  for (; column + packs * lanes<T> <= columns; column += packs * lanes<T>) {
    contract_tile<packs>(weights, matrix, column, output);
  }
  for (; column < columns; column += lanes<T>) contract_tile<1>(weights, matrix, column, output);
}

template <class T>
constexpr Kernels<T> table{contract<T>};

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
