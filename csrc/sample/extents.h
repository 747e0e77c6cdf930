// Where the rows of a label are not 0, to tell which rows of a deformed label can be.
#pragma once

#include <cstdint>
#include <vector>

#include "common/parallel.h"
#include "common/parts.h"
#include "common/range.h"

namespace marginseg::sample {

// For each block of rows, a range of columns that holds all that is not 0. Apart, so that many are
// merged at once.
struct Columns {
  std::vector<int32_t> begin;
  std::vector<int32_t> end;

  explicit Columns(const int64_t count) : begin(count, INT32_MAX), end(count, 0) {}

  void merge(const int64_t at, const int32_t* const begins, const int32_t* const ends,
             const int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      begin[at + i] = std::min(begin[at + i], begins[i]);
      end[at + i] = std::max(end[at + i], ends[i]);
    }
  }
};

class Extents {
 public:
  // Of `channels` volumes of shape (planes, rows, columns), one after another, together.
  template <class L>
  Extents(const L* const label, const int64_t channels, const int64_t planes, const int64_t rows,
          const int64_t columns)
      : planes_(planes),
        rows_(rows),
        across_(parts(rows, block)),
        blocks_(parts(planes, block) * across_) {
    const int64_t grain = std::max<int64_t>(1, 65536 / (block * rows * columns * channels));
    parallel_for(parts(planes, block), grain, [&](const int64_t begin, const int64_t end) {
      for (int64_t plane = begin * block; plane < std::min(planes, end * block); ++plane) {
        for (int64_t channel = 0; channel < channels; ++channel) {
          const L* const values = label + (channel * planes + plane) * rows * columns;
          const Range set_rows = nonzero_rows(values, rows, columns);
          for (int64_t row = set_rows.begin; row < set_rows.end; ++row) {
            const Range set = nonzero(values + row * columns, columns);
            if (set.size() == 0) continue;
            const auto first = static_cast<int32_t>(set.begin);
            const auto last = static_cast<int32_t>(set.end);
            blocks_.merge(plane / block * across_ + row / block, &first, &last, 1);
          }
        }
      }
    });
  }

  // What is not 0 in these planes, for each block of rows.
  Columns of_planes(const Range planes) const {
    Columns result(across_);
    const int64_t last = std::min(planes.end, planes_) - 1;
    if (last < 0) return result;
    for (int64_t z = std::max<int64_t>(0, planes.begin) / block; z <= last / block; ++z) {
      result.merge(0, blocks_.begin.data() + z * across_, blocks_.end.data() + z * across_,
                   across_);
    }
    return result;
  }

  // The same of these rows together, from what of_planes() returned.
  Range of_rows(const Columns& of_planes, const Range rows) const {
    int32_t begin = INT32_MAX;
    int32_t end = 0;
    const int64_t last = std::min(rows.end, rows_) - 1;
    if (last < 0) return {0, 0};
    for (int64_t y = std::max<int64_t>(0, rows.begin) / block; y <= last / block; ++y) {
      begin = std::min(begin, of_planes.begin[y]);
      end = std::max(end, of_planes.end[y]);
    }
    return {begin, end};
  }

 private:
  static constexpr int64_t block = 2;  // planes, and rows

  int64_t planes_;
  int64_t rows_;
  int64_t across_;
  Columns blocks_;
};

}  // namespace marginseg::sample
