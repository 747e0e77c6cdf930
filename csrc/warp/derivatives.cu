#include <type_traits>

#include "warp/cuda.cuh"
#include "warp/gradient.h"
#include "warp/scatter.cuh"
#include "warp/voxels.cuh"

namespace marginseg::warp {
namespace {

template <int N, class Beyond, class T, class Sums>
__global__ __launch_bounds__(threads,
                             1) void differentiate(const T* const gradient, const T* const input,
                                                   const T* const displacement, const Sums sums,
                                                   T* const displacement_gradient,
                                                   const Volumes<N, Beyond> volumes, const T cval) {
  const Voxel<N, Beyond> voxel(volumes);
  if (!voxel.exists) return;
  Position<N, T, IndexFor<Beyond>> position;
  voxel.displace(displacement, volumes, position);
  T sum[N] = {};
  if (is_number(position)) {
    const T* const images = input + voxel.entry * volumes.input_stride;
    if (volumes.linear) {
      const auto corners = linear_corners<N>(position, volumes.shape, volumes.beyond);
#pragma unroll 1
      for (int64_t c = 0; c < volumes.channels; ++c) {
        const int64_t image = static_cast<int64_t>(voxel.entry) * volumes.channels + c;
        const T source = gradient[image * volumes.volume + voxel.place];
        spread_gradient(corners, source, sums.of(image));
        steer_gradient(corners, source, images + c * volumes.volume, cval, sum);
      }
    } else {
      const auto nearest = nearest_place<N>(position, volumes.shape, volumes.beyond);
      for (int64_t c = 0; nearest != outside && c < volumes.channels; ++c) {
        const int64_t image = static_cast<int64_t>(voxel.entry) * volumes.channels + c;
        sums.of(image)(nearest, gradient[image * volumes.volume + voxel.place]);
      }
    }
  }
  T* const target = displacement_gradient + voxel.entry * volumes.field_stride + voxel.place;
#pragma unroll
  for (int axis = 0; axis < N; ++axis) target[axis * volumes.volume] = sum[axis];
}

// The arrays that the second derivatives read.
template <class T>
struct Given {
  const T* input_weight;
  const T* displacement_weight;
  const T* gradient;
  const T* input;
  const T* displacement;
};

template <int N, class Beyond, class T, class Sums>
__global__ __launch_bounds__(threads, 1) void differentiate_twice(
    const Given<T> given, T* const second_gradient, const Sums sums, T* const second_displacement,
    const Volumes<N, Beyond> volumes, const T cval) {
  const Voxel<N, Beyond> voxel(volumes);
  if (!voxel.exists) return;
  Position<N, T, IndexFor<Beyond>> position;
  voxel.displace(given.displacement, volumes, position);
  const int64_t across = voxel.entry * volumes.field_stride + voxel.place;
  T along[N];
#pragma unroll
  for (int axis = 0; axis < N; ++axis) {
    along[axis] = given.displacement_weight[across + axis * volumes.volume];
  }
  T sum[N] = {};
  const bool number = is_number(position);
  if (number && volumes.linear) {
    const auto corners = linear_corners<N>(position, volumes.shape, volumes.beyond);
#pragma unroll 1
    for (int64_t c = 0; c < volumes.channels; ++c) {
      const int64_t image = static_cast<int64_t>(voxel.entry) * volumes.channels + c;
      const int64_t place = image * volumes.volume + voxel.place;
      const T source = given.gradient[place];
      spread_second(corners, source, along, sums.of(image));
      second_gradient[place] = steer_second(
          corners, source, given.input_weight + image * volumes.volume, along,
          given.input + voxel.entry * volumes.input_stride + c * volumes.volume, cval, sum);
    }
  } else {
    const int64_t nearest =
        number ? nearest_place<N>(position, volumes.shape, volumes.beyond) : outside;
    for (int64_t c = 0; c < volumes.channels; ++c) {
      const int64_t image = static_cast<int64_t>(voxel.entry) * volumes.channels + c;
      second_gradient[image * volumes.volume + voxel.place] =
          value_at(given.input_weight + image * volumes.volume, nearest, T(0));
    }
  }
#pragma unroll
  for (int axis = 0; axis < N; ++axis) {
    second_displacement[across + axis * volumes.volume] = sum[axis];
  }
}

// Calls launch(sums) with the kind of sums that the context asks for, and leaves them in `target`.
template <int N, class Beyond, class T, class Launch>
void sum_into(const Context& context, T* const target, const Volumes<N, Beyond>& volumes,
              const T* const gradient, const T* const displacement_weight, const Launch& launch) {
  if (!context.deterministic()) {
    launch(AtomicSums<T>{target, volumes.volume});
    return;
  }
  const int64_t count = volumes.images() * volumes.volume;
  const FixedPointSums<T> sums{context.allocate<unsigned long long>(count),
                               context.allocate<double>(volumes.images()), volumes.volume};
  context.set_zero(sums.values, count);
  context.launch(bound_sums<T>, volumes.images(), bound_threads, gradient, displacement_weight, N,
                 volumes.channels, volumes.volume, sums.scale);
  launch(sums);
  context.launch(finish_sums<T>, blocks_for(count), threads, sums, count, target);
}

}  // namespace

void run_backward(const Context& context, const uintptr_t gradient, const uintptr_t input,
                  const uintptr_t displacement, const uintptr_t input_gradient,
                  const uintptr_t displacement_gradient, const Dtype dtype,
                  const Geometry& geometry, const double cval) {
  const auto launch = [&](const auto axes, const auto type, const auto& volumes) {
    using T = typename decltype(type)::type;
    using Beyond = std::decay_t<decltype(volumes.beyond)>;
    const auto* const source = reinterpret_cast<const T*>(gradient);
    const auto differentiated = [&](const auto& sums) {
      using Sums = std::decay_t<decltype(sums)>;
      context.launch(differentiate<axes.value, Beyond, T, Sums>, volumes.all_blocks(), threads,
                     source, reinterpret_cast<const T*>(input),
                     reinterpret_cast<const T*>(displacement), sums,
                     reinterpret_cast<T*>(displacement_gradient), volumes, static_cast<T>(cval));
    };
    sum_into(context, reinterpret_cast<T*>(input_gradient), volumes, source,
             static_cast<const T*>(nullptr), differentiated);
  };
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      dispatch_volumes<axes.value>(geometry,
                                   [&](const auto& volumes) { launch(axes, type, volumes); });
    });
  });
}

