// The filter along the rows of a label: a row consists of few runs of equal values, each of which
// is the difference of two filtered steps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/aligned.h"
#include "common/dispatch.h"
#include "common/parallel.h"
#include "gaussian_filter/tile.h"

namespace marginseg::gaussian_filter {

// A step from 0 to 1, filtered: step[x] = sum of the weights w[k], -r <= k < x - r, so that the run
// [a, b) of ones becomes step(x - a) - step(x - b). `reach` zeros and ones follow on either side.
template <class T>
class FilteredStep {
 public:
  FilteredStep(const FullAxis<T>& axis, const int64_t reach) : origin_(reach) {
    double sum = 0.0;
    values_.assign(reach, T{0});
    for (const T weight : axis.weights) {
      sum += static_cast<double>(weight);
      values_.push_back(static_cast<T>(sum));
    }
    values_.insert(values_.end(), reach, values_.back());
    radius_ = axis.radius;
  }

  // The values at x = first, first + 1, ... of a filtered step from 0 to 1 at `edge`.
  const T* from(const int64_t first, const int64_t edge) const {
    return values_.data() + origin_ + first - edge + radius_;
  }

 private:
  std::vector<T> values_;
  int64_t origin_;
  int64_t radius_;
};

// Calls visit(begin, end, value) for each run of equal values other than 0.
template <class Visit>
void for_each_run(const uint8_t* const row, const Range range, const Visit& visit) {
  int64_t begin = range.begin;
  while (begin < range.end) {
    const uint8_t value = row[begin];
    const uint64_t same = value * 0x0101010101010101u;
    int64_t end = begin + 1;
    uint64_t word;
    while (end + 8 <= range.end && (std::memcpy(&word, row + end, 8), word == same)) end += 8;
    while (end < range.end && row[end] == value) ++end;
    if (value != 0) visit(begin, end, value);
    begin = end;
  }
}

// The support of a label, filtered along its last axis: a box that has the planes and rows of the
// input's support and the columns of the output's.
template <class T>
AlignedBuffer<T> filter_runs(const uint8_t* const image, const Filter<T>& filter,
                             const Support& support) {
  const auto& [planes, rows, inside] = support.input;
  const Range columns = support.output[2];
  const FullAxis<T>& axis = filter.axes[2];
  const int64_t row_count = rows.size();
  const FilteredStep<T> step(axis, columns.size());
  AlignedBuffer<T> filtered(planes.size() * row_count * columns.size());
  const auto& kernels = kernels_in_use<Simd<T>>();
  // A label that is 0 everywhere has no columns.
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, columns.size()));
  parallel_for(planes.size() * row_count, grain,
               [&, &planes = planes, &rows = rows, &inside = inside](const int64_t begin,
                                                                     const int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t place = (planes.begin + i / row_count) * filter.axes[1].size +
                                         rows.begin + i % row_count;
                   T* const target = filtered.data() + i * columns.size();
                   std::fill_n(target, columns.size(), T{0});
                   for_each_run(image + place * axis.size, inside,
                                [&](const int64_t first, const int64_t last, const uint8_t value) {
                                  kernels.add_difference(step.from(columns.begin, first),
                                                         step.from(columns.begin, last),
                                                         static_cast<T>(value), target,
                                                         columns.size());
                                });
                 }
               });
  return filtered;
}

}  // namespace marginseg::gaussian_filter
