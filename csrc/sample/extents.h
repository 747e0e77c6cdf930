// Where the rows of a label are not 0, which tells where those of a deformed label can be.
#pragma once

#include <cstdint>
#include <vector>

#include "common/parallel.h"
#include "common/parts.h"
#include "common/range.h"

namespace marginseg::sample {

// For each block of rows, the range of columns [begin, end) that holds all values other than 0; it
// is empty, with begin > end, where there are none. Begins and ends are arrays of their own, so
// that compilers merge many at once with vector instructions.
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
  // The channels of a label lie one after another; each is a volume of shape (planes, rows,
  // columns). The ranges hold what is not 0 in any of them.
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

  // The columns that are not 0 in any of these planes, for each block of rows.
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

  // The columns that are not 0 in any of these rows, from what of_planes() returned.
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
  // So many planes and so many rows share a range: it is coarser, but there are fewer to merge.
  static constexpr int64_t block = 2;

  int64_t planes_;
  int64_t rows_;
  int64_t across_;
  Columns blocks_;
};

}  // namespace marginseg::sample
