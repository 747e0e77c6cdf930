// The low-rank field X = (F_1 ⊗ … ⊗ F_n) ξ on the CPU, one axis at a time: ξ gives the coefficients
// of a plane, those give the coefficients of its rows, and those the values of a row.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "common/aligned.h"
#include "common/dispatch.h"
#include "gaussian_field/simd.h"

namespace marginseg::gaussian_field {

// Volumes of fewer than three axes are volumes whose first axes have size and rank 1.
template <class T>
class Factors {
 public:
  // The factors are contiguous (shape[i], ranks[i]) matrices at `addresses`.
  Factors(const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
          const std::vector<uintptr_t>& addresses) {
    const size_t missing = 3 - shape.size();
    for (size_t i = 0; i < shape.size(); ++i) {
      const auto* const source = reinterpret_cast<const T*>(addresses[i]);
      size_[missing + i] = shape[i];
      rank_[missing + i] = ranks[i];
      rows_[missing + i].assign(source, source + shape[i] * ranks[i]);
    }
    columns_.resize(rank_[2] * expanded_size());
    for (int64_t column = 0; column < size_[2]; ++column) {
      for (int64_t r = 0; r < rank_[2]; ++r) {
        columns_[r * expanded_size() + column] = rows_[2][column * rank_[2] + r];
      }
    }
  }

  const std::array<int64_t, 3>& size() const { return size_; }
  int64_t coefficient_count() const { return rank_[0] * rank_[1] * rank_[2]; }
  // The sizes of what plane() and rows() write for one plane and one row, and of an expanded row.
  int64_t plane_size() const { return rank_[1] * padded(rank_[2]); }
  int64_t row_size() const { return padded(rank_[2]); }
  int64_t expanded_size() const { return padded(size_[2]) + padding; }

  // ξ with its rows padded, as plane() reads it.
  AlignedVector<T> prepared(const T* const coefficients) const {
    AlignedVector<T> result(rank_[0] * plane_size());
    for (int64_t row = 0; row < rank_[0] * rank_[1]; ++row) {
      std::copy_n(coefficients + row * rank_[2], rank_[2], result.data() + row * row_size());
    }
    return result;
  }

  void plane(const T* const prepared, const int64_t position, T* const output) const {
    kernels_.multiply({rows_[0].data() + position * rank_[0], 1, rank_[0]},
                      {prepared, rank_[0], plane_size()}, {output, 1, plane_size()}, plane_size());
  }

  // The coefficients of all rows of a plane, `stride` apart.
  void rows(const T* const plane, T* const output, const int64_t stride) const {
    kernels_.multiply({rows_[1].data(), size_[1], rank_[1]}, {plane, rank_[1], row_size()},
                      {output, size_[1], stride}, row_size());
  }

  // The field at columns [begin, begin + padded(length)) of `count` rows, whose coefficients rows()
  // wrote row_size() apart. They go to output[begin] and on, rows expanded_size() apart; beyond the
  // last column the field is 0.
  void expand(const T* const rows, const int64_t count, const int64_t begin, const int64_t length,
              T* const output) const {
    kernels_.multiply({rows, count, row_size()},
                      {columns_.data() + begin, rank_[2], expanded_size()},
                      {output + begin, count, expanded_size()}, padded(length));
  }

 private:
  const Kernels<T>& kernels_ = kernels_in_use<Simd<T>>();
  std::array<int64_t, 3> size_{1, 1, 1};
  std::array<int64_t, 3> rank_{1, 1, 1};
  std::array<std::vector<T>, 3> rows_{std::vector<T>{1}, std::vector<T>{1}, std::vector<T>{1}};
  AlignedVector<T> columns_;  // the last factor, transposed
};

}  // namespace marginseg::gaussian_field
