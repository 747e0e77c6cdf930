#include <algorithm>
#include <limits>
#include <type_traits>

#include "gaussian_filter/cuda.cuh"
#include "gaussian_filter/kernels.cuh"

namespace marginseg::gaussian_filter {
namespace {

template <class C, int capacity>
Weights<C, capacity> weights_of(const Axis& axis) {
  Weights<C, capacity> weights;
  weights.radius = static_cast<int>(axis.radius);
  for (int k = 0; k <= weights.radius; ++k) weights.values[k] = static_cast<C>(axis.weights[k]);
  return weights;
}

template <class C>
class Filter {
 public:
  Filter(const Context& context, const int64_t batch, const std::array<Axis, 3>& axes,
         const Extension extension, const double cval, const double ceiling)
      : context_(context),
        batch_(batch),
        axes_(axes),
        border_{extension, static_cast<C>(cval), static_cast<C>(ceiling)} {
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
    result_ = output;
    const bool fused = std::max(axes_[1].radius, axes_[2].radius) <= fused_radius;
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

  // Only the result is cut at the ceiling: what is filtered along some axes may rise above it and
  // sink again along the others.
  Border<C> border_of(const void* const output) const {
    Border<C> border = border_;
    if (output != result_) border.ceiling = std::numeric_limits<C>::infinity();
    return border;
  }

  template <class S, class D>
  void planes(const S* const input, D* const output) const {
    using Part = Tile<C>;
    const int64_t height = axes_[1].size;
    const int64_t width = axes_[2].size;
    const Planes planes{batch_ * axes_[0].size, height, width, parts(height, Part::rows),
                        parts(width, Part::columns)};
    // A vector is 16 bytes of what is computed in. Wider vectors of narrower types would leave half
    // of a warp without work, because a tile has few columns.
    constexpr int vector = 16 / sizeof(C);
    const auto kernel = is_aligned<vector>(input, width) ? filter_planes<vector, S, D, C>
                                                         : filter_planes<1, S, D, C>;
    context_.launch(kernel, planes.count * planes.tiles_down * planes.tiles_across, threads, input,
                    output, planes, weights_of<C, fused_radius + 1>(axes_[1]),
                    weights_of<C, fused_radius + 1>(axes_[2]), border_of(output));
  }

  template <class S, class D>
  void strided(const S* const input, D* const output, const int axis) const {
    const int64_t outer = axis == 0 ? batch_ : batch_ * axes_[0].size;
    const int64_t inner = axis == 0 ? axes_[1].size * axes_[2].size : axes_[2].size;
    const auto geometry = [&](const int neighbours, const int vector) {
      return Strided{outer, axes_[axis].size, inner, parts(axes_[axis].size, neighbours * warps),
                     parts(inner, warp_size * vector)};
    };
    constexpr int vector = 16 / std::max(sizeof(S), sizeof(D));
    if (axes_[axis].radius <= short_radius && is_aligned<vector>(input, inner) &&
        is_aligned<vector>(output, inner)) {
      const Strided strided = geometry(neighbours_of<vector>, vector);
      context_.launch(filter_strided<vector, S, D, C, short_radius + 1>,
                      strided.outer * strided.groups * strided.tiles, threads, input, output,
                      strided, weights_of<C, short_radius + 1>(axes_[axis]), border_of(output));
    } else {
      const Strided strided = geometry(neighbours_of<1>, 1);
      context_.launch(filter_strided<1, S, D, C, longest_radius + 1>,
                      strided.outer * strided.groups * strided.tiles, threads, input, output,
                      strided, weights_of<C, longest_radius + 1>(axes_[axis]), border_of(output));
    }
  }

  template <class S, class D>
  void rows(const S* const input, D* const output) const {
    const int64_t width = axes_[2].size;
    context_.launch(filter_rows<S, D, C>, blocks_for(volume()), threads, input, output,
                    volume() / width, width, weights_of<C, longest_radius + 1>(axes_[2]),
                    border_of(output));
  }

  const Context& context_;
  int64_t batch_;
  std::array<Axis, 3> axes_;
  Border<C> border_;
  const void* result_ = nullptr;
};

}  // namespace

void run(const Context& context, const uintptr_t input, const Dtype input_dtype,
         const uintptr_t output, const Dtype dtype, const int64_t batch,
         const std::array<Axis, 3>& axes, const Extension extension, const double cval,
         const double ceiling) {
  dispatch_stored(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    Filter<computing<T>> filter(context, batch, axes, extension, cval, ceiling);
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
