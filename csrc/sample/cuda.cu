#include <algorithm>
#include <type_traits>

#include "gaussian_field/cuda.cuh"
#include "gaussian_field/rows.cuh"
#include "sample/cuda.cuh"
#include "warp/cuda.cuh"
#include "warp/interpolation.h"

namespace marginseg::sample {
namespace {

using gaussian_field::Blocks;
using gaussian_field::Column;
using gaussian_field::Factors;
using gaussian_field::Tile;
using gaussian_field::tile_columns;
using gaussian_field::tile_rows;

// The labels of all entries, and those of all samples.
template <class L>
struct Labels {
  const L* label;
  L* output;
  int64_t batch;
  int64_t channels;
};

// A volume of N axes has the last N of three.
template <int N>
constexpr int first_axis = 3 - N;

// Writes the label of the nearest voxel, for each channel.
template <int N, class L>
__device__ __forceinline__ void look_up_nearest(const L* const label, L* const output,
                                                const int64_t channels, const int64_t volume,
                                                const float (&position)[N],
                                                const warp::Shape<N>& shape) {
  const int64_t place = warp::nearest_place<N>(position, shape);
#pragma unroll 1
  for (int64_t channel = 0; channel < channels; ++channel) {
    output[channel * volume] = place == outside ? L(0) : __ldg(label + channel * volume + place);
  }
}

// Writes the heaviest label of the corners around, for each channel.
template <int N, class L>
__device__ __forceinline__ void look_up_linear(const L* const label, L* const output,
                                               const int64_t channels, const int64_t volume,
                                               const float (&position)[N],
                                               const warp::Shape<N>& shape) {
  const bool number = warp::is_number(position);
  const auto corners = warp::linear_corners<N>(position, shape, Extension::constant);
#pragma unroll 1
  for (int64_t channel = 0; channel < channels; ++channel) {
    output[channel * volume] =
        number ? warp::heaviest_label<N>(label + channel * volume, corners, L(0)) : L(0);
  }
}

// Each block deforms some rows of a plane of one sample.
template <int N, int most, bool linear, class L>
__global__ __launch_bounds__(threads, 2) void sample_rows(const Labels<L> labels,
                                                          const float* const coefficients,
                                                          const Factors<float> factors,
                                                          const Blocks blocks) {
  __shared__ Tile<float, N, most> tile;
  const int64_t entry = blocks.entry();
  const int64_t z = blocks.plane();
  const int64_t y0 = blocks.first_row();
  const int64_t height = factors.size[1];
  const int64_t width = factors.size[2];
  const int64_t volume = factors.size[0] * height * width;
  const int rows = static_cast<int>(min(static_cast<int64_t>(tile_rows), height - y0));
  prepare_rows(tile, factors, coefficients + entry * N * factors.coefficients(), z, y0, rows);
  warp::Shape<N> shape;
#pragma unroll
  for (int axis = 0; axis < N; ++axis) shape.size[axis] = factors.size[first_axis<N> + axis];
  const L* const label = labels.label + entry % labels.batch * labels.channels * volume;
  L* const plane = labels.output + entry * labels.channels * volume + (z * height + y0) * width;
  for (int64_t x0 = 0; x0 < width; x0 += tile_columns) {
    prepare_columns(tile, factors, x0);
    for (int first = 0; first < tile_columns; first += warp_size) {
      const int column = first + lane_number();
      const int64_t x = x0 + column;
      if (x >= width) continue;
      const Column<float, most> field(tile, column);
      for (int row = warp_number(); row < rows; row += warps) {
        const int64_t index[3] = {z, y0 + row, x};
        float position[N];
#pragma unroll
        for (int axis = 0; axis < N; ++axis) {
          position[axis] =
              static_cast<float>(index[first_axis<N> + axis]) + field(tile.rows[axis][row]);
        }
        L* const target = plane + row * width + x;
        if constexpr (linear) {
          look_up_linear<N>(label, target, labels.channels, volume, position, shape);
        } else {
          look_up_nearest<N>(label, target, labels.channels, volume, position, shape);
        }
      }
    }
  }
}

// Evaluates the fields to memory and warps by them, where they have too many coefficients for one
// launch.
template <class L>
void through_memory(const Context& context, const uintptr_t coefficients, const Labels<L>& labels,
                    const Dtype dtype, const Geometry& geometry, const std::vector<int64_t>& ranks,
                    const std::vector<uintptr_t>& factors) {
  const auto axes = static_cast<int64_t>(ranks.size());
  int64_t volume = 1;
  for (const int64_t size : geometry.shape) volume *= size;
  const int64_t components = geometry.batch * axes;
  auto* const field = context.allocate<float>(components * volume);
  int64_t drawn = components;
  for (const int64_t rank : ranks) drawn *= rank;
  // The fields are larger than the labels, so that they are evaluated for one sample at a time.
  for (int64_t number = 0; number < geometry.samples; ++number) {
    gaussian_field::run(context, coefficients + number * drawn * sizeof(float),
                        reinterpret_cast<uintptr_t>(field), Dtype::float32, components, ranks,
                        geometry.shape, factors);
    const int64_t entry = geometry.channels * volume;
    warp::run_label(context, reinterpret_cast<uintptr_t>(labels.label),
                    reinterpret_cast<uintptr_t>(field),
                    reinterpret_cast<uintptr_t>(labels.output + number * geometry.batch * entry),
                    dtype, Dtype::float32,
                    {geometry.batch, geometry.channels, geometry.shape, entry, Extension::constant,
                     geometry.linear},
                    0);
  }
}

}  // namespace

void run(const Context& context, const uintptr_t label, const Dtype dtype,
         const uintptr_t coefficients, const uintptr_t output, const Geometry& geometry,
         const std::vector<int64_t>& ranks, const std::vector<uintptr_t>& factors) {
  dispatch_label(dtype, [&](const auto type) {
    using L = typename decltype(type)::type;
    const Labels<L> labels{reinterpret_cast<const L*>(label), reinterpret_cast<L*>(output),
                           geometry.batch, geometry.channels};
    const auto largest = static_cast<int>(*std::max_element(ranks.begin(), ranks.end()));
    if (largest > gaussian_field::largest_rank) {
      through_memory(context, coefficients, labels, dtype, geometry, ranks, factors);
      return;
    }
    const Factors<float> all(ranks, geometry.shape, factors);
    const Blocks blocks(all);
    warp::dispatch_axes(ranks.size(), [&](const auto axes) {
      gaussian_field::dispatch_rank(largest, [&](const auto most) {
        const auto kernel = geometry.linear ? sample_rows<axes.value, most.value, true, L>
                                            : sample_rows<axes.value, most.value, false, L>;
        context.launch(kernel, blocks.count(geometry.samples * geometry.batch), threads, labels,
                       reinterpret_cast<const float*>(coefficients), all, blocks);
      });
    });
  });
}

}  // namespace marginseg::sample
