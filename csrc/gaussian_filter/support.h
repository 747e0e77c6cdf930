// The support of an image and of the filtered image: the boxes outside of which both are 0.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "common/extension.h"
#include "common/parallel.h"
#include "common/range.h"
#include "gaussian_filter/simd.h"

namespace marginseg::gaussian_filter {

template <class T>
struct FullAxis {
  int64_t size;
  int64_t radius;
  std::vector<T> weights;
  Weights<T> kernel() const { return {weights.data(), static_cast<int64_t>(weights.size())}; }
  Range whole() const { return {0, size}; }
  // Where values of `range` contribute to the filtered axis.
  Range grown(const Range range) const {
    if (range.size() == 0) return {0, 0};
    return {std::max<int64_t>(0, range.begin - radius), std::min(size, range.end + radius)};
  }
};

template <class T>
struct Filter {
  std::array<FullAxis<T>, 3> axes;
  Extension extension;
  T cval;
  int64_t volume() const { return axes[0].size * axes[1].size * axes[2].size; }
  bool zero_outside() const { return extension == Extension::constant && cval == T{0}; }
};

struct Support {
  std::array<Range, 3> input;
  std::array<Range, 3> output;
};

// A label is mostly 0, and so is the filtered label far from what is not: nothing has to be
// computed there. This is exact where the axis goes on with 0 or repeats what is near its end: then
// the extended image is 0 outside the grown box too. Where it wraps, or goes on with another
// constant, it is not, and the support is everything.
template <class L, class T>
Support support_of(const L* const image, const Filter<T>& filter) {
  const auto& z = filter.axes[0];
  const auto& y = filter.axes[1];
  const auto& x = filter.axes[2];
  const bool copies = filter.extension == Extension::nearest ||
                      filter.extension == Extension::reflect ||
                      filter.extension == Extension::mirror;
  std::array<Range, 3> input{z.whole(), y.whole(), x.whole()};
  if (filter.zero_outside() || copies) {
    const Range none[] = {{z.size, 0}, {y.size, 0}, {x.size, 0}};
    std::vector<std::array<Range, 3>> boxes(z.size, {none[0], none[1], none[2]});
    const int64_t grain = std::max<int64_t>(1, 65536 / (y.size * x.size));
    parallel_for(z.size, grain, [&](const int64_t begin, const int64_t end) {
      for (int64_t plane = begin; plane < end; ++plane) {
        const L* const values = image + plane * y.size * x.size;
        const Range rows = nonzero_rows(values, y.size, x.size);
        for (int64_t row = rows.begin; row < rows.end; ++row) {
          const Range set = nonzero(values + row * x.size, x.size);
          if (set.size() == 0) continue;
          auto& box = boxes[plane];
          box = {Range{plane, plane + 1}, hull(box[1], {row, row + 1}), hull(box[2], set)};
        }
      }
    });
    input = {none[0], none[1], none[2]};
    for (const auto& box : boxes) {
      for (int axis = 0; axis < 3; ++axis) input[axis] = hull(input[axis], box[axis]);
    }
  }
  return {input, {z.grown(input[0]), y.grown(input[1]), x.grown(input[2])}};
}

}  // namespace marginseg::gaussian_filter
