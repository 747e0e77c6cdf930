#include "warp/cpu.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "common/dispatch.h"
#include "common/huge_pages.h"
#include "common/parallel.h"
#include "warp/body.h"
#include "warp/simd.h"

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

// The same for the voxels first + offsets[0 .. count).
template <int N, class T, class Visit>
void walk_some(const Shape<N>& shape, const T* const displacement, const int64_t first,
               const int64_t* const offsets, const int64_t count, const Visit& visit) {
  for (int64_t i = 0; i < count; ++i) {
    walk<N>(shape, displacement, first + offsets[i], first + offsets[i] + 1, visit);
  }
}

constexpr int64_t voxels_per_task = 4096;

// Of blocks of at most voxels_per_task: small volumes are not worth another thread.
int64_t grain_of(const int64_t volume) {
  return std::max<int64_t>(1, voxels_per_task / std::max<int64_t>(1, volume));
}

// Calls task(batch entry, begin, end) on ranges of voxels that cover all entries.
template <class Task>
void parallel_voxels(const int64_t batch, const int64_t volume, const Task& task) {
  const int64_t blocks = (volume + voxels_per_task - 1) / voxels_per_task;
  parallel_for(batch * blocks, grain_of(volume), [&](const int64_t first, const int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t begin = item % blocks * voxels_per_task;
      task(item / blocks, begin, std::min(volume, begin + voxels_per_task));
    }
  });
}

// The rows of a volume as the vector kernels see them: of three axes, the first of size 1 where
// there are fewer.
template <int N>
class Rows {
 public:
  Rows(const Shape<N>& shape, const float* const displacement)
      : displacement_(displacement), length_(shape.size[N - 1]), still_(N < 3 ? length_ : 0) {
    for (int axis = 0; axis < 3; ++axis) {
      volume_.size[axis] = axis < 3 - N ? 1 : static_cast<int32_t>(shape.size[axis - (3 - N)]);
    }
    size_ = volume_of(shape);
  }

  static bool fits(const Shape<N>& shape) { return volume_of(shape) < (int64_t{1} << 31); }

  const Volume& volume() const { return volume_; }
  int64_t length() const { return length_; }

  // Row `number` of all rows, counted along the first axes.
  Row operator[](const int64_t number) const {
    Row row{static_cast<int32_t>(number / volume_.size[1]),
            static_cast<int32_t>(number % volume_.size[1]),
            0,
            length_,
            {still_.data(), still_.data(), still_.data()}};
    for (int i = 0; i < N; ++i) {
      row.displacement[3 - N + i] = displacement_ + i * size_ + number * length_;
    }
    return row;
  }

 private:
  const float* displacement_;
  int64_t length_;
  std::vector<float> still_;  // the displacement along a missing axis
  Volume volume_;
  int64_t size_;
};

// Calls task(batch entry, first, last) on ranges of rows that cover all entries.
template <class Task>
void parallel_rows(const int64_t batch, const int64_t volume, const int64_t length,
                   const Task& task) {
  const int64_t rows = volume / length;
  const int64_t height = std::max<int64_t>(1, voxels_per_task / length);
  const int64_t blocks = (rows + height - 1) / height;
  parallel_for(batch * blocks, grain_of(volume), [&](const int64_t first, const int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t begin = item % blocks * height;
      task(item / blocks, begin, std::min(rows, begin + height));
    }
  });
}

// One image or label, warped voxel by voxel: what no vector kernel does.
template <int N, class V, class T>
V warped_value(const V* const image, const T (&position)[N], const Shape<N>& shape,
               const Extension extension, const bool linear, const V cval) {
  if (!is_number(position)) {
    if constexpr (std::is_floating_point_v<V>) return std::numeric_limits<V>::quiet_NaN();
    return cval;
  }
  if (!linear) return value_at<N>(image, nearest_place<N>(position, shape, extension), cval);
  const auto corners = linear_corners<N>(position, shape, extension);
  if constexpr (std::is_floating_point_v<V>) {
    return interpolate<N>(image, corners, cval);
  } else {
    return heaviest_label<N>(image, corners, cval);
  }
}

