#include "gaussian_field/cuda.cuh"
#include "gaussian_field/rows.cuh"
#include "sample/cuda.cuh"
#include "sample/nearest.cuh"
#include "warp/cuda.cuh"
#include "warp/geometry.h"
#include "warp/interpolation.h"

namespace marginseg::sample {
namespace {

using gaussian_field::Columns;
using gaussian_field::Factors;
using gaussian_field::Lanes;
using gaussian_field::Part;
using gaussian_field::Prepared;
using gaussian_field::Tile;
using gaussian_field::tile_columns;
using gaussian_field::tile_rows;
using gaussian_field::Tiles;

// The labels of all entries, and those of all samples.
template <class L>
struct Labels {
  const L* label;
  L* output;
  Divisor<int32_t> batch;
  int64_t channels;
  int64_t volume;
  int64_t entry;  // the channels of an entry together
};

// Gives voxels the labels that are nearest to where they are moved.
template <int N>
struct Nearest {
  // How many columns a thread looks up together.
  template <int most>
  static constexpr int each = gaussian_field::columns_at_once<float, most>;

  SmallVolume<N> volume;

  // Writes the labels at the positions to output[i * step], as far as these places lie before
  // output[left], for each channel.
  template <int count, class L>
  __device__ __forceinline__ void operator()(
      const Labels<L>& labels, const L* label, L* output, const int step, const int left,
      const warp::Position<N, float, int32_t> (&position)[count]) const {
    bool inside[count];
    uint32_t place[count];
#pragma unroll
    for (int i = 0; i < count; ++i) inside[i] = volume.nearest(position[i], place[i]);
    const auto copy = [&] {
      L value[count];
#pragma unroll
      for (int i = 0; i < count; ++i) value[i] = inside[i] ? __ldg(label + place[i]) : L(0);
      gaussian_field::store_columns(output, step, left, value);
    };
    copy();
#pragma unroll 1
    for (int64_t channel = 1; channel < labels.channels; ++channel) {
      label += labels.volume;
      output += labels.volume;
      copy();
    }
  }
};

// The same for volumes of any size, and labels interpolated among the corners around.
template <int N>
struct General {
  template <int most>
  static constexpr int each = 1;

  warp::Shape<N> shape;
  bool linear;

