// The filter along all axes, tile by tile, with no temporary larger than a tile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/aligned.h"
#include "common/dispatch.h"
#include "common/parts.h"
#include "gaussian_filter/support.h"

namespace marginseg::gaussian_filter {

// An image or a box of it: its first voxel is (planes.begin, rows.begin, columns.begin).
template <class L>
struct Box {
  const L* data;
  Range planes;
  Range rows;
  Range columns;
  const L* row(const int64_t plane, const int64_t index) const {
    return data + ((plane - planes.begin) * rows.size() + index - rows.begin) * columns.size();
  }
};

// The planes and rows of the output that one thread computes at a time. They are few enough for the
// values filtered along the first axis to stay in the thread's cache.
struct Tile {
  Range planes;
  Range rows;
};

constexpr int64_t tile_bytes = 1 << 20;

template <class T>
std::vector<Tile> tiles_of(const Filter<T>& filter, const Support& support) {
  const auto& [planes, rows, columns] = support.output;
  std::vector<Tile> tiles;
  if (planes.size() == 0) return tiles;
  constexpr int64_t depth = block;
  const int64_t row_bytes = depth * support.input[2].size() * static_cast<int64_t>(sizeof(T));
  const int64_t fitting = tile_bytes / std::max<int64_t>(1, row_bytes);
  // The first axis has to be filtered for 2 radius more rows than the tile has. A tile of at least
  // as many rows at most doubles that work.
  const int64_t radius = filter.axes[1].radius;
  const int64_t most = std::max({depth, fitting - 2 * radius, 2 * radius});
  const int64_t across = parts(rows.size(), most);
  const int64_t height = parts(rows.size(), across);
  for (int64_t row = rows.begin; row < rows.end; row += height) {
    for (int64_t plane = planes.begin; plane < planes.end; plane += depth) {
      tiles.push_back(
          {{plane, std::min(planes.end, plane + depth)}, {row, std::min(rows.end, row + height)}});
    }
  }
  return tiles;
}

// Whether the first axis is filtered on its own, before the others: where the margins of a tile
// take more than a quarter of its memory, each plane would be read, and each row filtered, again
// and again.
template <class T>
bool in_two_steps(const Filter<T>& filter, const Support& support) {
  const int64_t row_bytes = support.input[2].size() * static_cast<int64_t>(sizeof(T));
  const int64_t margins = 2 * filter.axes[1].radius * block * row_bytes;
  return filter.axes[0].radius > 0 && 4 * margins > tile_bytes && support.output[0].size() > block;
}

// Tiles for the first axis alone: of few rows, and as many planes as a cache holds of these.
inline std::vector<Tile> deep_tiles_of(const std::array<Range, 3>& output, const int64_t bytes) {
  const auto& [planes, rows, columns] = output;
  std::vector<Tile> tiles;
  const int64_t row_bytes = std::max<int64_t>(1, columns.size() * bytes);
  const int64_t depth = std::max(block, std::min(planes.size(), tile_bytes / row_bytes));
  const int64_t height = std::max<int64_t>(1, tile_bytes / (depth * row_bytes));
  for (int64_t row = rows.begin; row < rows.end; row += height) {
    for (int64_t plane = planes.begin; plane < planes.end; plane += depth) {
      tiles.push_back(
          {{plane, std::min(planes.end, plane + depth)}, {row, std::min(rows.end, row + height)}});
    }
  }
  return tiles;
}

// A tile for each plane.
inline std::vector<Tile> planes_of(const Support& support) {
  std::vector<Tile> tiles;
  for (int64_t plane = support.output[0].begin; plane < support.output[0].end; ++plane) {
    tiles.push_back({{plane, plane + 1}, support.output[1]});
  }
  return tiles;
}

template <class T>
void across(const T* const* const rows, T* const* const outputs, const int64_t count,
            const Weights<T> weights, const int64_t length) {
  kernels_in_use<Simd<T>>().across(rows, outputs, count, weights, length);
}

template <class T>
void across(const uint8_t* const* const rows, T* const* const outputs, const int64_t count,
            const Weights<T> weights, const int64_t length) {
  kernels_in_use<Simd<T>>().across_labels(rows, outputs, count, weights, length);
}

// Filters the tiles of one image, one after another, in memory of its own.
template <class L, class T>
class TileFilter {
 public:
  // `input` holds at least the support.
  TileFilter(const Box<L>& input, T* const output, const Filter<T>& filter, const Support& support)
      : input_(input),
        output_(output),
        filter_(filter),
        support_(support),
        columns_(support.input[2]),
        length_(columns_.size()),
        padded_begin_(support.output[2].begin - filter.axes[2].radius),
        padded_size_(support.output[2].size() + 2 * filter.axes[2].radius),
        padded_(block * padded_size_),
        constant_source_(length_, static_cast<L>(filter.cval)),
        zero_source_(length_, L{0}),
        constant_row_(length_, filter.cval),
        zero_row_(length_, T{0}) {
    for (int64_t row = 0; row < block; ++row) {
      for (int64_t i = 0; i < padded_size_; ++i) {
        const bool inside = filter.axes[2].whole().holds(padded_begin_ + i);
        padded_[row * padded_size_ + i] = inside ? T{0} : filter.cval;
      }
    }
  }

