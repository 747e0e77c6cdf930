#include <algorithm>
#include <vector>

#include "warp/cpu.h"
#include "warp/gradient.h"
#include "warp/walk.h"

namespace marginseg::warp {
namespace {

// Calls visit(image, place, position) for every voxel of every image (entry * channels + channel).
// Two voxels may be read from one place, so a scatter into an image is serial: one thread takes
// all of it, in the order of the voxels, and sums are the same bits for any number of threads.
template <int N, class T, class Visit>
void walk_images(const T* const displacement, const Geometry& geometry, const Visit& visit) {
  const Shape<N> shape = shape_of<N>(geometry.shape);
  const int64_t volume = volume_of(shape);
  parallel_for(geometry.batch * geometry.channels, 1, [&](const int64_t first, const int64_t last) {
    for (int64_t image = first; image < last; ++image) {
      const T* const field = displacement + image / geometry.channels * N * volume;
      walk<N>(shape, field, 0, volume, [&](const int64_t place, const Position<N, T>& position) {
        if (is_number(position)) visit(image, place, position);
      });
    }
  });
}

template <int N, class T>
void spread_gradients(const T* const gradient, const T* const displacement, T* const input_gradient,
                      const Geometry& geometry) {
  const Shape<N> shape = shape_of<N>(geometry.shape);
  const int64_t volume = volume_of(shape);
  const auto visit = [&](const int64_t image, const int64_t place, const Position<N, T>& position) {
    const T source = gradient[image * volume + place];
    const auto scatter = [target = input_gradient + image * volume](
                             const int64_t at, const T value) { target[at] += value; };
    if (geometry.linear) {
      spread_gradient(linear_corners<N>(position, shape, geometry.extension), source, scatter);
    } else {
      const int64_t nearest = nearest_place<N>(position, shape, geometry.extension);
      if (nearest != outside) scatter(nearest, source);
    }
  };
  walk_images<N>(displacement, geometry, visit);
}

template <int N, class T>
void steer_gradients(const T* const gradient, const T* const input, const T* const displacement,
                     T* const displacement_gradient, const Geometry& geometry, const T cval) {
  const Shape<N> shape = shape_of<N>(geometry.shape);
  const int64_t volume = volume_of(shape);
  parallel_voxels(
      geometry.batch, volume, [&](const int64_t entry, const int64_t begin, const int64_t end) {
        const T* const images = input + entry * geometry.input_stride;
        const T* const source = gradient + entry * geometry.channels * volume;
        T* const target = displacement_gradient + entry * N * volume;
        const auto visit = [&](const int64_t place, const Position<N, T>& position) {
          T sum[N] = {};
          if (geometry.linear && is_number(position)) {
            const auto corners = linear_corners<N>(position, shape, geometry.extension);
            for (int64_t c = 0; c < geometry.channels; ++c) {
              steer_gradient(corners, source[c * volume + place], images + c * volume, cval, sum);
            }
          }
          for (int axis = 0; axis < N; ++axis) target[axis * volume + place] = sum[axis];
        };
        walk<N>(shape, displacement + entry * N * volume, begin, end, visit);
      });
}

// Reads the components of a vector field at a voxel, `volume` apart.
template <int N, class T>
void gather(const T* const field, const int64_t volume, T (&values)[N]) {
  for (int axis = 0; axis < N; ++axis) values[axis] = field[axis * volume];
}

template <int N, class T>
void spread_seconds(const T* const gradient, const T* const displacement_weight,
                    const T* const displacement, T* const second_input, const Geometry& geometry) {
  const Shape<N> shape = shape_of<N>(geometry.shape);
  const int64_t volume = volume_of(shape);
  const auto visit = [&](const int64_t image, const int64_t place, const Position<N, T>& position) {
    T along[N];
    gather(displacement_weight + image / geometry.channels * N * volume + place, volume, along);
    spread_second(linear_corners<N>(position, shape, geometry.extension),
                  gradient[image * volume + place], along,
                  [target = second_input + image * volume](const int64_t at, const T value) {
                    target[at] += value;
                  });
  };
  walk_images<N>(displacement, geometry, visit);
}

template <int N, class T>
void steer_seconds(const T* const input_weight, const T* const displacement_weight,
                   const T* const gradient, const T* const input, const T* const displacement,
                   T* const second_gradient, T* const second_displacement, const Geometry& geometry,
                   const T cval) {
  const Shape<N> shape = shape_of<N>(geometry.shape);
  const int64_t volume = volume_of(shape);
  parallel_voxels(
      geometry.batch, volume, [&](const int64_t entry, const int64_t begin, const int64_t end) {
        const auto visit = [&](const int64_t place, const Position<N, T>& position) {
          T along[N];
          gather(displacement_weight + entry * N * volume + place, volume, along);
          T sum[N] = {};
          Corners<N, T> corners{};
          int64_t nearest = outside;
          const bool number = is_number(position);
          if (number && geometry.linear) {
            corners = linear_corners<N>(position, shape, geometry.extension);
          } else if (number) {
            nearest = nearest_place<N>(position, shape, geometry.extension);
          }
          for (int64_t c = 0; c < geometry.channels; ++c) {
            const int64_t image = entry * geometry.channels + c;
            const T* const weights = input_weight + image * volume;
            const T* const values = input + entry * geometry.input_stride + c * volume;
            second_gradient[image * volume + place] =
                number && geometry.linear ? steer_second(corners, gradient[image * volume + place],
                                                         weights, along, values, cval, sum)
                                          : value_at(weights, nearest, T(0));
          }
          for (int axis = 0; axis < N; ++axis) {
            second_displacement[(entry * N + axis) * volume + place] = sum[axis];
          }
        };
        walk<N>(shape, displacement + entry * N * volume, begin, end, visit);
      });
}

}  // namespace

void run_backward(const uintptr_t gradient, const uintptr_t input, const uintptr_t displacement,
                  const uintptr_t input_gradient, const uintptr_t displacement_gradient,
                  const Dtype dtype, const Geometry& geometry, const double cval) {
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      using T = typename decltype(type)::type;
      const auto* const source = reinterpret_cast<const T*>(gradient);
      const auto* const field = reinterpret_cast<const T*>(displacement);
      spread_gradients<axes.value>(source, field, reinterpret_cast<T*>(input_gradient), geometry);
      steer_gradients<axes.value>(source, reinterpret_cast<const T*>(input), field,
                                  reinterpret_cast<T*>(displacement_gradient), geometry,
                                  static_cast<T>(cval));
    });
  });
}

void run_double_backward(const uintptr_t input_weight, const uintptr_t displacement_weight,
                         const uintptr_t gradient, const uintptr_t input,
                         const uintptr_t displacement, const uintptr_t second_gradient,
                         const uintptr_t second_input, const uintptr_t second_displacement,
                         const Dtype dtype, const Geometry& geometry, const double cval) {
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      using T = typename decltype(type)::type;
      const auto* const source = reinterpret_cast<const T*>(gradient);
      const auto* const field = reinterpret_cast<const T*>(displacement);
      const auto* const along = reinterpret_cast<const T*>(displacement_weight);
      if (geometry.linear) {
        spread_seconds<axes.value>(source, along, field, reinterpret_cast<T*>(second_input),
                                   geometry);
      }
      steer_seconds<axes.value>(
          reinterpret_cast<const T*>(input_weight), along, source,
          reinterpret_cast<const T*>(input), field, reinterpret_cast<T*>(second_gradient),
          reinterpret_cast<T*>(second_displacement), geometry, static_cast<T>(cval));
    });
  });
}

}  // namespace marginseg::warp
