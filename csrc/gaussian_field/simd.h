// The contraction of a field's coefficients, compiled for each instruction set.
#pragma once

#include <cstdint>

#include "common/instruction_set.h"

namespace marginseg::gaussian_field {

// Rows of values, `stride` apart.
template <class T>
struct Matrix {
  T* data;
  int64_t rows;
  int64_t stride;
};

template <class T>
struct Kernels {
  // product[i][c] = sum_r left[i][r] right[r][c] for c < columns, a multiple of 16. Sums are
  // taken in the order of r: sets with fused multiply-adds give the same bits.
  void (*multiply)(Matrix<const T> left, Matrix<const T> right, Matrix<T> product, int64_t columns);
};

template <class T>
struct Simd {
  template <InstructionSet set>
  static const Kernels<T>& kernels();
};

}  // namespace marginseg::gaussian_field
