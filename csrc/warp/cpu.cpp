#include "warp/cpu.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "common/parallel.h"
#include "warp/body.h"

namespace marginseg {
namespace {

using namespace warping;

template <int N>
Shape<N> shape_of(const WarpGeometry& geometry) {
  Shape<N> shape;
  std::copy(geometry.shape.begin(), geometry.shape.end(), shape.size);
  return shape;
}

template <int N>
int64_t volume_of(const Shape<N>& shape) {
  int64_t volume = 1;
  for (const int64_t size : shape.size) volume *= size;
  return volume;
}

template <class Function>
void dispatch_axes(const WarpGeometry& geometry, const Function& function) {
  switch (geometry.shape.size()) {
    case 1:
      return function(std::integral_constant<int, 1>{});
    case 2:
      return function(std::integral_constant<int, 2>{});
    case 3:
      return function(std::integral_constant<int, 3>{});
    default:
      throw std::invalid_argument("expected 1 to 3 spatial axes");
  }
}

// Calls visit(place, position) for the voxels [begin, end) of a volume; position = w + X(w).
template <int N, class T, class Visit>
void walk(const Shape<N>& shape, const T* const displacement, const int64_t begin,
          const int64_t end, const Visit& visit) {
  const int64_t volume = volume_of(shape);
  int64_t index[N];
  int64_t rest = begin;
  for (int axis = N - 1; axis >= 0; --axis) {
    index[axis] = rest % shape.size[axis];
    rest /= shape.size[axis];
  }
  for (int64_t place = begin; place < end; ++place) {
    T position[N];
    for (int axis = 0; axis < N; ++axis) {
      position[axis] = static_cast<T>(index[axis]) + displacement[axis * volume + place];
    }
    visit(place, position);
    for (int axis = N - 1; axis >= 0 && ++index[axis] == shape.size[axis]; --axis) index[axis] = 0;
  }
}

constexpr int64_t voxels_per_task = 4096;

// Calls task(batch entry, begin, end) on ranges of voxels that cover all entries.
template <class Task>
void parallel_voxels(const int64_t batch, const int64_t volume, const Task& task) {
  const int64_t blocks = (volume + voxels_per_task - 1) / voxels_per_task;
  parallel_for(batch * blocks, 1, [&](const int64_t first, const int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t begin = item % blocks * voxels_per_task;
      task(item / blocks, begin, std::min(volume, begin + voxels_per_task));
    }
  });
}

template <int N, class T>
void run_warp(const T* const input, const T* const displacement, T* const output,
              const WarpGeometry& geometry, const T cval) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  parallel_voxels(
      geometry.batch, volume, [&](const int64_t entry, const int64_t begin, const int64_t end) {
        const T* const images = input + entry * geometry.input_stride;
        T* const warped = output + entry * geometry.channels * volume;
        const auto visit = [&](const int64_t place, const T(&position)[N]) {
          if (!is_number(position)) {
            for (int64_t c = 0; c < geometry.channels; ++c) {
              warped[c * volume + place] = std::numeric_limits<T>::quiet_NaN();
            }
          } else if (geometry.linear) {
            const auto corners = linear_corners<N>(position, shape, geometry.extension);
            for (int64_t c = 0; c < geometry.channels; ++c) {
              warped[c * volume + place] = interpolate<N>(images + c * volume, corners, cval);
            }
          } else {
            const int64_t source = nearest_place<N>(position, shape, geometry.extension);
            for (int64_t c = 0; c < geometry.channels; ++c) {
              warped[c * volume + place] = value_at<N>(images + c * volume, source, cval);
            }
          }
        };
        walk<N>(shape, displacement + entry * N * volume, begin, end, visit);
      });
}

template <int N, class L, class T>
void run_warp_label(const L* const input, const T* const displacement, L* const output,
                    const WarpGeometry& geometry, const L cval) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  parallel_voxels(
      geometry.batch, volume, [&](const int64_t entry, const int64_t begin, const int64_t end) {
        const L* const images = input + entry * geometry.input_stride;
        L* const warped = output + entry * geometry.channels * volume;
        const auto visit = [&](const int64_t place, const T(&position)[N]) {
          if (geometry.linear && is_number(position)) {
            const auto corners = linear_corners<N>(position, shape, geometry.extension);
            for (int64_t c = 0; c < geometry.channels; ++c) {
              warped[c * volume + place] = heaviest_label<N>(images + c * volume, corners, cval);
            }
          } else {
            const int64_t source = is_number(position)
                                       ? nearest_place<N>(position, shape, geometry.extension)
                                       : outside;
            for (int64_t c = 0; c < geometry.channels; ++c) {
              warped[c * volume + place] = value_at<N>(images + c * volume, source, cval);
            }
          }
        };
        walk<N>(shape, displacement + entry * N * volume, begin, end, visit);
      });
}

