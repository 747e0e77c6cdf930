// Loops over the voxels of displaced volumes, shared out among threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/parallel.h"
#include "common/parts.h"
#include "warp/place.h"

namespace marginseg::warp {

// Calls visit(place, position) for the voxels [begin, end) of a volume.
template <int N, class T, class Visit>
void walk(const Shape<N>& shape, const T* const displacement, const int64_t begin,
          const int64_t end, const Visit& visit) {
  const int64_t volume = volume_of(shape);
  Position<N, T> position;
  auto& index = position.voxel;
  int64_t rest = begin;
  for (int axis = N - 1; axis >= 0; --axis) {
    index[axis] = rest % shape.size[axis];
    rest /= shape.size[axis];
  }
  for (int64_t place = begin; place < end; ++place) {
    for (int axis = 0; axis < N; ++axis) position.moved[axis] = displacement[axis * volume + place];
    visit(place, position);
    for (int axis = N - 1; axis >= 0 && ++index[axis] == shape.size[axis]; --axis) index[axis] = 0;
  }
}

constexpr int64_t voxels_per_task = 4096;

// The least number of blocks that are worth another thread: of small volumes, which are a block
// each, as many as have voxels_per_task voxels together.
inline int64_t grain_of(const int64_t volume) {
  return std::max<int64_t>(1, voxels_per_task / std::max<int64_t>(1, volume));
}

// Calls task(batch entry, begin, end) on ranges of voxels that together cover all entries.
template <class Task>
void parallel_voxels(const int64_t batch, const int64_t volume, const Task& task) {
  const int64_t blocks = parts(volume, voxels_per_task);
  parallel_for(batch * blocks, grain_of(volume), [&](const int64_t first, const int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t begin = item % blocks * voxels_per_task;
      task(item / blocks, begin, std::min(volume, begin + voxels_per_task));
    }
  });
}

}  // namespace marginseg::warp
