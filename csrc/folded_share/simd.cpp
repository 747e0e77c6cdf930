#include "folded_share/simd.h"

#include "common/simd.h"
#include "folded_share/jacobian.h"

namespace marginseg::folded_share {
inline namespace MARGINSEG_INSTRUCTION_SET {
namespace {

template <int N, class T>
int64_t count_folds(const Gradient<T>& gradient, const int64_t columns) {
  using Lanes = decltype(Pack<T>{} <= Pack<T>{});
  Lanes folds{};
  for (int64_t column = 0; column < columns; column += lanes<T>) {
    Pack<T> entry[N][N];
    unrolled<N>([&](const auto i) __attribute__((always_inline)) {
      unrolled<N>([&](const auto j) __attribute__((always_inline)) {
        entry[i.value][j.value] = load(gradient.row[i.value][j.value] + column);
      });
    });
    folds -= determinant(entry) <= Pack<T>{};  // a comparison that holds is -1
  }
  int64_t sum = 0;
  for (int lane = 0; lane < lanes<T>; ++lane) sum += folds[lane];
  return sum;
}

template <class T>
int64_t count_folds_of_axes(const Gradient<T>& gradient, const int axes, const int64_t columns) {
  if (axes == 1) return count_folds<1>(gradient, columns);
  if (axes == 2) return count_folds<2>(gradient, columns);
  return count_folds<3>(gradient, columns);
}

template <class T>
constexpr Kernels<T> table{count_folds_of_axes<T>};

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

}  // namespace marginseg::folded_share