// Calls visit(image, place, position) for every voxel of every image (entry * channels + channel).
// Two voxels may be read from one place, so a scatter into an image is serial: one thread takes
// all of it, in the order of the voxels, and sums are the same bits for any number of threads.
template <int N, class T, class Visit>
void walk_images(const T* const displacement, const WarpGeometry& geometry, const Visit& visit) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  parallel_for(geometry.batch * geometry.channels, 1, [&](const int64_t first, const int64_t last) {
    for (int64_t image = first; image < last; ++image) {
      const T* const field = displacement + image / geometry.channels * N * volume;
      walk<N>(shape, field, 0, volume, [&](const int64_t place, const T(&position)[N]) {
        if (is_number(position)) visit(image, place, position);
      });
    }
  });
}

template <int N, class T>
void spread_gradient(const T* const gradient, const T* const displacement, T* const input_gradient,
                     const WarpGeometry& geometry) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  const auto visit = [&](const int64_t image, const int64_t place, const T(&position)[N]) {
    const T source = gradient[image * volume + place];
    T* const target = input_gradient + image * volume;
    if (geometry.linear) {
      const auto corners = linear_corners<N>(position, shape, geometry.extension);
      for (int corner = 0; corner < corners.count; ++corner) {
        if (corners.place[corner] == outside) continue;
        target[corners.place[corner]] += corners.weight[corner] * source;
      }
    } else {
      const int64_t nearest = nearest_place<N>(position, shape, geometry.extension);
      if (nearest != outside) target[nearest] += source;
    }
  };
  walk_images<N>(displacement, geometry, visit);
}

template <int N, class T>
void steer_gradient(const T* const gradient, const T* const input, const T* const displacement,
                    T* const displacement_gradient, const WarpGeometry& geometry, const T cval) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  parallel_voxels(
      geometry.batch, volume, [&](const int64_t entry, const int64_t begin, const int64_t end) {
        const T* const images = input + entry * geometry.input_stride;
        const T* const source = gradient + entry * geometry.channels * volume;
        T* const target = displacement_gradient + entry * N * volume;
        const auto visit = [&](const int64_t place, const T(&position)[N]) {
          T sum[N] = {};
          if (geometry.linear && is_number(position)) {
            const auto corners = linear_corners<N>(position, shape, geometry.extension);
            for (int64_t c = 0; c < geometry.channels; ++c) {
              for (int axis = 0; axis < N; ++axis) {
                sum[axis] += source[c * volume + place] *
                             derivative<N>(images + c * volume, corners, cval, 1 << axis);
              }
            }
          }
          for (int axis = 0; axis < N; ++axis) target[axis * volume + place] = sum[axis];
        };
        walk<N>(shape, displacement + entry * N * volume, begin, end, visit);
      });
}

// Second derivatives. With g the gradient, I the input, w_k the weight of corner k, d_i the
// derivative along axis i, and A, B the weights given to the two results of warp_backward, it is
//   S = sum_v g(v) [ sum_k w_k A[k] + sum_i B_i(v) sum_k d_i w_k I[k] ]
// that is differentiated, summed over the channels too. Outside, A is 0 and I is cval.

// dS/dI[k] = sum_v g(v) sum_i B_i(v) d_i w_k.
template <int N, class T>
void spread_second(const T* const gradient, const T* const displacement_weight,
                   const T* const displacement, T* const second_input,
                   const WarpGeometry& geometry) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  const auto visit = [&](const int64_t image, const int64_t place, const T(&position)[N]) {
    const T source = gradient[image * volume + place];
    const T* const along = displacement_weight + image / geometry.channels * N * volume + place;
    T* const target = second_input + image * volume;
    const auto corners = linear_corners<N>(position, shape, geometry.extension);
    for (int corner = 0; corner < corners.count; ++corner) {
      if (corners.place[corner] == outside) continue;
      T weight = 0;
      for (int axis = 0; axis < N; ++axis) {
        weight += along[axis * volume] * weight_derivative<N>(corners, corner, 1 << axis);
      }
      target[corners.place[corner]] += weight * source;
    }
  };
  walk_images<N>(displacement, geometry, visit);
}