void run_double_backward(const Context& context, const uintptr_t input_weight,
                         const uintptr_t displacement_weight, const uintptr_t gradient,
                         const uintptr_t input, const uintptr_t displacement,
                         const uintptr_t second_gradient, const uintptr_t second_input,
                         const uintptr_t second_displacement, const Dtype dtype,
                         const Geometry& geometry, const double cval) {
  const auto launch = [&](const auto axes, const auto type, const auto& volumes) {
    using T = typename decltype(type)::type;
    using Beyond = std::decay_t<decltype(volumes.beyond)>;
    const Given<T> given{reinterpret_cast<const T*>(input_weight),
                         reinterpret_cast<const T*>(displacement_weight),
                         reinterpret_cast<const T*>(gradient), reinterpret_cast<const T*>(input),
                         reinterpret_cast<const T*>(displacement)};
    const auto differentiated = [&](const auto& sums) {
      using Sums = std::decay_t<decltype(sums)>;
      context.launch(differentiate_twice<axes.value, Beyond, T, Sums>, volumes.all_blocks(),
                     threads, given, reinterpret_cast<T*>(second_gradient), sums,
                     reinterpret_cast<T*>(second_displacement), volumes, static_cast<T>(cval));
    };
    sum_into(context, reinterpret_cast<T*>(second_input), volumes, given.gradient,
             given.displacement_weight, differentiated);
  };
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      dispatch_volumes<axes.value>(geometry,
                                   [&](const auto& volumes) { launch(axes, type, volumes); });
    });
  });
}

}  // namespace marginseg::warp
