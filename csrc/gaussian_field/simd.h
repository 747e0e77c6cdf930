// The contraction of a field's coefficients, compiled for each instruction set.
#pragma once

#include <cstdint>

#include "common/instruction_set.h"

namespace marginseg::gaussian_field {

// Rows are padded to a multiple of this many values.
constexpr int64_t padding = 16;

constexpr int64_t padded(const int64_t size) { return (size + padding - 1) / padding * padding; }

// `rows` rows of values, `stride` apart.
template <class T>
struct Matrix {
  const T* data;
  int64_t rows;
  int64_t stride;
};

template <class T>
struct Kernels {
  // output[c] = sum_r weights[r] matrix[r][c] for c < columns, a multiple of `padding`. Every
  // output is summed in the order of r and without fused additions: any set gives the same bits,
  // and so the same labels.
  void (*contract)(const T* weights, Matrix<T> matrix, int64_t columns, T* output);
};

template <class T>
struct Simd {
  template <InstructionSet set>
  static const Kernels<T>& kernels();
};

}  // namespace marginseg::gaussian_field