// dS/dg = sum_k w_k A[k] + sum_i B_i sum_k d_i w_k I[k], and
// dS/dX_j = sum_channels g [ sum_k d_j w_k A[k] + sum_{i != j} B_i sum_k d_i d_j w_k I[k] ].
template <int N, class T>
void steer_second(const T* const input_weight, const T* const displacement_weight,
                  const T* const gradient, const T* const input, const T* const displacement,
                  T* const second_gradient, T* const second_displacement,
                  const WarpGeometry& geometry, const T cval) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  parallel_voxels(
      geometry.batch, volume, [&](const int64_t entry, const int64_t begin, const int64_t end) {
        const auto visit = [&](const int64_t place, const T(&position)[N]) {
          const T* const along = displacement_weight + entry * N * volume + place;
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
            T response = 0;
            if (number && geometry.linear) {
              const T source = gradient[image * volume + place];
              response = interpolate<N>(weights, corners, T(0));
              for (int j = 0; j < N; ++j) {
                T slope = derivative<N>(weights, corners, T(0), 1 << j);
                for (int i = 0; i < N; ++i) {
                  if (i == j) continue;
                  slope +=
                      along[i * volume] * derivative<N>(values, corners, cval, (1 << i) | (1 << j));
                }
                sum[j] += source * slope;
                response += along[j * volume] * derivative<N>(values, corners, cval, 1 << j);
              }
            } else {
              response = value_at<N>(weights, nearest, T(0));
            }
            second_gradient[image * volume + place] = response;
          }
          for (int axis = 0; axis < N; ++axis) {
            second_displacement[(entry * N + axis) * volume + place] = sum[axis];
          }
        };
        walk<N>(shape, displacement + entry * N * volume, begin, end, visit);
      });
}

}  // namespace

void warp(const uintptr_t input, const uintptr_t displacement, const uintptr_t output,
          const Dtype dtype, const WarpGeometry& geometry, const double cval) {
  dispatch_axes(geometry, [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      using T = typename decltype(type)::type;
      run_warp<axes.value>(reinterpret_cast<const T*>(input),
                           reinterpret_cast<const T*>(displacement), reinterpret_cast<T*>(output),
                           geometry, static_cast<T>(cval));
    });
  });
}

void warp_label(const uintptr_t input, const uintptr_t displacement, const uintptr_t output,
                const Dtype label_dtype, const Dtype displacement_dtype,
                const WarpGeometry& geometry, const int64_t cval) {
  dispatch_axes(geometry, [&](const auto axes) {
    dispatch_label(label_dtype, [&](const auto label_type) {
      dispatch_floating(displacement_dtype, [&](const auto type) {
        using L = typename decltype(label_type)::type;
        using T = typename decltype(type)::type;
        run_warp_label<axes.value>(reinterpret_cast<const L*>(input),
                                   reinterpret_cast<const T*>(displacement),
                                   reinterpret_cast<L*>(output), geometry, static_cast<L>(cval));
      });
    });
  });
}

void warp_backward(const uintptr_t gradient, const uintptr_t input, const uintptr_t displacement,
                   const uintptr_t input_gradient, const uintptr_t displacement_gradient,
                   const Dtype dtype, const WarpGeometry& geometry, const double cval) {
  dispatch_axes(geometry, [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      using T = typename decltype(type)::type;
      const auto* const source = reinterpret_cast<const T*>(gradient);
      const auto* const field = reinterpret_cast<const T*>(displacement);
      spread_gradient<axes.value>(source, field, reinterpret_cast<T*>(input_gradient), geometry);
      steer_gradient<axes.value>(source, reinterpret_cast<const T*>(input), field,
                                 reinterpret_cast<T*>(displacement_gradient), geometry,
                                 static_cast<T>(cval));
    });
  });
}

void warp_double_backward(const uintptr_t input_weight, const uintptr_t displacement_weight,
                          const uintptr_t gradient, const uintptr_t input,
                          const uintptr_t displacement, const uintptr_t second_gradient,
                          const uintptr_t second_input, const uintptr_t second_displacement,
                          const Dtype dtype, const WarpGeometry& geometry, const double cval) {
  dispatch_axes(geometry, [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      using T = typename decltype(type)::type;
      const auto* const source = reinterpret_cast<const T*>(gradient);
      const auto* const field = reinterpret_cast<const T*>(displacement);
      const auto* const along = reinterpret_cast<const T*>(displacement_weight);
      if (geometry.linear) {
        spread_second<axes.value>(source, along, field, reinterpret_cast<T*>(second_input),
                                  geometry);
      }
      steer_second<axes.value>(
          reinterpret_cast<const T*>(input_weight), along, source,
          reinterpret_cast<const T*>(input), field, reinterpret_cast<T*>(second_gradient),
          reinterpret_cast<T*>(second_displacement), geometry, static_cast<T>(cval));
    });
  });
}

}  // namespace marginseg
