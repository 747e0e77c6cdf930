#include "gaussian_filter/cpu.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "common/huge_pages.h"
#include "common/parallel.h"
#include "gaussian_filter/runs.h"
#include "gaussian_filter/support.h"
#include "gaussian_filter/tile.h"

namespace marginseg::gaussian_filter {
namespace {

// Zeroes the rows outside the support, of which item `index` of `count` does its share.
template <class T>
void zero_outside(T* const output, const Filter<T>& filter, const Support& support,
                  const int64_t index, const int64_t count) {
  const int64_t height = filter.axes[1].size;
  const int64_t rows = filter.axes[0].size * height;
  const int64_t width = filter.axes[2].size;
  for (int64_t row = rows * index / count; row < rows * (index + 1) / count; ++row) {
    if (support.output[0].holds(row / height) && support.output[1].holds(row % height)) continue;
    std::fill_n(output + row * width, width, T{0});
  }
}

constexpr int64_t voxels_per_task = 16384;

// Filters the tiles, and zeroes what the support leaves out unless a further step will.
template <class L, class T>
void filter_tiles(const Box<L>& input, T* const output, const Filter<T>& filter,
                  const Support& support, const std::vector<Tile>& tiles, const bool last) {
  const auto count = static_cast<int64_t>(tiles.size());
  const int64_t items = std::max<int64_t>(1, count);
  const int64_t grain = std::max<int64_t>(1, voxels_per_task * items / filter.volume());
  parallel_for(items, grain, [&](const int64_t begin, const int64_t end) {
    TileFilter<L, T> tile_filter(input, output, filter, support);
    for (int64_t item = begin; item < end; ++item) {
      if (item < count) tile_filter.run(tiles[item]);
      if (last) zero_outside(output, filter, support, item, items);
    }
  });
}

template <class T>
void leave_unfiltered(FullAxis<T>& axis) {
  axis.radius = 0;
  axis.weights = {T{1}};
}

template <class L, class T>
void filter_box(const Box<L>& input, T* const output, const Filter<T>& filter,
                const Support& support) {
  if (!in_two_steps(filter, support)) {
    return filter_tiles(input, output, filter, support, tiles_of(filter, support), true);
  }
  Filter<T> first = filter;
  leave_unfiltered(first.axes[1]);
  leave_unfiltered(first.axes[2]);
  const std::array<Range, 3> between{support.output[0], support.input[1], support.input[2]};
  filter_tiles(input, output, first, {support.input, between}, deep_tiles_of(between, sizeof(T)),
               false);
  // In place: a tile is a whole plane, which is read before it is written.
  Filter<T> rest = filter;
  leave_unfiltered(rest.axes[0]);
  const auto& [z, y, x] = filter.axes;
  filter_tiles<T>({output, z.whole(), y.whole(), x.whole()}, output, rest,
                  {between, support.output}, planes_of(support), true);
}

template <class L, class T>
void filter_image(const L* const input, T* const output, const Filter<T>& filter) {
  Support support = support_of(input, filter);
  if constexpr (sizeof(L) == 1) {
    if (filter.zero_outside()) {
      // The columns are rounded to whole cache lines; the added ones come out as 0.
      Range& columns = support.output[2];
      columns = {columns.begin / padding * padding,
                 std::min(filter.axes[2].size, padded(columns.end))};
      const AlignedBuffer<T> lines = filter_runs(input, filter, support);
      Filter<T> rest = filter;
      leave_unfiltered(rest.axes[2]);
      const std::array<Range, 3> box{support.input[0], support.input[1], support.output[2]};
      filter_box<T>({lines.data(), box[0], box[1], box[2]}, output, rest, {box, support.output});
      return;
    }
  }
  const auto& [z, y, x] = filter.axes;
  filter_box<L>({input, z.whole(), y.whole(), x.whole()}, output, filter, support);
}

template <class T>
Filter<T> read_filter(int64_t& batch, std::array<Axis, 3> axes, const Extension extension,
                      const double cval) {
  // The first axis, if it is not filtered, is merged with the batch, and the second then with the
  // first: fewer and larger images need fewer tiles.
  if (axes[0].radius == 0) {
    axes[0].size *= batch;
    batch = 1;
    if (axes[1].radius == 0) {
      axes[1].size *= axes[0].size;
      axes[0].size = 1;
    }
  }
  Filter<T> filter{{}, extension, static_cast<T>(cval)};
  for (int axis = 0; axis < 3; ++axis) {
    const Axis& source = axes[axis];
    FullAxis<T>& target = filter.axes[axis];
    target.size = source.size;
    target.radius = source.radius;
    for (int64_t k = -source.radius; k <= source.radius; ++k) {
      target.weights.push_back(static_cast<T>(source.weights[std::abs(k)]));
    }
  }
  return filter;
}

// With so many images each thread takes whole images; with fewer all threads share the tiles of
// one.
constexpr int64_t enough_images = 16;

template <class L, class T>
void filter_images(const L* const input, T* const output, const Filter<T>& filter,
                   const int64_t batch) {
  const int64_t volume = filter.volume();
  const int64_t grain = batch < enough_images ? batch : 1;
  parallel_for(batch, grain, [&](const int64_t begin, const int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      filter_image(input + image * volume, output + image * volume, filter);
    }
  });
}

}  // namespace

void run(const uintptr_t input, const Dtype input_dtype, const uintptr_t output, const Dtype dtype,
         int64_t batch, const std::array<Axis, 3>& axes, const Extension extension,
         const double cval) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Filter<T> filter = read_filter<T>(batch, axes, extension, cval);
    auto* const target = reinterpret_cast<T*>(output);
    prefer_huge_pages(target, batch * filter.volume() * sizeof(T));
    if (input_dtype == Dtype::uint8) {
      filter_images(reinterpret_cast<const uint8_t*>(input), target, filter, batch);
    } else {
      filter_images(reinterpret_cast<const T*>(input), target, filter, batch);
    }
  });
}

}  // namespace marginseg::gaussian_filter
