#include "folded_share/cpu.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "common/aligned.h"
#include "common/dispatch.h"
#include "common/parallel.h"
#include "folded_share/jacobian.h"
#include "folded_share/simd.h"
#include "gaussian_field/factors.h"

namespace marginseg::folded_share {
namespace {

using gaussian_field::Factors;

constexpr int64_t voxels_per_task = 8192;

// So many rows of voxels are expanded together: their derivatives share the loads of the last
// factor, and still lie in the cache when the determinants are taken.
constexpr int64_t rows_at_once = 4;

// The factors of the field, and their differences along each axis.
template <class T>
struct Differentiated {
  Factors<T> values;
  Factors<T> slopes;
};

template <class T>
Differentiated<T> differentiate(const std::vector<int64_t>& ranks,
                                const std::vector<int64_t>& shape,
                                const std::vector<uintptr_t>& addresses) {
  std::vector<std::vector<T>> slopes;
  std::vector<uintptr_t> addresses_of_slopes;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    const auto* const factor = reinterpret_cast<const T*>(addresses[axis]);
    const int64_t rank = ranks[axis];
    std::vector<T> differences(shape[axis] * rank);
    for (int64_t position = 0; position < shape[axis]; ++position) {
      for (int64_t r = 0; r < rank; ++r) {
        differences[position * rank + r] = slope(factor + r, position, shape[axis], rank);
      }
    }
    slopes.push_back(std::move(differences));
    addresses_of_slopes.push_back(reinterpret_cast<uintptr_t>(slopes.back().data()));
  }
  return {Factors<T>(ranks, shape, addresses), Factors<T>(ranks, shape, addresses_of_slopes)};
}

// Counts the folded voxels of fields plane by plane. Each thread has one, with memory of its own.
//
// Of the derivatives of a row of voxels, those along the columns are expanded by the differences of
// the last factor, all others by the last factor itself. So the coefficients of the rows are kept
// in two arrays, `across_` and `along_`, in which those of a row of voxels lie side by side.
template <class T>
class PlaneFolds {
 public:
  PlaneFolds(const Differentiated<T>& factors, const int axes)
      : values_(factors.values),
        slopes_(factors.slopes),
        axes_(axes),
        lines_across_((axes - 1) * axes),
        of_plane_(values_.plane_size()),
        across_(rows() * lines_across_ * values_.row_size()),
        along_(rows() * axes * values_.row_size()),
        expanded_across_(rows_at_once * lines_across_ * values_.expanded_size()),
        expanded_along_(rows_at_once * axes * values_.expanded_size()) {}

  // Coefficients of shape (n, *ranks).
  void begin_field(const T* const coefficients) {
    for (int i = 0; i < axes_; ++i) {
      prepared_[i] = values_.prepared(coefficients + i * values_.coefficient_count());
    }
  }

  int64_t count(const int64_t plane) {
    for (int i = 0; i < axes_; ++i) contract(i, plane);
    int64_t folds = 0;
    for (int64_t row = 0; row < rows(); row += rows_at_once) {
      folds += count_rows(row, std::min(rows_at_once, rows() - row));
    }
    return folds;
  }

 private:
  int64_t rows() const { return values_.size()[1]; }

  // The coefficients of the derivatives of a component at all rows of a plane.
  void contract(const int component, const int64_t plane) {
    const T* const prepared = prepared_[component].data();
    const int64_t row_size = values_.row_size();
    T* const across = across_.data() + component * row_size;
    if (axes_ == 3) {
      slopes_.plane(prepared, plane, of_plane_.data());
      values_.rows(of_plane_.data(), across, lines_across_ * row_size);
    }
    values_.plane(prepared, plane, of_plane_.data());
    if (axes_ >= 2) {
      slopes_.rows(of_plane_.data(), across + (axes_ - 2) * axes_ * row_size,
                   lines_across_ * row_size);
    }
    values_.rows(of_plane_.data(), along_.data() + component * row_size, axes_ * row_size);
  }

  // Beyond the last column all derivatives are 0, or NaN where coefficients are not finite: nothing
  // folds there.
  int64_t count_rows(const int64_t row, const int64_t count) {
    const int64_t row_size = values_.row_size();
    const int64_t columns = values_.size()[2];
    values_.expand(across_.data() + row * lines_across_ * row_size, count * lines_across_, 0,
                   columns, expanded_across_.data());
    slopes_.expand(along_.data() + row * axes_ * row_size, count * axes_, 0, columns,
                   expanded_along_.data());
    int64_t folds = 0;
    for (int64_t i = 0; i < count; ++i) {
      folds += kernels_.count_folds(gradient(i), axes_, padded(columns));
    }
    return folds;
  }

  // The derivatives of the i-th of the rows that are expanded.
  Gradient<T> gradient(const int64_t i) const {
    const int64_t stride = values_.expanded_size();
    const int last = axes_ - 1;
    Gradient<T> result{};
    for (int component = 0; component < axes_; ++component) {
      for (int axis = 0; axis < last; ++axis) {
        result.row[component][axis] =
            expanded_across_.data() + (i * lines_across_ + axis * axes_ + component) * stride;
      }
      result.row[component][last] = expanded_along_.data() + (i * axes_ + component) * stride;
    }
    return result;
  }

  const Kernels<T>& kernels_ = kernels_in_use<Simd<T>>();
  const Factors<T>& values_;
  const Factors<T>& slopes_;
  int axes_;
  int64_t lines_across_;  // of a row of voxels: each component along each axis but the last
  std::array<AlignedVector<T>, 3> prepared_;
  AlignedVector<T> of_plane_;
  AlignedVector<T> across_;
  AlignedVector<T> along_;
  AlignedVector<T> expanded_across_;
  AlignedVector<T> expanded_along_;
};

template <class T>
void count_shares(const T* const coefficients, double* const shares, const int64_t count,
                  const int axes, const Differentiated<T>& factors) {
  const auto& [planes, rows, columns] = factors.values.size();
  const int64_t field_size = axes * factors.values.coefficient_count();
  const int64_t grain = std::max<int64_t>(1, voxels_per_task / (rows * columns));
  // Each plane has a count of its own, so that threads share none.
  std::vector<int64_t> folds(count * planes);
  parallel_for(count * planes, grain, [&, planes = planes](const int64_t begin, const int64_t end) {
    PlaneFolds<T> field(factors, axes);
    for (int64_t item = begin; item < end; ++item) {
      if (item == begin || item % planes == 0) {
        field.begin_field(coefficients + item / planes * field_size);
      }
      folds[item] = field.count(item % planes);
    }
  });
  for (int64_t k = 0; k < count; ++k) {
    const auto first = folds.begin() + k * planes;
    const int64_t folded = std::accumulate(first, first + planes, int64_t{0});
    shares[k] = static_cast<double>(folded) / static_cast<double>(planes * rows * columns);
  }
}

}  // namespace

void run(const uintptr_t coefficients, const uintptr_t shares, const Dtype dtype,
         const int64_t count, const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& addresses) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    count_shares(reinterpret_cast<const T*>(coefficients), reinterpret_cast<double*>(shares), count,
                 static_cast<int>(shape.size()), differentiate<T>(ranks, shape, addresses));
  });
}

}  // namespace marginseg::folded_share
