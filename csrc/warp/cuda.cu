#include <type_traits>

#include "warp/cuda.cuh"
#include "warp/interpolation.h"
#include "warp/voxels.cuh"

namespace marginseg::warp {
namespace {

template <bool linear, int N, class Beyond, class V, class T>
__global__ __launch_bounds__(threads) void warp_voxels(const V* const input,
                                                       const T* const displacement, V* const output,
                                                       const Volumes<N, Beyond> volumes,
                                                       const V cval) {
  const Voxel<N, Beyond> voxel(volumes);
  if (!voxel.exists) return;
  Position<N, T, IndexFor<Beyond>> position;
  voxel.displace(displacement, volumes, position);
  const V* image = input + voxel.entry * volumes.input_stride;
  V* target = output + voxel.entry * volumes.output_stride + voxel.place;
#pragma unroll 1
  for (IndexFor<Beyond> c = 0; c < volumes.channels; ++c) {
    *target = warped_value<N>(image, position, volumes.shape, volumes.beyond, linear, cval);
    image += volumes.volume;
    target += volumes.volume;
  }
}

template <int N, class V, class T>
void launch_warp(const Context& context, const uintptr_t input, const uintptr_t displacement,
                 const uintptr_t output, const Geometry& geometry, const V cval) {
  dispatch_volumes<N>(geometry, [&](const auto& volumes) {
    using Beyond = std::decay_t<decltype(volumes.beyond)>;
    const auto kernel =
        geometry.linear ? warp_voxels<true, N, Beyond, V, T> : warp_voxels<false, N, Beyond, V, T>;
    context.launch(kernel, volumes.all_blocks(), threads, reinterpret_cast<const V*>(input),
                   reinterpret_cast<const T*>(displacement), reinterpret_cast<V*>(output), volumes,
                   cval);
  });
}

}  // namespace

void run(const Context& context, const uintptr_t input, const uintptr_t displacement,
         const uintptr_t output, const Dtype dtype, const Geometry& geometry, const double cval) {
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      using T = typename decltype(type)::type;
      launch_warp<axes.value, T, T>(context, input, displacement, output, geometry,
                                    static_cast<T>(cval));
    });
  });
}

void run_label(const Context& context, const uintptr_t input, const uintptr_t displacement,
               const uintptr_t output, const Dtype label_dtype, const Dtype displacement_dtype,
               const Geometry& geometry, const int64_t cval) {
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_label(label_dtype, [&](const auto label_type) {
      dispatch_floating(displacement_dtype, [&](const auto type) {
        using L = typename decltype(label_type)::type;
        using T = typename decltype(type)::type;
        launch_warp<axes.value, L, T>(context, input, displacement, output, geometry,
                                      static_cast<L>(cval));
      });
    });
  });
}

}  // namespace marginseg::warp
