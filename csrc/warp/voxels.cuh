// Kernels with a thread for each voxel of each displaced volume.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/block.cuh"
#include "warp/geometry.h"
#include "warp/place.h"

namespace marginseg::warp {

// A Geometry as kernels take it. Each entry of the batch has blocks of its own.
template <int N>
struct Volumes {
  Shape<N> shape;
  int64_t volume;
  int64_t blocks;  // of one entry
  int64_t batch;
  int64_t channels;
  int64_t input_stride;
  Extension extension;
  bool linear;

  explicit Volumes(const Geometry& geometry)
      : shape(shape_of<N>(geometry)),
        volume(volume_of(shape)),
        blocks(blocks_for(volume)),
        batch(geometry.batch),
        channels(geometry.channels),
        input_stride(geometry.input_stride),
        extension(geometry.extension),
        linear(geometry.linear) {}

  int64_t all_blocks() const { return batch * blocks; }
  int64_t images() const { return batch * channels; }
};

// The voxel of a thread, if there is one.
template <int N>
struct Voxel {
  int64_t entry;
  int64_t place;
  bool exists;

  __device__ explicit Voxel(const Volumes<N>& volumes)
      : entry(blockIdx.x / volumes.blocks),
        place(blockIdx.x % volumes.blocks * threads + threadIdx.x),
        exists(place < volumes.volume) {}

  // w + X(w), the components of X `volume` apart.
  template <class T>
  __device__ void displace(const T* const displacement, const Volumes<N>& volumes,
                           T (&position)[N]) const {
    int64_t index[N];
    // Divisions of 32 bits take much less than those of 64.
    if (volumes.volume <= INT32_MAX) {
      decompose(static_cast<uint32_t>(place), volumes.shape, index);
    } else {
      decompose(static_cast<uint64_t>(place), volumes.shape, index);
    }
    const T* const field = displacement + entry * N * volumes.volume + place;
#pragma unroll
    for (int axis = 0; axis < N; ++axis) {
      position[axis] = static_cast<T>(index[axis]) + __ldg(field + axis * volumes.volume);
    }
  }

 private:
  template <class Integer>
  __device__ static void decompose(Integer rest, const Shape<N>& shape, int64_t (&index)[N]) {
#pragma unroll
    for (int axis = N - 1; axis > 0; --axis) {
      const auto size = static_cast<Integer>(shape.size[axis]);
      index[axis] = rest % size;
      rest /= size;
    }
    index[0] = rest;
  }
};

}  // namespace marginseg::warp
