// Where the rows of a label are not 0, to tell which rows of a deformed label can be.
#pragma once

#include <cstdint>
#include <vector>

#include "common/parallel.h"
#include "common/range.h"

namespace marginseg::sampling {

class Extents {
 public:
  // Of `channels` volumes of shape (planes, rows, columns), one after another, together.
  template <class L>
  Extents(const L* const label, const int64_t channels, const int64_t planes, const int64_t rows,
          const int64_t columns)
      : planes_(planes),
        rows_(rows),
        across_((rows + block - 1) / block),
        none_{columns, 0},
        blocks_((planes + block - 1) / block * across_, none_) {
    const int64_t grain = std::max<int64_t>(1, 65536 / (block * rows * columns * channels));
    parallel_for((planes + block - 1) / block, grain, [&](const int64_t begin, const int64_t end) {
      for (int64_t plane = begin * block; plane < std::min(planes, end * block); ++plane) {
        for (int64_t row = 0; row < rows; ++row) {
          Range& target = blocks_[plane / block * across_ + row / block];
          for (int64_t channel = 0; channel < channels; ++channel) {
            const int64_t place = ((channel * planes + plane) * rows + row) * columns;
            target = hull(target, nonzero(label + place, columns));
          }
        }
      }
    });
  }

  static constexpr int64_t block = 2;  // planes, and rows

  // For each block of rows, a range of columns that holds all that is not 0 in these planes.
  std::vector<Range> of_planes(const Range planes) const {
    std::vector<Range> result(across_, none_);
    const int64_t last = std::min(planes.end, planes_) - 1;
    for (int64_t z = std::max<int64_t>(0, planes.begin) / block; z <= last / block && last >= 0;
         ++z) {
      for (int64_t y = 0; y < across_; ++y) result[y] = hull(result[y], blocks_[z * across_ + y]);
    }
    return result;
  }

  // The same for these rows, from what of_planes() returned.
  Range of_rows(const std::vector<Range>& of_planes, const Range rows) const {
    Range result = none_;
    const int64_t last = std::min(rows.end, rows_) - 1;
    for (int64_t y = std::max<int64_t>(0, rows.begin) / block; y <= last / block && last >= 0;
         ++y) {
      result = hull(result, of_planes[y]);
    }
    return result;
  }

 private:
  int64_t planes_;
  int64_t rows_;
  int64_t across_;
  Range none_;
  std::vector<Range> blocks_;
};

}  // namespace marginseg::sampling
