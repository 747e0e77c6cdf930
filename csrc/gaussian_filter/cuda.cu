#include <algorithm>
#include <type_traits>

#include "common/cuda/block.cuh"
#include "common/parts.h"
#include "gaussian_filter/cuda.cuh"
#include "gaussian_filter/neighbours.cuh"
#include "gaussian_filter/planes.cuh"
#include "gaussian_filter/rows.cuh"
#include "gaussian_filter/strided.cuh"

namespace marginseg::gaussian_filter {
namespace {

template <class C, int longest>
Weights<C, longest> weights_of(const Axis& axis) {
  Weights<C, longest> weights;
  weights.radius = static_cast<int>(axis.radius);
  for (int k = 0; k <= weights.radius; ++k) weights.values[k] = static_cast<C>(axis.weights[k]);
  return weights;
}

// About as many blocks as the largest devices have multiprocessors, twice over.
constexpr int64_t few_blocks = 256;

template <class C>
class Filter {
 public:
  Filter(const Context& context, const int64_t batch, const std::array<Axis, 3>& axes,
         const Extension extension, const double cval)
      : context_(context), batch_(batch), axes_(axes), border_{extension, static_cast<C>(cval)} {
    for (const Axis& axis : axes) {
      if (axis.radius > longest_radius) {
        throw std::invalid_argument("gaussian_filter: a kernel of radius " +
                                    std::to_string(axis.radius) + " on a GPU, where " +
                                    std::to_string(longest_radius) + " is the longest");
      }
      if (axis.size > longest_axis) {
        throw std::invalid_argument("gaussian_filter: an axis of " + std::to_string(axis.size) +
                                    " voxels on a GPU, where " + std::to_string(longest_axis) +
                                    " are the most");
      }
    }
  }

  template <class S, class D>
  void run(const S* const input, D* const output) {
    const bool fused = std::max(axes_[1].radius, axes_[2].radius) <= unrolled_radius;
    const bool z = axes_[0].radius > 0;
    const bool y = axes_[1].radius > 0;
    const bool x = axes_[2].radius > 0;
    if (fused && (x || y || !z)) {
      if (!z) return planes(input, output);
      C* const between = context_.allocate<C>(volume());
      planes(input, between);
      return strided(between, output, 0);
    }
    if (y + x + z == 1) {
      return x ? rows(input, output) : strided(input, output, y ? 1 : 0);
    }
    C* between = context_.allocate<C>(volume());
    if (y) {
      strided(input, between, 1);
      if (!z) return rows(between, output);
      if (x) {
        C* const next = context_.allocate<C>(volume());
        rows(between, next);
        between = next;
      }
    } else {
      rows(input, between);
    }
    strided(between, output, 0);
  }

 private:
  int64_t volume() const { return batch_ * axes_[0].size * axes_[1].size * axes_[2].size; }

  template <class S, class D>
  void planes(const S* const input, D* const output) const {
    if (std::max(axes_[1].radius, axes_[2].radius) <= narrow_radius) {
      planes<narrow_radius>(input, output);
    } else {
      planes<unrolled_radius>(input, output);
    }
  }

  template <int widest, class S, class D>
  void planes(const S* const input, D* const output) const {
    using Part = Tile<C, widest>;
    const int64_t count = batch_ * axes_[0].size;
    const int64_t height = axes_[1].size;
    const int64_t width = axes_[2].size;
    const int64_t across = parts(width, Part::columns);
    // A high tile reads few surroundings for what it filters; but where there are few tiles, lower
    // ones keep more of the device at work.
    const int rows =
        count * parts(height, Part::rows) * across < few_blocks ? Part::rows / 2 : Part::rows;
    const int64_t down = parts(height, rows);
    const Planes planes{static_cast<int>(height), static_cast<int>(width), rows,
                        static_cast<int>(down), static_cast<int>(across)};
    constexpr int vector = wide<C>;
    const auto kernel = is_aligned<vector>(input, width) && is_aligned<vector>(output, width)
                            ? filter_planes<vector, widest, S, D, C>
                            : filter_planes<1, widest, S, D, C>;
    context_.launch(kernel, count * down * across, plane_threads, input, output, planes,
                    weights_of<C, widest>(axes_[1]), weights_of<C, widest>(axes_[2]), border_);
  }

  template <class S, class D>
  void strided(const S* const input, D* const output, const int axis) const {
    const int64_t outer = axis == 0 ? batch_ : batch_ * axes_[0].size;
    const int64_t inner = axis == 0 ? axes_[1].size * axes_[2].size : axes_[2].size;
    constexpr int vector = 16 / std::max(sizeof(S), sizeof(D));
    if (!is_aligned<vector>(input, inner) || !is_aligned<vector>(output, inner)) {
      strided<1, longest_radius>(input, output, axis, outer, inner);
    } else if (axes_[axis].radius <= unrolled_radius) {
      strided<vector, unrolled_radius>(input, output, axis, outer, inner);
    } else if (axes_[axis].radius <= short_radius) {
      strided<vector, short_radius>(input, output, axis, outer, inner);
    } else {
      strided<vector, longest_radius>(input, output, axis, outer, inner);
    }
  }

  template <int N, int longest, class S, class D>
  void strided(const S* const input, D* const output, const int axis, const int64_t outer,
               const int64_t inner) const {
    const int64_t size = axes_[axis].size;
    const int64_t groups = parts(size, neighbours_of<N, longest> * strided_warps);
    context_.launch(filter_strided<N, S, D, C, longest>,
                    parts(outer * (inner / N), warp_size) * groups, strided_threads, input, output,
                    Strided{outer, static_cast<int>(size), inner, static_cast<int>(groups)},
                    weights_of<C, longest>(axes_[axis]), border_);
  }

  template <class S, class D>
  void rows(const S* const input, D* const output) const {
    const int64_t width = axes_[2].size;
    if (axes_[2].radius <= short_radius && is_aligned<wide<C>>(input, width) &&
        is_aligned<wide<C>>(output, width)) {
      rows<wide<C>, short_radius>(input, output, width);
    } else {
      rows<1, longest_radius>(input, output, width);
    }
  }

  template <int N, int longest, class S, class D>
  void rows(const S* const input, D* const output, const int64_t width) const {
    using Part = Strip<C>;
    const int64_t count = volume() / width;
    const int64_t across = parts(width, Part::columns);
    context_.launch(filter_rows<N, S, D, C, longest>, parts(count, Part::rows * row_warps) * across,
                    row_threads, input, output, count, static_cast<int>(width),
                    static_cast<int>(across), weights_of<C, longest>(axes_[2]), border_);
  }

  const Context& context_;
  int64_t batch_;
  std::array<Axis, 3> axes_;
  Border<C> border_;
};

}  // namespace

void run(const Context& context, const uintptr_t input, const Dtype input_dtype,
         const uintptr_t output, const Dtype dtype, const int64_t batch,
         const std::array<Axis, 3>& axes, const Extension extension, const double cval) {
  dispatch_stored(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    Filter<computing<T>> filter(context, batch, axes, extension, cval);
    auto* const target = reinterpret_cast<T*>(output);
    if constexpr (std::is_same_v<T, float>) {
      if (input_dtype == Dtype::uint8) {
        filter.run(reinterpret_cast<const uint8_t*>(input), target);
        return;
      }
    }
    filter.run(reinterpret_cast<const T*>(input), target);
  });
}

}  // namespace marginseg::gaussian_filter