template <int N, class V, class T>
void warp_voxels(const V* const input, const T* const displacement, V* const output,
                 const WarpGeometry& geometry, const V cval) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  parallel_voxels(
      geometry.batch, volume, [&](const int64_t entry, const int64_t begin, const int64_t end) {
        const V* const images = input + entry * geometry.input_stride;
        V* const warped = output + entry * geometry.channels * volume;
        const auto visit = [&](const int64_t place, const T(&position)[N]) {
          for (int64_t c = 0; c < geometry.channels; ++c) {
            warped[c * volume + place] = warped_value<N>(images + c * volume, position, shape,
                                                         geometry.extension, geometry.linear, cval);
          }
        };
        walk<N>(shape, displacement + entry * N * volume, begin, end, visit);
      });
}

// The same for float positions, a row at a time; voxels that see beyond the ends come one by one.
template <int N, class V>
void warp_rows(const V* const input, const float* const displacement, V* const output,
               const WarpGeometry& geometry, const V cval) {
  const Shape<N> shape = shape_of<N>(geometry);
  const int64_t volume = volume_of(shape);
  const Kernels& kernels = kernels_in_use<Simd>();
  const auto task = [&](const int64_t entry, const int64_t first, const int64_t last) {
    const float* const field = displacement + entry * N * volume;
    const Rows<N> rows(shape, field);
    std::vector<int32_t> places(rows.length());
    std::vector<int64_t> left(rows.length());
    for (int64_t number = first; number < last; ++number) {
      const Row row = rows[number];
      if (!geometry.linear) kernels.nearest(rows.volume(), row, places.data());
      for (int64_t c = 0; c < geometry.channels; ++c) {
        const V* const image = input + entry * geometry.input_stride + c * volume;
        V* const target = output + (entry * geometry.channels + c) * volume;
        V* const target_row = target + number * rows.length();
        int64_t count = 0;
        if constexpr (std::is_same_v<V, float>) {
          if (geometry.linear) {
            count = kernels.linear(image, rows.volume(), row, target_row, left.data());
          }
        }
        if (!geometry.linear) {
          for (int64_t x = 0; x < rows.length(); ++x) {
            target_row[x] = image[std::max(places[x], 0)];
            left[count] = x;
            count += places[x] < 0 ? 1 : 0;
          }
        }
        walk_some<N>(shape, field, number * rows.length(), left.data(), count,
                     [&](const int64_t place, const float (&position)[N]) {
                       target[place] = warped_value<N>(image, position, shape, geometry.extension,
                                                       geometry.linear, cval);
                     });
      }
    }
  };
  parallel_rows(geometry.batch, volume, shape.size[N - 1], task);
}

// In shorter ones a vector does not pay.
constexpr int64_t shortest_row = 16;

template <int N, class V, class T>
void run_warp(const V* const input, const T* const displacement, V* const output,
              const WarpGeometry& geometry, const V cval) {
  const int64_t count = geometry.batch * geometry.channels * volume_of(shape_of<N>(geometry));
  prefer_huge_pages(output, count * sizeof(V));
  if constexpr (std::is_same_v<T, float>) {
    const bool vectors =
        (!geometry.linear || std::is_same_v<V, float>) && geometry.shape.back() >= shortest_row;
    if (vectors && Rows<N>::fits(shape_of<N>(geometry))) {
      warp_rows<N>(input, displacement, output, geometry, cval);
      return;
    }
  }
  warp_voxels<N>(input, displacement, output, geometry, cval);
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
        run_warp<axes.value>(reinterpret_cast<const L*>(input),
                             reinterpret_cast<const T*>(displacement), reinterpret_cast<L*>(output),
                             geometry, static_cast<L>(cval));
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
