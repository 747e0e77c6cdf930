// Kernels with a thread for each voxel of each displaced volume.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "common/cuda/divisor.cuh"
#include "warp/geometry.h"
#include "warp/place.h"

namespace marginseg::warp {

// A Geometry as kernels take it. Each entry of the batch has blocks of its own.
template <int N, class Beyond>
struct Volumes {
  using Index = IndexFor<Beyond>;

  Beyond beyond;
  Shape<N, Index> shape;
  Index volume;
  Divisor<int32_t> blocks;  // of one entry
  // Of the axes that a place is divided by: the last, and the middle one of three.
  Divisor<Index> last_size;
  Divisor<Index> middle_size;
  int64_t batch;
  Index channels;
  // Elements from one entry to the next, in the input, a displacement and an output.
  int64_t input_stride;
  int64_t field_stride;
  int64_t output_stride;
  bool linear;

  Volumes(const Geometry& geometry, const Beyond beyond)
      : beyond(beyond),
        shape(shape_of<N, Index>(geometry.shape)),
        volume(volume_of(shape)),
        blocks(blocks_for(volume)),
        last_size(shape.size[N - 1]),
        middle_size(shape.size[N == 3 ? 1 : 0]),
        batch(geometry.batch),
        channels(static_cast<Index>(geometry.channels)),
        input_stride(geometry.input_stride),
        field_stride(N * volume_of(shape_of<N>(geometry.shape))),
        output_stride(geometry.channels * volume_of(shape_of<N>(geometry.shape))),
        linear(geometry.linear) {}

  int64_t all_blocks() const { return batch * blocks_for(volume); }
  int64_t images() const { return batch * channels; }

  // The index of a voxel along each axis.
  __device__ void decompose(const Index place, Index (&index)[N]) const {
    Index rest = place;
    if constexpr (N > 1) {
      const Division<Index> rows = last_size.divide(rest);
      index[N - 1] = rows.remainder;
      rest = rows.quotient;
    }
    if constexpr (N > 2) {
      const Division<Index> planes = middle_size.divide(rest);
      index[1] = planes.remainder;
      rest = planes.quotient;
    }
    index[0] = rest;
  }
};

// The voxel of a thread, if there is one.
template <int N, class Beyond>
struct Voxel {
  using Index = IndexFor<Beyond>;

  uint32_t entry;
  Index place;
  bool exists;

  __device__ explicit Voxel(const Volumes<N, Beyond>& volumes) {
    const Division<int32_t> block = volumes.blocks.divide(static_cast<int32_t>(blockIdx.x));
    entry = static_cast<uint32_t>(block.quotient);
    place = static_cast<Index>(block.remainder) * threads + static_cast<Index>(threadIdx.x);
    exists = place < volumes.volume;
  }

  // w + X(w), the components of X `volume` apart.
  template <class T>
  __device__ void displace(const T* const displacement, const Volumes<N, Beyond>& volumes,
                           Position<N, T, Index>& position) const {
    volumes.decompose(place, position.voxel);
    const T* const field = displacement + entry * volumes.field_stride;
#pragma unroll
    for (int axis = 0; axis < N; ++axis) {
      position.moved[axis] = __ldg(field + (axis * volumes.volume + place));
    }
  }
};

// Calls function(volumes) with the Volumes that take the fewest instructions.
template <int N, class Function>
void dispatch_volumes(const Geometry& geometry, const Function& function) {
  if (!fits_int32(shape_of<N>(geometry.shape)) || geometry.channels > INT32_MAX) {
    function(Volumes<N, Extension>(geometry, geometry.extension));
  } else if (geometry.extension == Extension::constant) {
    function(Volumes<N, Constant>(geometry, {}));
  } else {
    function(Volumes<N, Continued>(geometry, {geometry.extension}));
  }
}

}  // namespace marginseg::warp
