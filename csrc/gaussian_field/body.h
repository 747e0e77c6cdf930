// The low-rank Gaussian field, contracted one axis at a time.
#pragma once

#include <cstdint>

namespace marginseg::gaussian_field {

// A row-major matrix.
template <class T>
struct Matrix {
  T* data;
  int64_t rows;
  int64_t columns;
  T* operator[](const int64_t row) const { return data + row * columns; }
};

// output[c] = sum_r factor_row[r] coefficients[r][c]: the outer axis of a coefficient array gives
// way to one position on that axis.
template <class T>
void contract(const T* const factor_row, const Matrix<const T> coefficients, T* const output) {
  for (int64_t c = 0; c < coefficients.columns; ++c) output[c] = T{0};
  for (int64_t r = 0; r < coefficients.rows; ++r) {
    const T weight = factor_row[r];
    const T* const row = coefficients[r];
    for (int64_t c = 0; c < coefficients.columns; ++c) output[c] += weight * row[c];
  }
}

}  // namespace marginseg::gaussian_field