  template <class L>
  __device__ __forceinline__ void operator()(
      const Labels<L>& labels, const L* const label, L* const output, int, int,
      const warp::Position<N, float, int32_t> (&positions)[1]) const {
    warp::Position<N, float> position;
#pragma unroll
    for (int axis = 0; axis < N; ++axis) {
      position.voxel[axis] = positions[0].voxel[axis];
      position.moved[axis] = positions[0].moved[axis];
    }
    if (!linear || !warp::is_number(position)) {
      const int64_t place = warp::nearest_place<N>(position, shape);
#pragma unroll 1
      for (int64_t channel = 0; channel < labels.channels; ++channel) {
        output[channel * labels.volume] =
            warp::value_at(label + channel * labels.volume, place, L(0));
      }
      return;
    }
    const auto corners = warp::linear_corners<N>(position, shape, Extension::constant);
#pragma unroll 1
    for (int64_t channel = 0; channel < labels.channels; ++channel) {
      output[channel * labels.volume] =
          warp::heaviest_label<N>(label + channel * labels.volume, corners, L(0));
    }
  }
};

// Each block deforms a tile of a plane of one sample.
template <int N, int most, class LookUp, class L>
__global__ __launch_bounds__(threads, 2) void sample_rows(const Labels<L> labels,
                                                          const Prepared<float> prepared,
                                                          const int height, const int width,
                                                          const Tiles tiles, const Lanes lanes,
                                                          const LookUp look_up) {
  constexpr int each = LookUp::template each<most>;
  __shared__ Tile<float, N, most> tile;
  const Part part = tiles.part();
  const auto y = static_cast<int>(part.row);
  const auto x = static_cast<int>(part.column);
  const int rows = min(tile_rows, height - y);
  const int columns = min(tile_columns, width - x);
  prepare_rows(tile, prepared, part, rows);
  const L* const label =
      labels.label + labels.batch.divide(static_cast<int32_t>(part.entry)).remainder * labels.entry;
  const int step = lanes.across;
  for (int column = lanes.column(); column < columns; column += each * step) {
    const Columns<float, most, each> field(prepared, x + column, step);
    int row = lanes.row();
    L* output = labels.output + part.entry * labels.entry +
                (static_cast<int64_t>(part.plane) * height + y + row) * width + x + column;
    const float* of_row = tile.rows[row];
    for (; row < rows; row += lanes.rows()) {
      warp::Position<N, float, int32_t> position[each];
#pragma unroll
      for (int axis = 0; axis < N; ++axis) {
        float moved[each];
        field.evaluate(of_row + axis * most, moved);
        // Of three axes, or the last two, or the last.
        const bool is_row = axis == N - 2;
        const int32_t of_line = is_row ? y + row : static_cast<int>(part.plane);
#pragma unroll
        for (int i = 0; i < each; ++i) {
          position[i].voxel[axis] = axis == N - 1 ? x + column + i * step : of_line;
          position[i].moved[axis] = moved[i];
        }
      }
      look_up(labels, label, output, step, columns - column, position);
      of_row += lanes.rows() * tile.stride;
      output += static_cast<int64_t>(lanes.rows()) * width;
    }
  }
}

// Evaluates the fields to memory and warps by them, where they have too many coefficients for one
// launch.
template <class L>
void through_memory(const Context& context, const float* const coefficients, const uintptr_t label,
                    const Dtype dtype, L* const output, const Geometry& geometry,
                    const std::vector<int64_t>& ranks, const Factors<float>& factors) {
  const auto axes = static_cast<int64_t>(ranks.size());
  const int64_t volume = factors.size[0] * factors.size[1] * factors.size[2];
  const int64_t components = geometry.batch * axes;
  int64_t drawn = components;
  for (const int64_t rank : ranks) drawn *= rank;
  const int64_t entry = geometry.channels * volume;
  // The fields are larger than the labels, so that they are evaluated for one sample at a time, in
  // the same memory.
  auto* const field = context.allocate<float>(components * volume);
  const gaussian_field::AxisByAxis<float> expansion(context, components, factors);
  for (int64_t number = 0; number < geometry.samples; ++number) {
    expansion.run(coefficients + number * drawn, field);
    warp::run_label(context, label, reinterpret_cast<uintptr_t>(field),
                    reinterpret_cast<uintptr_t>(output + number * geometry.batch * entry), dtype,
                    Dtype::float32,
                    {geometry.batch, geometry.channels, geometry.shape, entry, Extension::constant,
                     geometry.linear},
                    0);
  }
}

}  // namespace

void run(const Context& context, const uintptr_t label, const Dtype dtype,
         const uintptr_t coefficients, const uintptr_t output, const Geometry& geometry,
         const std::vector<int64_t>& ranks, const std::vector<uintptr_t>& addresses) {
  const Factors<float> factors(ranks, geometry.shape, addresses);
  const auto* const drawn = reinterpret_cast<const float*>(coefficients);
  if (factors.largest() > gaussian_field::largest_rank) {
    dispatch_label(dtype, [&](const auto type) {
      using L = typename decltype(type)::type;
      through_memory(context, drawn, label, dtype, reinterpret_cast<L*>(output), geometry, ranks,
                     factors);
    });
    return;
  }
  const int64_t entries = geometry.samples * geometry.batch;
  const auto axes = static_cast<int>(ranks.size());
  const Prepared<float> prepared = prepare(context, drawn, entries, axes, factors);
  const Tiles tiles(factors);
  warp::dispatch_axes(ranks.size(), [&](const auto number) {
    constexpr int N = number.value;
    const auto shape = warp::shape_of<N>(geometry.shape);
    dispatch_label(dtype, [&](const auto type) {
      using L = typename decltype(type)::type;
      const int64_t volume = warp::volume_of(shape);
      const Labels<L> labels{reinterpret_cast<const L*>(label),
                             reinterpret_cast<L*>(output),
                             Divisor<int32_t>(geometry.batch),
                             geometry.channels,
                             volume,
                             geometry.channels * volume};
      gaussian_field::dispatch_rank(factors.largest(), [&](const auto most) {
        const auto launch = [&](const auto look_up) {
          using LookUp = std::decay_t<decltype(look_up)>;
          const Lanes lanes(factors.size[2], LookUp::template each<most.value>);
          context.launch(sample_rows<N, most.value, LookUp, L>, tiles.count(entries), threads,
                         labels, prepared, static_cast<int>(factors.size[1]),
                         static_cast<int>(factors.size[2]), tiles, lanes, look_up);
        };
        if (!geometry.linear && SmallVolume<N>::holds(shape)) {
          launch(Nearest<N>{SmallVolume<N>(shape)});
        } else {
          launch(General<N>{shape, geometry.linear});
        }
      });
    });
  });
}

}  // namespace marginseg::sample
