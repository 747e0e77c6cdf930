#include "warp/cuda.h"
#include "warp/voxels.h"

namespace marginseg {
namespace {

using namespace warping;

template <int N, class V, class T>
__global__ __launch_bounds__(threads, 3) void warp_voxels(const V* const input,
                                                          const T* const displacement,
                                                          V* const output, const Volumes<N> volumes,
                                                          const V cval) {
  const Voxel<N> voxel(volumes);
  if (!voxel.exists) return;
  T position[N];
  voxel.displace(displacement, volumes, position);
  const V* const images = input + voxel.entry * volumes.input_stride;
  V* const target = output + voxel.entry * volumes.channels * volumes.volume + voxel.place;
#pragma unroll 1
  for (int64_t c = 0; c < volumes.channels; ++c) {
    target[c * volumes.volume] =
        warped_value<N>(images + c * volumes.volume, position, volumes.shape, volumes.extension,
                        volumes.linear, cval);
  }
}

template <int N, class V, class T>
void run(const Context& context, const uintptr_t input, const uintptr_t displacement,
         const uintptr_t output, const WarpGeometry& geometry, const V cval) {
  const Volumes<N> volumes(geometry);
  context.launch(warp_voxels<N, V, T>, volumes.all_blocks(), threads,
                 reinterpret_cast<const V*>(input), reinterpret_cast<const T*>(displacement),
                 reinterpret_cast<V*>(output), volumes, cval);
}

}  // namespace

void warp(const Context& context, const uintptr_t input, const uintptr_t displacement,
          const uintptr_t output, const Dtype dtype, const WarpGeometry& geometry,
          const double cval) {
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      using T = typename decltype(type)::type;
      run<axes.value, T, T>(context, input, displacement, output, geometry, static_cast<T>(cval));
    });
  });
}

void warp_label(const Context& context, const uintptr_t input, const uintptr_t displacement,
                const uintptr_t output, const Dtype label_dtype, const Dtype displacement_dtype,
                const WarpGeometry& geometry, const int64_t cval) {
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_label(label_dtype, [&](const auto label_type) {
      dispatch_floating(displacement_dtype, [&](const auto type) {
        using L = typename decltype(label_type)::type;
        using T = typename decltype(type)::type;
        run<axes.value, L, T>(context, input, displacement, output, geometry, static_cast<L>(cval));
      });
    });
  });
}

}  // namespace marginseg