  void run(const Tile& tile) {
    filter_first_axis(tile);
    for (int64_t plane = tile.planes.begin; plane < tile.planes.end; ++plane) {
      filter_plane(tile, plane);
    }
  }

 private:
  // Filters, along the first axis, the rows that the second axis needs: [first, first + count) of
  // the extended axis.
  void filter_first_axis(const Tile& tile) {
    const auto& [z, y, x] = filter_.axes;
    const int64_t depth = tile.planes.size();
    const int64_t first = tile.rows.begin - y.radius;
    const int64_t count = tile.rows.size() + 2 * y.radius;
    const int64_t stride = padded(length_);
    filtered_.resize(count * depth * stride);
    rows_.resize(depth * count);
    planes_.resize(depth + 2 * z.radius);
    sources_.resize(planes_.size());
    for (size_t k = 0; k < planes_.size(); ++k) {
      planes_[k] =
          extend(tile.planes.begin - z.radius + static_cast<int64_t>(k), z.size, filter_.extension);
    }
    targets_.resize(std::max(depth, block));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = extend(first + i, y.size, filter_.extension);
      const bool inside = row != outside && support_.input[1].holds(row);
      for (int64_t plane = 0; plane < depth; ++plane) {
        targets_[plane] = filtered_.data() + (i * depth + plane) * stride;
        rows_[plane * count + i] = inside           ? targets_[plane]
                                   : row == outside ? constant_row_.data()
                                                    : zero_row_.data();
      }
      if (!inside) continue;
      const int64_t skipped = columns_.begin - input_.columns.begin;
      for (size_t k = 0; k < planes_.size(); ++k) {
        const int64_t plane = planes_[k];
        sources_[k] = plane == outside                 ? constant_source_.data()
                      : support_.input[0].holds(plane) ? input_.row(plane, row) + skipped
                                                       : zero_source_.data();
      }
      across(sources_.data(), targets_.data(), depth, z.kernel(), length_);
    }
  }

  void filter_plane(const Tile& tile, const int64_t plane) {
    const auto& [z, y, x] = filter_.axes;
    const T* const* const rows =
        rows_.data() + (plane - tile.planes.begin) * (tile.rows.size() + 2 * y.radius);
    const Range columns = support_.output[2];
    for (int64_t row = tile.rows.begin; row < tile.rows.end; row += block) {
      const int64_t count = std::min(block, tile.rows.end - row);
      // Where the last axis is not filtered, the filter along the second writes to the output.
      for (int64_t i = 0; i < count; ++i) {
        targets_[i] = x.radius == 0
                          ? output_row(plane, row + i) + columns.begin
                          : padded_.data() + i * padded_size_ + columns_.begin - padded_begin_;
      }
      across(rows + (row - tile.rows.begin), targets_.data(), count, y.kernel(), length_);

      for (int64_t i = 0; i < count; ++i) {
        T* const target = output_row(plane, row + i);
        if (x.radius > 0) {
          T* const padded = padded_.data() + i * padded_size_;
          extend_row(padded);
          kernels_in_use<Simd<T>>().along(padded, target + columns.begin, x.kernel(),
                                          columns.size());
        }
        std::fill(target, target + columns.begin, T{0});
        std::fill(target + columns.end, target + x.size, T{0});
      }
    }
  }

  T* output_row(const int64_t plane, const int64_t row) const {
    return output_ + (plane * filter_.axes[1].size + row) * filter_.axes[2].size;
  }

  // Writes what lies beyond the ends of a padded row. A constant has been there from the start.
  void extend_row(T* const padded) const {
    if (filter_.extension == Extension::constant) return;
    const int64_t size = filter_.axes[2].size;
    const auto copy = [&](const int64_t begin, const int64_t end) {
      for (int64_t column = begin; column < end; ++column) {
        const int64_t source = extend(column, size, filter_.extension);
        padded[column - padded_begin_] =
            columns_.holds(source) ? padded[source - padded_begin_] : T{0};
      }
    };
    copy(padded_begin_, 0);
    copy(size, padded_begin_ + padded_size_);
  }

  Box<L> input_;
  T* output_;
  const Filter<T>& filter_;
  const Support& support_;
  Range columns_;  // of the input's support
  int64_t length_;
  int64_t padded_begin_;
  int64_t padded_size_;
  AlignedVector<T> padded_;
  std::vector<L> constant_source_;
  std::vector<L> zero_source_;
  std::vector<T> constant_row_;
  std::vector<T> zero_row_;
  AlignedVector<T> filtered_;  // rows filtered along the first axis
  std::vector<int64_t> planes_;
  std::vector<const T*> rows_;
  std::vector<const L*> sources_;
  std::vector<T*> targets_;
};

}  // namespace marginseg::gaussian_filter
